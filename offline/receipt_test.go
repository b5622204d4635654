package offline

import (
	"errors"
	"slices"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// twoShards is a harness whose groups reach each other through a link of the daemon with itself, as in `up`.
func twoShards(t *testing.T, change func(*Config)) *harness {
	h := newHarness(t, 2, change)
	stop := link.Connect(h.o.ep, h.o.ep)
	t.Cleanup(stop)
	h.until("hello", func() bool {
		return h.o.peers.leader(stanza.QueueGroup(0)) != nil && h.o.peers.leader(stanza.QueueGroup(1)) != nil
	})
	return h
}

// receive stores messages of 7/1 (shard 1) for 10/1 (shard 0) and has them acked.
func (h *harness) receive(gw *peer, first, last uint64) {
	h.t.Helper()
	for id := first; id <= last; id++ {
		gw.store(7, 1, id, 0, 10, 1)
		gw.take(link.KindAck)
	}
	q := h.o.order[0].queue(keyOf(10, 1))
	h.o.order[0].raft0(h, ackTo(10, 1, q.next-1))
}

// raft0 commits a command that nobody waits for.
func (s *served) raft0(h *harness, c command) {
	for _, r := range h.rafts {
		if r.m == s.group {
			r.Propose(appendCommand(nil, &c), proposal{purpose: forConfirm})
			r.run()
		}
	}
}

// receiptIDs returns the ids in each receipt that waits for 7/1.
func (h *harness) receiptIDs() (all [][]uint64) {
	m := h.o.order[1].group
	q := m.queue(keyOf(7, 1))
	for seq := q.head; seq < q.next; seq++ {
		var r record
		if m.read(q, seq, &r) && r.kind == recordDelivered && r.from == 10 {
			all = append(all, packedIDs(r.body))
		}
	}
	return all
}

func TestReceiptBetweenShards(t *testing.T) {
	h := twoShards(t, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	h.receive(gw, 1, 3)
	h.until("confirmation", func() bool { return len(h.o.order[0].pending) == 0 })
	if got := h.receiptIDs(); len(got) != 1 || !slices.Equal(got[0], []uint64{1, 2, 3}) {
		t.Fatalf("receipts %v", got)
	}
	gw.attach(link.KindAttach, 7, 1, 3, 1)
	e := gw.take(link.KindDeliver)
	v, _, err := stanza.Decode(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	r, err := stanza.ParseReceiptDown(v)
	if err != nil || r.Tag != stanza.TagDelivered || r.From != 10 || !slices.Equal(packedIDs(r.IDs), []uint64{1, 2, 3}) {
		t.Errorf("%+v %v", r, err)
	}
	gw.answer(link.KindDeliveryAck, e, 1)
	q := h.o.order[1].queue(keyOf(7, 1))
	h.until("the receipt's ack", func() bool { return q.entries() == 0 })
	if len(h.o.order[1].pending) != 0 {
		t.Error("a receipt raised a receipt")
	}
}

// TestReceiptWaitsForLeader raises receipts while the sender's shard has no leader: they are tried with backoff, coalesced, and go at
// once when a leader says hello.
func TestReceiptWaitsForLeader(t *testing.T) {
	h := twoShards(t, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	there := h.o.order[1]
	there.Follow()
	h.receive(gw, 1, 1)
	h.until("not leader", func() bool { return h.o.peers.leader(there.id) == nil })
	h.receive(gw, 2, 100)
	p := h.o.order[0].pending[receiptKey{to: keyOf(7, 1), from: 10}]
	var tries []time.Duration
	start, last := h.now, p.send.due
	for h.now.Sub(start) < 130*time.Second {
		h.tick(time.Second)
		if p.send.due != last {
			last = p.send.due
			tries = append(tries, h.now.Sub(start))
		}
	}
	if n := len(tries); n < 6 || n > 8 {
		t.Errorf("tries at %v", tries)
	}
	there.Lead(2)
	h.until("confirmation", func() bool { return len(h.o.order[0].pending) == 0 })
	got := h.receiptIDs()
	var ids []uint64
	for _, r := range got {
		if len(r) > stanza.MaxPacked {
			t.Errorf("%d ids in one", len(r))
		}
		ids = append(ids, r...)
	}
	slices.Sort(ids)
	if len(ids) != 100 || len(slices.Compact(ids)) != 100 || len(got) > 4 {
		t.Errorf("%d ids in %d receipts", len(ids), len(got))
	}
}

// TestReceiptAgain loses a confirmation: the repeat is not stored twice.
func TestReceiptAgain(t *testing.T) {
	h := twoShards(t, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	h.rafts[1].hold = true
	h.receive(gw, 1, 2)
	h.until("the receipt's proposal", func() bool { return len(h.rafts[1].queue) >= 1 })
	h.tick(1100 * time.Millisecond)
	h.until("the repeat", func() bool { return len(h.rafts[1].queue) >= 2 })
	h.rafts[1].hold = false
	h.until("confirmation", func() bool { return len(h.o.order[0].pending) == 0 })
	if got := h.receiptIDs(); len(got) != 1 {
		t.Errorf("receipts %v", got)
	}
}

// TestReceiptOfUnknownOutcome: the sender's shard does not know whether it stored a receipt, so it does not confirm it.
func TestReceiptOfUnknownOutcome(t *testing.T) {
	for _, local := range []bool{false, true} {
		h := twoShards(t, nil)
		gw := h.peer(link.RoleGateway, 1, 0)
		there, to := h.rafts[1], stanza.Account(10)
		if local {
			to = 9
		}
		gw.store(7, 1, 1, 0, to, 1)
		gw.take(link.KindAck)
		here := h.o.groups[stanza.QueueGroup(int(to)%2)]
		c := ackTo(to, 1, here.queue(keyOf(to, 1)).next-1)
		for _, r := range h.rafts {
			if r.m == here.group {
				r.index++
				r.m.Apply(shard.Entry{Index: r.index, Stamp: r.Stamp(), Cmd: appendCommand(nil, &c)})
			}
		}
		there.hold = true
		h.until("the receipt's proposal", func() bool { return len(there.queue) == 1 })
		there.hold, there.outcome = false, shard.Unknown
		there.run()
		gw.fence() // nobody knows of a second copy either, which goes when a stream comes up
		if len(here.pending) != 1 {
			t.Fatalf("local %v: confirmed though nobody knows", local)
		}
		there.outcome = shard.Committed
		h.tick(1100 * time.Millisecond)
		h.until("confirmation", func() bool { return len(here.pending) == 0 })
		if q := h.o.order[1].queue(keyOf(7, 1)); q.entries() != 1 && q.entries() != 2 { // with that second copy: harmless
			t.Errorf("local %v: %d receipts", local, q.entries())
		}
	}
}

// TestReceiptConfirmed: only what is committed is confirmed.
func TestReceiptConfirmed(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0) // stands for the offline that asks
	gw.fence()
	var from *link.Stream
	for _, s := range h.o.peers.all() {
		from = s
	}
	p := proposal{purpose: forReceipt, from: from, account: 7, device: 1, id: 9, payload: append([]byte{byte(stanza.TagDelivered)}, 1)}
	for o, want := range map[shard.Outcome]int{shard.Unknown: 0, shard.Rejected: 0, shard.Committed: 1} {
		h.m().Done(p, o, result{})
		if n := gw.count(link.KindReceiptStored); n != want {
			t.Errorf("%v: %d confirmations", o, n)
		}
		if want > 0 {
			gw.take(link.KindReceiptStored)
		}
	}
}

// TestReceiptAfterLeadership: a new leader does not know what the last one sent, so it says that it may be a repeat.
func TestReceiptAfterLeadership(t *testing.T) {
	h := twoShards(t, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	h.rafts[1].hold = true
	h.receive(gw, 1, 2)
	h.until("the receipt's proposal", func() bool { return len(h.rafts[1].queue) >= 1 })
	h.o.order[0].Follow()
	h.o.order[0].Lead(2)
	h.until("the new leader's", func() bool { return len(h.rafts[1].queue) >= 2 })
	var first, second command
	queue := h.rafts[1].queue
	if err := errors.Join(decodeCommand(queue[0].cmd, &first), decodeCommand(queue[1].cmd, &second)); err != nil {
		t.Fatal(err)
	}
	if first.again == second.again {
		t.Fatalf("both say %v: one was sent by the first leader, one perhaps twice", first.again)
	}
	if first.again { // the two ends of a stream to oneself do not keep the order between them
		queue[0], queue[1] = queue[1], queue[0]
	}
	h.rafts[1].hold = false
	h.until("confirmation", func() bool { return len(h.o.order[0].pending) == 0 })
	if got := h.receiptIDs(); len(got) != 1 {
		t.Errorf("receipts %v", got)
	}
}

// TestReceiptForFullQueue: it is dropped, and confirmed, so that nobody tries for a week.
func TestReceiptForFullQueue(t *testing.T) {
	h := twoShards(t, func(c *Config) { c.QueueEntries = 1 })
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.store(10, 1, 1, 0, 7, 1)
	gw.take(link.KindAck)
	h.receive(gw, 1, 1)
	h.until("confirmation", func() bool { return len(h.o.order[0].pending) == 0 })
	if got := h.receiptIDs(); len(got) != 0 {
		t.Errorf("receipts %v", got)
	}
}

func TestReceiptExpires(t *testing.T) {
	h := twoShards(t, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	h.o.order[1].Follow()
	h.receive(gw, 1, 2)
	h.now = h.now.Add(7*day + time.Minute)
	h.tick(time.Second)
	if n := len(h.o.order[0].pending); n != 0 {
		t.Errorf("%d pending", n)
	}
}

// TestReadReceipt sends a read, which is numbered like a message of its stream, and raises nothing.
func TestReadReceipt(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 7, 1, 3, 1)
	s := stanza.ReadUp{ID: 4, Account: 7, Device: 1, IDs: stanza.AppendPacked(nil, []uint64{1, 2})}
	gw.storeStanza(9, 2, 4, 7, s.Append(nil))
	gw.take(link.KindAck)
	e := gw.take(link.KindDeliver)
	v, _, _ := stanza.Decode(e.Payload)
	r, err := stanza.ParseReceiptDown(v)
	if err != nil || r.Tag != stanza.TagRead || r.From != 9 || !slices.Equal(packedIDs(r.IDs), []uint64{1, 2}) {
		t.Errorf("%+v %v", r, err)
	}
	gw.answer(link.KindDeliveryAck, e, 1)
	q := h.m().queue(keyOf(7, 1))
	h.until("the ack", func() bool { return q.entries() == 0 })
	if len(h.m().pending) != 0 {
		t.Error("a read raised a receipt")
	}
	gw.store(9, 2, 4, 0, 7, 1)
	gw.take(link.KindAck) // its id is taken
	if q.entries() != 0 {
		t.Error("admitted twice")
	}
}

func TestTimers(t *testing.T) {
	var h timers[int]
	for _, at := range []int64{5, 3, 9, 1, 7, 3, 8} {
		h.arm(at, int(at))
	}
	var got []int
	for {
		v, ok := h.due(8)
		if !ok {
			break
		}
		got = append(got, v)
	}
	if !slices.Equal(got, []int{1, 3, 3, 5, 7, 8}) || len(h) != 1 {
		t.Error(got, len(h))
	}
}
