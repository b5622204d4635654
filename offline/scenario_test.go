package offline

import (
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

func TestStoreDeliverAck(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	if e := gw.take(link.KindHello); e.Group != h.m().id || e.Term != 1 {
		t.Fatalf("%+v", e)
	}
	gw.attach(link.KindAttach, 9, 1, 7, 3)
	for id := uint64(1); id <= 3; id++ {
		gw.store(7, 1, id, id-1, 9, 1, 2)
		if e := gw.take(link.KindAck); e.ID != id || e.Slot != 5 || e.Gen != 6 || e.Charge != 100 {
			t.Fatalf("%+v", e)
		}
	}
	var last link.Envelope
	for id := uint64(1); id <= 3; id++ {
		e, got := gw.delivered()
		if got != id || e.ID != id || e.Slot != 7 || e.Epoch != link.MakeFence(1, 1) || e.Account != 9 || e.Device != 1 {
			t.Fatalf("%d in %+v", got, e)
		}
		last = e
	}
	gw.answer(link.KindDeliveryAck, last, 3)
	q := h.m().queue(keyOf(9, 1))
	h.until("the ack", func() bool { return q.head == q.next })
	if n := gw.count(link.KindDeliver); n != 0 {
		t.Errorf("%d more deliveries", n)
	}
	// The sender's device is in the same group: its receipt is there, coalesced, and nothing is pending.
	h.until("the receipt", func() bool { return len(h.m().pending) == 0 })
	var r record
	s := h.m().queue(keyOf(7, 1))
	if s.entries() != 1 || !h.m().read(s, s.head, &r) || r.kind != recordDelivered || len(r.body) != 3 {
		t.Errorf("receipt %+v of %d", r, s.entries())
	}
	// A duplicate is acked from what is applied.
	h.rafts[0].refuse = true
	gw.store(7, 1, 2, 0, 9, 1, 2)
	gw.take(link.KindAck)
}

func TestRefusals(t *testing.T) {
	h := newHarness(t, 2, func(c *Config) { c.QueueEntries = 2 })
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.store(7, 1, 5, 0, 10, 1)
	gw.take(link.KindAck)
	gw.store(7, 1, 9, 8, 10, 1)
	if r := gw.refused(); r.Reason != stanza.ReasonGap || r.Last != 5 || !r.HasLast {
		t.Errorf("%+v", r)
	}
	gw.store(7, 1, 6, 5, 10, 1, 3)
	gw.take(link.KindAck)
	gw.store(7, 1, 7, 6, 10, 1, 2, 3)
	if r := gw.refused(); r.Reason != stanza.ReasonQueueFull || string(r.Full) != "\x01" || r.RetryAfter != 30_000 {
		t.Errorf("%+v", r)
	}
	raft := h.rafts[0]
	raft.refuse = true
	gw.store(7, 1, 8, 0, 10, 2)
	if r := gw.refused(); r.Reason != stanza.ReasonBusy || r.RetryAfter != 1000 {
		t.Errorf("%+v", r)
	}
	raft.refuse, raft.outcome = false, shard.Unknown
	gw.store(7, 1, 8, 0, 10, 2)
	if r := gw.refused(); r.Reason != stanza.ReasonRetry {
		t.Errorf("%+v", r)
	}
	raft.outcome = shard.Rejected
	gw.store(7, 1, 8, 0, 10, 2)
	if r := gw.refused(); r.Reason != stanza.ReasonUnavailable {
		t.Errorf("%+v", r)
	}
	raft.outcome = shard.Committed
	own := stanza.MessageUp{ID: 8, Account: 10, Version: 1, Body: body(2)}
	for name, raw := range map[string][]byte{
		"another id":         own.Append(nil),
		"no device":          (&stanza.MessageUp{ID: 20, Account: 10, Version: 1}).Append(nil),
		"another shard":      (&stanza.MessageUp{ID: 20, Account: 11, Version: 1, Body: body(1)}).Append(nil),
		"devices descending": (&stanza.MessageUp{ID: 20, Account: 10, Version: 1, Body: body(2, 1)}).Append(nil),
		"garbage":            {1, 2, 3},
		"two stanzas":        own.Append(own.Append(nil)),
		"a delivered":        (&stanza.ReceiptDown{Tag: stanza.TagDelivered, From: 7, IDs: []byte{1}}).Append(nil),
	} {
		gw.storeStanza(7, 1, 20, 10, raw)
		if r := gw.refused(); r.Reason != stanza.ReasonForbidden {
			t.Errorf("%s: %+v", name, r)
		}
	}
	gw.storeStanza(10, 2, 8, 10, own.Append(nil))
	if r := gw.refused(); r.Reason != stanza.ReasonForbidden {
		t.Errorf("to itself: %+v", r)
	}
	large := stanza.MessageUp{ID: 8, Account: 10, Version: 1, Body: stanza.AppendCipher(nil, 2, make([]byte, stanza.MaxStanza-downOverhead+1))}
	gw.storeStanza(7, 1, 8, 10, large.Append(nil))
	if r := gw.refused(); r.Reason != stanza.ReasonTooLarge {
		t.Errorf("%+v", r)
	}
	if n := h.m().queue(keyOf(10, 2)).entries(); n != 0 {
		t.Errorf("%d entries after refusals", n)
	}
}

func TestFollowerSaysSo(t *testing.T) {
	h := newHarness(t, 1, nil)
	router := h.peer(link.RoleRouter, 2, 0)
	router.take(link.KindHello)
	h.m().Follow()
	id := link.GatewayID{Node: 1, Incarnation: 4}
	router.send(link.Envelope{Kind: link.KindStore, Group: h.m().id, Gateway: id, Slot: 1, Gen: 2, Account: 7, Device: 1, ID: 3, Charge: 9, Payload: []byte("x")})
	e := router.take(link.KindNotLeader)
	if e.Group != h.m().id || e.Slot != 1 || e.Gen != 2 || e.ID != 3 || e.Charge != 9 || e.Gateway != id || len(e.Payload) > 0 {
		t.Errorf("%+v", e)
	}
	router.send(link.Envelope{Kind: link.KindStore, Group: stanza.DirGroup(0), ID: 3})
	if e := router.take(link.KindNotLeader); e.Group != stanza.DirGroup(0) {
		t.Errorf("%+v", e)
	}
}

func TestAttachments(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	epoch := func() link.Fence {
		if a := h.attached(keyOf(9, 1)); a != nil {
			return a.epoch
		}
		return 0
	}
	steps := []struct {
		name   string
		kind   link.Kind
		slot   uint32
		serial link.Fence
		epoch  link.Fence
	}{
		{"first", link.KindAttach, 7, 5, link.MakeFence(1, 1)},
		{"the same session keeps its epoch", link.KindAttach, 7, 5, link.MakeFence(1, 1)},
		{"even with a newer serial", link.KindAttach, 7, 6, link.MakeFence(1, 1)},
		{"an older serial elsewhere is late", link.KindAttach, 8, 5, link.MakeFence(1, 1)},
		{"a newer one wins", link.KindAttach, 8, 7, link.MakeFence(1, 2)},
		{"the detach of the old one is late", link.KindDetach, 7, 6, link.MakeFence(1, 2)},
		{"an equal serial elsewhere is a move", link.KindAttach, 9, 7, link.MakeFence(1, 3)},
		{"detach", link.KindDetach, 9, 7, 0},
		{"again", link.KindAttach, 9, 7, link.MakeFence(1, 4)},
		{"gone of another", link.KindGone, 8, 0, link.MakeFence(1, 4)},
		{"gone", link.KindGone, 9, 0, 0},
	}
	for _, s := range steps {
		gw.attach(s.kind, 9, 1, s.slot, s.serial)
		gw.fence()
		if got := epoch(); got != s.epoch {
			t.Errorf("%s: epoch %x, want %x", s.name, got, s.epoch)
		}
		if (epoch() != 0) != (h.m().attached == 1) {
			t.Errorf("%s: %d attached", s.name, h.m().attached)
		}
	}
	if h.m().attached != 0 {
		t.Error("attached:", h.m().attached)
	}
}

// TestStaleAck acks a delivery of an attachment that was replaced: the message must stay. Then it plants the bug: with the epoch of the
// new attachment the same ack takes a message that its device never had.
func TestStaleAck(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.store(7, 1, 1, 0, 9, 1)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	old, _ := gw.delivered()
	gw.attach(link.KindAttach, 9, 1, 8, 2)
	fresh, id := gw.delivered()
	if id != 1 || fresh.ID != 1 || fresh.Epoch <= old.Epoch {
		t.Fatalf("%+v", fresh)
	}
	q := h.m().queue(keyOf(9, 1))
	gw.answer(link.KindDeliveryAck, old, 1)
	gw.fence()
	if q.entries() != 1 || q.att.acked != 0 {
		t.Fatal("an old attachment's ack took the message")
	}
	planted := old
	planted.Epoch, planted.Slot = fresh.Epoch, fresh.Slot
	gw.answer(link.KindDeliveryAck, planted, 1)
	h.until("the loss", func() bool { return q.entries() == 0 })
}

func TestExpect(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	var first link.Envelope
	for id := uint64(1); id <= 4; id++ {
		gw.store(7, 1, id, 0, 9, 1)
		first, _ = gw.delivered()
	}
	for range 3 { // one question for each that was dropped
		gw.answer(link.KindExpect, first, 3)
	}
	for want := uint64(3); want <= 4; want++ {
		if e, id := gw.delivered(); e.ID != want || id != want {
			t.Fatalf("%d in %+v", id, e)
		}
	}
	if n := gw.count(link.KindDeliver); n != 0 {
		t.Errorf("%d deliveries too many", n)
	}
	gw.answer(link.KindDeliveryAck, first, 3)
	gw.answer(link.KindExpect, first, 2) // late: 4 is the first unacked
	if e, id := gw.delivered(); e.ID != 4 || id != 4 {
		t.Fatalf("%d in %+v", id, e)
	}
	gw.answer(link.KindExpect, first, 5)      // nothing is known of that
	gw.answer(link.KindDeliveryAck, first, 9) // nor of that
	if n := gw.count(link.KindDeliver); n != 0 || h.attached(keyOf(9, 1)).acked != 3 {
		t.Errorf("%d deliveries too many", n)
	}
}

func TestResendsAndUnresponsive(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.store(7, 1, 1, 0, 9, 1)
	gw.delivered()
	start := h.now
	var at []time.Duration
	for h.now.Sub(start) < 44*time.Second {
		h.tick(500 * time.Millisecond)
		if n := gw.count(link.KindDeliver); n > 0 {
			gw.delivered()
			at = append(at, h.now.Sub(start).Round(time.Second))
		}
	}
	want := []time.Duration{1 * time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second, 31 * time.Second}
	if len(at) != len(want) {
		t.Fatalf("resends at %v", at)
	}
	for i := range want {
		if at[i] != want[i] {
			t.Errorf("resends at %v, want %v", at, want)
		}
	}
	h.tick(2 * time.Second)
	if e := gw.take(link.KindClose); e.Reason != stanza.ReasonUnresponsive || e.Slot != 7 {
		t.Errorf("%+v", e)
	}
	q := h.m().queue(keyOf(9, 1))
	if h.attached(q.key) != nil || h.m().attached != 0 || q.entries() != 1 {
		t.Error("still attached, or the queue is gone")
	}
}

func TestWindow(t *testing.T) {
	h := newHarness(t, 1, func(c *Config) { c.WindowEntries = 4 })
	gw := h.peer(link.RoleGateway, 1, 0)
	for id := uint64(1); id <= 10; id++ {
		gw.store(7, 1, id, 0, 9, 1)
	}
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	if n := gw.count(link.KindDeliver); n != 4 {
		t.Fatalf("%d in the window", n)
	}
	var e link.Envelope
	for range 4 {
		e, _ = gw.delivered()
	}
	gw.answer(link.KindDeliveryAck, e, 3)
	if n := gw.count(link.KindDeliver); n != 3 {
		t.Fatalf("%d after an ack of 3", n)
	}
	large := stanza.MessageUp{ID: 11, Account: 20, Version: 1, Body: stanza.AppendCipher(nil, 1, make([]byte, 60_000))}
	gw.attach(link.KindAttach, 20, 1, 9, 1)
	for id := uint64(11); id <= 20; id++ {
		large.ID = id
		gw.storeStanza(7, 1, id, 20, large.Append(nil))
	}
	n := gw.count(link.KindDeliver)
	if a := h.attached(keyOf(20, 1)); n != 3+4 || a.bytes > 256<<10 {
		t.Errorf("%d deliveries, %d bytes", n, a.bytes)
	}
}

func TestNoCredit(t *testing.T) {
	h := newHarness(t, 1, func(c *Config) { c.Unresponsive = 3600e9 }) // ticks run ahead of the links here
	other := h.peer(link.RoleGateway, 2, 0)
	gw := h.peer(link.RoleGateway, 1, 1500)
	gw.held = true
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	q := h.m().queue(keyOf(9, 1))
	h.until("the attachment", func() bool { return h.attached(q.key) != nil })
	for id := uint64(1); id <= 20; id++ {
		other.store(7, 1, id, 0, 9, 1)
	}
	other.fence()
	pushed := len(q.att.sent)
	if pushed == 0 || pushed >= 20 || len(h.m().blocked) != 1 {
		t.Fatalf("%d pushed, %d blocked", pushed, len(h.m().blocked))
	}
	// Credits come back: the next ticks go on, and what was pushed before is not missing.
	next := uint64(1)
	for next <= 20 {
		gw.mu.Lock()
		for _, e := range gw.got {
			if e.Kind == link.KindDeliver && e.ID == next {
				next++
			}
			gw.stream.Done(e.Group, e.Size())
		}
		gw.got = nil
		gw.mu.Unlock()
		h.tick(50 * time.Millisecond)
		select { // the credit is on its way on other goroutines
		case <-h.woken:
		case <-time.After(time.Millisecond):
		}
	}
	if len(q.att.sent) != 20 {
		t.Errorf("%d pushed", len(q.att.sent))
	}
}

func TestGatewayComesBack(t *testing.T) {
	h := newHarness(t, 1, nil)
	router := h.peer(link.RoleRouter, 2, 0)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.store(7, 1, 1, 0, 9, 1)
	e, _ := gw.delivered()
	gw.stop()
	router.store(7, 1, 2, 0, 9, 1)
	h.until("the second message", func() bool { return h.m().queue(keyOf(9, 1)).entries() == 2 })
	h.tick(100 * time.Second) // the device is not to blame
	if h.attached(keyOf(9, 1)) == nil {
		t.Fatal("detached while its gateway was away")
	}
	gw.connect()
	for id := uint64(1); id <= 2; id++ {
		if again, got := gw.delivered(); got != id || again.ID != id || again.Epoch != e.Epoch {
			t.Fatalf("%d in %+v", got, again)
		}
	}
}

func TestDrop(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	router := h.peer(link.RoleRouter, 2, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.store(7, 1, 1, 0, 9, 1)
	gw.take(link.KindAck)
	drop := link.Envelope{Kind: link.KindDropQueue, Group: h.m().id, Account: 9, Device: 1}
	for range 2 {
		router.send(drop)
		if e := router.take(link.KindQueueDropped); e.Group != stanza.DirGroup(0) || e.Account != 9 || e.Device != 1 {
			t.Errorf("%+v", e)
		}
	}
	if h.m().entries != 0 || h.m().attached != 0 {
		t.Errorf("%d entries, %d attached", h.m().entries, h.m().attached)
	}
	if e := gw.take(link.KindClose); e.Reason != stanza.ReasonUnlinked || e.Slot != 7 {
		t.Errorf("%+v", e)
	}
	gw.attach(link.KindAttach, 9, 1, 8, 2)
	if e := gw.take(link.KindClose); e.Reason != stanza.ReasonUnlinked || e.Slot != 8 {
		t.Errorf("%+v", e)
	}
	gw.store(7, 1, 2, 1, 9, 1)
	if r := gw.refused(); r.Reason != stanza.ReasonStaleDevices {
		t.Errorf("%+v", r)
	}
}

// fullQueue has a queue of one entry, for device 9/1, filled, and a router that leads its directory.
func fullQueue(t *testing.T) (h *harness, gw, router *peer) {
	h = newHarness(t, 1, func(c *Config) { c.QueueEntries = 1; c.Sweep = c.StreamSweep })
	gw = h.peer(link.RoleGateway, 1, 0)
	router = h.peer(link.RoleRouter, 2, 0)
	router.send(link.Envelope{Kind: link.KindHello, Group: stanza.DirGroup(0), Term: 1})
	h.until("the hello", func() bool { return h.o.peers.leader(stanza.DirGroup(0)) != nil })
	gw.store(7, 1, 1, 0, 9, 1)
	gw.take(link.KindAck)
	return h, gw, router
}

func TestUnlinkIdle(t *testing.T) {
	h, gw, router := fullQueue(t)
	gw.store(7, 1, 2, 1, 9, 1)
	gw.refused()
	h.now = h.now.Add(15 * day)
	gw.store(7, 1, 2, 1, 9, 1)
	if e := router.take(link.KindUnlinkIdle); e.Account != 9 || e.Device != 1 {
		t.Errorf("%+v", e)
	}
	gw.refused()
	gw.store(7, 1, 2, 1, 9, 1)
	gw.refused()
	if n := router.count(link.KindUnlinkIdle); n != 0 {
		t.Errorf("asked again at once: %d", n)
	}
}

func TestSweeps(t *testing.T) {
	h := newHarness(t, 1, func(c *Config) { c.SweepSlice = 2; c.StreamSweep = c.Sweep })
	gw := h.peer(link.RoleGateway, 1, 0)
	for a := stanza.Account(1); a <= 9; a++ {
		gw.store(20, 1, uint64(a), 0, a, 1)
		gw.take(link.KindAck)
	}
	b := h.m().t.ahead()
	h.m().flush(b)
	b.Commit()
	h.now = h.now.Add(30*day - 10*time.Second)
	h.tick(5 * time.Second)
	if h.m().entries != 9 {
		t.Fatal("expired early")
	}
	h.tick(70 * time.Second)
	if h.m().sweeps[0].active {
		t.Error("the pass does not end")
	}
	h.now = h.now.Add(time.Hour)
	h.tick(2 * time.Second)
	if h.m().entries != 0 {
		t.Errorf("%d entries stay", h.m().entries)
	}
	if _, known := h.m().stream(streamKey{to: 1, from: keyOf(20, 1)}); !known {
		t.Error("the stream went with its message")
	}
	h.now = h.now.Add(31 * day)
	h.tick(2 * time.Second)
	if _, known := h.m().stream(streamKey{to: 1, from: keyOf(20, 1)}); known {
		t.Error("the stream stays")
	}
}
