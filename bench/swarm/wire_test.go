package swarm

import (
	"bytes"
	"testing"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/testkit"
)

// TestSameWire lets sessions of the swarm and a device of gateway/client talk, both ways, through a real system: what each says the other
// understands, acks, and gives receipts for.
func TestSameWire(t *testing.T) {
	const letters = 40
	sys := testkit.Start(t, testkit.Inside, testkit.Settings{Gateway: lifted})
	e := newEngine(t, configOf(t, sys, 4))
	openAll(t, e, 4)
	roots, err := client.ReadRoots(sys.Root)
	if err != nil {
		t.Fatal(err)
	}
	ann, err := client.Open(waitFor(t), client.Options{Home: client.MemoryHome(), Address: sys.Server, Handle: "ann", Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer ann.Close()

	// To ann: payloads of the swarm are not text, and are numbered in order from each session.
	self := ann.Self()
	var list []Letter
	for k := range letters {
		list = append(list, Letter{From: k % 4, Account: uint64(self.Account), Device: uint32(self.Device), Number: uint32(k)})
	}
	tr, err := e.Send(waitFor(t), Letters{Run: 7, Size: 200, List: list})
	if err != nil || tr.Acked != letters || tr.Resent != 0 || len(tr.Refused) != 0 {
		t.Fatalf("to ann: %+v, %v", tr, err)
	}
	last := map[client.Account]uint64{}
	for got := 0; got < letters; {
		ev, err := ann.Receive(waitFor(t))
		if err != nil {
			t.Fatal(err)
		}
		m, ok := ev.(*client.Message)
		if !ok {
			continue
		}
		p, ours, whole := parsePayload(m.Payload)
		if m.Readable || !ours || !whole || p.run != 7 || p.kind != kindLetters || len(m.Payload) != 200 || m.ID <= last[m.From] {
			t.Fatalf("message %d of %d: %+v", m.ID, m.From, p)
		}
		last[m.From] = m.ID
		if err := m.Done(); err != nil {
			t.Fatal(err)
		}
		got++
	}

	fromAnn(t, e, ann, letters)
}

// fromAnn has a device of gateway/client send text and payloads, and checks that they arrive and that their receipts come back.
func fromAnn(t *testing.T, e *Engine, ann *client.Client, letters int) {
	if err := e.Expect(9, letters); err != nil {
		t.Fatal(err)
	}
	to, err := e.Addresses([]int{2})
	if err != nil {
		t.Fatal(err)
	}
	before := e.Counters().Arrived
	text, err := ann.Send(waitFor(t), "s-2", "hello") // looks the handle up
	if err != nil || uint64(text.To) != to[0].Account {
		t.Fatalf("session 2 is account %d, s-2 is %+v: %v", to[0].Account, text, err)
	}
	ids := map[uint64]bool{text.ID: true}
	for k := range letters {
		p := payload{kind: kindLetters, run: 9, number: uint64(k), time: time.Now().UnixNano()}
		s, err := ann.SendPayload(waitFor(t), client.Account(to[0].Account), appendPayload(nil, &p, 64))
		if err != nil {
			t.Fatal(err)
		}
		ids[s.ID] = true
	}
	for len(ids) > 0 { // what the swarm acks, the server says is delivered
		ev, err := ann.Receive(waitFor(t))
		if err != nil {
			t.Fatalf("%d receipts are missing: %v", len(ids), err)
		}
		if r, ok := ev.(*client.Receipt); ok {
			for _, id := range r.IDs {
				delete(ids, id)
			}
		}
	}
	a, err := e.Arrived()
	if err != nil || a.Count != letters || a.Doubled+a.Corrupt != 0 || !bytes.Equal(a.Set, bytes.Repeat([]byte{0xff}, letters/8)) {
		t.Errorf("from ann: %+v, %v", a, err)
	}
	if c := e.Counters(); c.Arrived-before < uint64(letters)+1 || c.Bound != 4 {
		t.Errorf("%+v", c)
	}
}
