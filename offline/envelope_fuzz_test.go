package offline

import (
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// drain takes everything from an offline and gives the credits back.
type drain struct{ up chan struct{} }

func (d drain) Up(*link.Stream)        { close(d.up) }
func (drain) Down(*link.Stream, error) {}
func (drain) Receive(s *link.Stream, batch []link.Envelope) {
	for i := range batch {
		s.Done(batch[i].Group, batch[i].Size())
	}
}

// gatewayStream is an offline's stream to a gateway that takes everything.
func gatewayStream(f *testing.F, id link.GatewayID) *link.Stream {
	h := newHarness(nil, 1, nil)
	d := drain{make(chan struct{})}
	info := link.Info{Role: link.RoleGateway, Node: id.Node, Incarnation: id.Incarnation, Shards: 1, Cluster: "c"}
	f.Cleanup(link.Connect(link.NewEndpoint(info, d, link.Options{}), h.o.ep))
	<-d.up
	for end := time.Now().Add(20 * time.Second); h.o.peers.gateway(id).stream.Load() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) { // its own end comes up on another goroutine, which tells nobody
			f.Fatal("the stream does not come up")
		}
	}
	return h.o.peers.gateway(id).stream.Load()
}

// FuzzEnvelope gives a leading group the envelopes of routers, gateways and other groups, one after the other with time in between. Whatever
// comes, the group goes on, its windows and its books stay sound, and what it would write to tables is what it has.
func FuzzEnvelope(f *testing.F) {
	gw := link.GatewayID{Node: 1, Incarnation: 9}
	for _, session := range sessions(gw) {
		var b []byte
		for i := range session {
			b = link.AppendEnvelope(b, &session[i])
		}
		f.Add(b)
	}
	stream := gatewayStream(f, gw)
	f.Fuzz(func(t *testing.T, b []byte) {
		h := newHarness(t, 1, nil)
		h.o.peers.gateway(gw).stream.Store(stream)
		m := h.m()
		for i := 0; i < mostEntries && len(b) > 0; i++ {
			var e link.Envelope
			var err error
			if b, err = link.DecodeEnvelope(b, &e); err != nil {
				break
			}
			if e.Kind == link.KindHello { // the process's own, with streams of its own
				continue
			}
			h.post(e)
			h.tick(50 * time.Millisecond)
		}
		h.tick(time.Second)
		for _, q := range m.queues {
			if a := q.att; a != nil && (len(a.sent) > m.cfg.WindowEntries || a.bytes > m.cfg.WindowBytes.Int() || a.cursor > q.next) {
				t.Errorf("%d in flight of %d bytes, cursor %d of [%d, %d)", len(a.sent), a.bytes, a.cursor, q.head, q.next)
			}
		}
		if diff := checkMemory(m.state); diff != "" {
			t.Error(diff)
		}
		before, batch := m.hash(), m.t.ahead()
		m.flush(batch)
		if err := batch.Commit(); err != nil {
			t.Fatal(err)
		}
		again := newState(mustNotFail, 4)
		if err := again.load(m.t); err != nil || again.hash() != before {
			t.Errorf("hash %x after a restart, want %x: %v", again.hash(), before, err)
		}
	})
}

// sessions are what a group hears while messages go through it.
func sessions(gw link.GatewayID) [][]link.Envelope {
	store := func(id, after uint64, devices ...stanza.Device) link.Envelope {
		s := stanza.MessageUp{ID: id, After: after, Account: 9, Version: 1, Body: body(devices...)}
		return link.Envelope{Kind: link.KindStore, Gateway: gw, Slot: 5, Gen: 6, Account: 7, Device: 1, ID: id, Charge: 100, Payload: s.Append(nil)}
	}
	about := func(k link.Kind, epoch link.Fence, id uint64) link.Envelope {
		return link.Envelope{Kind: k, Gateway: gw, Account: 9, Device: 1, Slot: 7, Gen: 1, Serial: 3, Epoch: epoch, ID: id}
	}
	ids := stanza.AppendPacked(nil, []uint64{1, 2})
	read := stanza.ReadUp{ID: 4, After: 3, Account: 9, Device: 1, IDs: ids}
	reading := link.Envelope{Kind: link.KindStore, Gateway: gw, Slot: 5, Gen: 6, Account: 7, Device: 1, ID: 4, Payload: read.Append(nil)}
	receipt := link.Envelope{Kind: link.KindReceipt, Account: 9, Device: 1, ID: 7, Payload: append([]byte{byte(stanza.TagDelivered)}, ids...)}
	stored := link.Envelope{Kind: link.KindReceiptStored, Account: 9, ID: 1, Payload: append([]byte{7, 1, byte(stanza.TagDelivered)}, ids...)}
	dropQueue := link.Envelope{Kind: link.KindDropQueue, Account: 9, Device: 1}
	one, two := link.MakeFence(1, 1), link.MakeFence(1, 2)
	return [][]link.Envelope{
		{store(1, 0, 1), store(2, 1, 1), about(link.KindAttach, 0, 0), store(3, 2, 1), about(link.KindDeliveryAck, one, 2), about(link.KindDeliveryAck, one, 3)},
		{about(link.KindAttach, 0, 0), store(1, 0, 1, 2), about(link.KindDeliveryAck, one, 1), about(link.KindExpect, one, 2), receipt, stored},
		{store(1, 0, 1), about(link.KindAttach, 0, 0), about(link.KindExpect, one, 1), about(link.KindGone, 0, 0), about(link.KindAttach, 0, 0),
			about(link.KindDeliveryAck, two, 1), about(link.KindDetach, 0, 0)},
		{store(1, 0, 1), store(3, 2, 1), store(1, 0, 1), store(2, 1, 2), store(3, 2, 1), reading, dropQueue, store(5, 4, 1)},
		{receipt, receipt, dropQueue, receipt, {Kind: link.KindAttachDone}, {Kind: link.KindNotLeader, ID: 4}},
	}
}
