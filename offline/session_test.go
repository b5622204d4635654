package offline

import (
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// post puts envelopes into the first group's inbox, to be handled in one turn.
func (h *harness) post(envs ...link.Envelope) {
	for i := range envs {
		envs[i].Group = h.m().id
	}
	h.m().inbox.Push(nil, envs...)
	h.drive()
}

func deliveryAck(e link.Envelope, number uint64) link.Envelope {
	return link.Envelope{
		Kind: link.KindDeliveryAck, Account: e.Account, Device: e.Device, Slot: e.Slot, Gen: e.Gen, Epoch: e.Epoch, ID: number,
	}
}

// TestAckOfEarlierEpoch: the session and its slot are the same, but it was attached anew by a new leader. An ack of the old numbers must
// take nothing.
func TestAckOfEarlierEpoch(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	for id := uint64(1); id <= 2; id++ {
		gw.store(7, 1, id, 0, 9, 1)
	}
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.delivered()
	old, _ := gw.delivered()
	h.post(deliveryAck(old, 1))
	h.m().Follow()
	h.m().Lead(2)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	fresh, id := gw.delivered()
	if id != 2 || fresh.ID != 1 || fresh.Slot != old.Slot || fresh.Epoch <= old.Epoch {
		t.Fatalf("%d in %+v", id, fresh)
	}
	h.post(deliveryAck(old, 1))
	if n := h.m().queue(keyOf(9, 1)).entries(); n != 1 {
		t.Fatal("an ack of an earlier epoch took a message")
	}
	h.post(deliveryAck(fresh, 1))
	if n := h.m().queue(keyOf(9, 1)).entries(); n != 0 {
		t.Error("the message stays")
	}
}

// TestAckOfUnknownOutcome: what became of an ack's entry is not known: it is proposed again.
func TestAckOfUnknownOutcome(t *testing.T) {
	for _, o := range []shard.Outcome{shard.Unknown, shard.Rejected} {
		h := newHarness(t, 1, nil)
		gw := h.peer(link.RoleGateway, 1, 0)
		gw.store(7, 1, 1, 0, 9, 1)
		gw.attach(link.KindAttach, 9, 1, 7, 1)
		e, _ := gw.delivered()
		raft := h.rafts[0]
		raft.hold = true
		h.post(deliveryAck(e, 1))
		raft.hold, raft.outcome = false, o
		if !raft.run() {
			t.Fatal("not proposed")
		}
		raft.outcome = shard.Committed
		h.drive()
		if n := h.m().queue(keyOf(9, 1)).entries(); n != 0 {
			t.Errorf("%v: %d entries stay", o, n)
		}
	}
}

// TestLeadAgain loses the lead between an entry and the turn that would push it, and leads again.
func TestLeadAgain(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.fence()
	m := h.m()
	c := message(7, 1, 1, 0, 9, 1)
	h.rafts[0].index++
	m.Apply(shard.Entry{Index: h.rafts[0].index, Stamp: h.rafts[0].Stamp(), Cmd: appendCommand(nil, &c)})
	m.Follow()
	m.Lead(2)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	if e, id := gw.delivered(); id != 1 || e.Epoch != link.MakeFence(2, 1) {
		t.Errorf("%d in %+v", id, e)
	}
}

// TestWindowBytes: large messages fill the window before 32 of them do.
func TestWindowBytes(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	large := stanza.MessageUp{Account: 9, Version: 1, Body: stanza.AppendCipher(nil, 1, make([]byte, 60_000))}
	for large.ID = 1; large.ID <= 8; large.ID++ {
		gw.storeStanza(7, 1, large.ID, 9, large.Append(nil))
	}
	if n := gw.count(link.KindDeliver); n != 4 {
		t.Errorf("%d deliveries of 60 kB in a window of 256 KiB", n)
	}
}

// TestAttachedIsNotIdle: a device that is bound is not unlinked, however long it does not read.
func TestAttachedIsNotIdle(t *testing.T) {
	h, gw, router := fullQueue(t)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	h.now = h.now.Add(15 * day)
	gw.store(7, 1, 2, 1, 9, 1)
	gw.refused()
	if n := router.count(link.KindUnlinkIdle); n != 0 {
		t.Error("asked to unlink a bound device")
	}
}

// TestLastAckOfSession acks and ends the session within one turn: the device has the message, so it must not wait for its next session.
func TestLastAckOfSession(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		h := newHarness(t, 1, nil)
		gw := h.peer(link.RoleGateway, 1, 0)
		gw.store(7, 1, 1, 0, 9, 1)
		gw.attach(link.KindAttach, 9, 1, 7, 1)
		e, _ := gw.delivered()
		end := link.Envelope{Kind: link.KindDetach, Gateway: gw.id, Account: 9, Device: 1, Slot: 7, Gen: 1, Serial: 1}
		if replaced {
			end.Kind, end.Slot, end.Serial = link.KindAttach, 8, 2
		}
		h.post(deliveryAck(e, 1), end)
		if n := h.m().queue(keyOf(9, 1)).entries(); n != 0 {
			t.Errorf("replaced %v: %d entries stay", replaced, n)
		}
	}
}

// TestAckOfLastSessionCommitsLate: a device comes back while an ack of its last session is in flight, and is slow to ack the repeats. It
// is not to blame: only if the gateway did not write what is gone by now, the session is closed.
func TestAckOfLastSessionCommitsLate(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	for id := uint64(1); id <= 3; id++ {
		gw.store(7, 1, id, id-1, 9, 1)
	}
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	var e link.Envelope
	for range 3 {
		e, _ = gw.delivered()
	}
	h.rafts[0].hold = true
	h.post(deliveryAck(e, 2))
	gw.attach(link.KindAttach, 9, 1, 8, 2)
	for range 3 {
		e, _ = gw.delivered()
	}
	h.rafts[0].hold = false
	h.drive()
	q := h.m().queue(keyOf(9, 1))
	if q.entries() != 1 || e.Slot != 8 {
		t.Fatalf("%d entries, %+v", q.entries(), e)
	}
	h.tick(1200 * time.Millisecond)
	if again, id := gw.delivered(); id != 3 || again.ID != 3 {
		t.Errorf("%d in %+v", id, again)
	}
	if gw.count(link.KindClose) != 0 || gw.count(link.KindDeliver) != 0 || h.attached(q.key) == nil {
		t.Fatal("closed for being slow, or sent what is gone")
	}
	gw.answer(link.KindExpect, e, 1)
	if c := gw.take(link.KindClose); c.Reason != stanza.ReasonUnresponsive || c.Slot != 8 {
		t.Errorf("%+v", c)
	}
}

// TestCloseWaitsForCredit: a session that cannot be told to close stays attached, so that it is told later.
func TestCloseWaitsForCredit(t *testing.T) {
	h := newHarness(t, 1, nil)
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
	h.tick(50 * time.Second)
	if h.attached(q.key) == nil || h.m().attached != 1 {
		t.Fatal("forgotten, and the gateway does not know")
	}
	gw.mu.Lock()
	gw.held = false
	for _, e := range gw.got {
		gw.stream.Done(e.Group, e.Size())
	}
	gw.mu.Unlock()
	h.until("the end of the attachment", func() bool {
		h.tick(time.Second)
		return h.attached(q.key) == nil
	})
	if c := gw.take(link.KindClose); c.Reason != stanza.ReasonUnresponsive || c.Slot != 7 {
		t.Errorf("%+v", c)
	}
}

// TestProbe: a device that is only slow costs two deliveries each time, however large its window; one whose gateway misses some gets those.
func TestProbe(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	var e link.Envelope
	for id := uint64(1); id <= 6; id++ {
		gw.store(7, 1, id, 0, 9, 1)
		e, _ = gw.delivered()
	}
	for _, pause := range []time.Duration{1200 * time.Millisecond, 2 * time.Second} {
		h.tick(pause)
		for _, want := range []uint64{1, 6} {
			if again, id := gw.delivered(); again.ID != want || id != want {
				t.Fatalf("%d in %+v, want %d", id, again, want)
			}
		}
		if n := gw.count(link.KindDeliver); n != 0 {
			t.Fatalf("%d deliveries too many", n)
		}
	}
	gw.answer(link.KindExpect, e, 4) // 4 and 5 were lost, and 6 came too early
	for want := uint64(4); want <= 6; want++ {
		if again, id := gw.delivered(); again.ID != want || id != want {
			t.Fatalf("%d in %+v, want %d", id, again, want)
		}
	}
	if n := gw.count(link.KindDeliver); n != 0 {
		t.Errorf("%d deliveries too many", n)
	}
}

// TestResendAfterBackoff: an ack ends the backoff, so what is lost next goes again after a second.
func TestResendAfterBackoff(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	for id := uint64(1); id <= 2; id++ {
		gw.store(7, 1, id, 0, 9, 1)
	}
	gw.delivered()
	e, _ := gw.delivered()
	h.tick(16 * time.Second) // resends at 1, 3, 7, 15; the next at 31
	for range 4 {
		gw.delivered()
		gw.delivered()
	}
	gw.answer(link.KindDeliveryAck, e, 1)
	gw.fence()
	h.tick(1200 * time.Millisecond)
	if n := gw.count(link.KindDeliver); n != 1 {
		t.Errorf("%d resends in a second", n)
	}
	gw.answer(link.KindDeliveryAck, e, 2)
	gw.fence()
	h.tick(40 * time.Second)
	if n := len(h.m().timers); n != 0 {
		t.Errorf("%d timers stay", n)
	}
}

// TestPatience: when everybody's acks are late, what was pushed is asked for later; when they are quick again, sooner.
func TestPatience(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	id := uint64(0)
	deliver := func(late time.Duration) {
		id++
		gw.store(7, 1, id, id-1, 9, 1)
		e, _ := gw.delivered()
		h.tick(late)
		gw.answer(link.KindDeliveryAck, e, id)
		gw.fence()
	}
	asks := func() (after time.Duration) {
		id++
		gw.store(7, 1, id, id-1, 9, 1)
		e, _ := gw.delivered()
		for gw.count(link.KindDeliver) == 0 && after < time.Minute {
			h.tick(100 * time.Millisecond)
			after += 100 * time.Millisecond
		}
		gw.delivered() // the question
		gw.answer(link.KindDeliveryAck, e, id)
		gw.fence()
		return after
	}
	if d := asks(); d > 1200*time.Millisecond {
		t.Fatalf("asked after %v", d)
	}
	for range 40 {
		deliver(900 * time.Millisecond)
	}
	if d := asks(); d < 3*time.Second || d > 4*time.Second {
		t.Errorf("acks take 0.9 s, and asked after %v", d)
	}
	for range 100 {
		deliver(0)
	}
	if d := asks(); d > 1200*time.Millisecond {
		t.Errorf("asked after %v when acks were quick again", d)
	}
}

// TestSlowDeviceLeavesMemory: the queue of a device that takes nothing is in tables after some seconds, what comes for it goes there too, and
// it gets everything in turn when it wakes up.
func TestSlowDeviceLeavesMemory(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	const cipher = 4 << 10
	store := func(from, to uint64) {
		for id := from; id <= to; id++ {
			up := stanza.MessageUp{ID: id, Account: 9, Version: 1, Body: stanza.AppendCipher(nil, 1, make([]byte, cipher))}
			gw.storeStanza(7, 1, id, 9, up.Append(nil))
		}
		gw.fence()
	}
	store(1, 40)
	q := h.m().queue(keyOf(9, 1))
	if q.resident < 40*cipher || len(q.att.sent) != 32 {
		t.Fatalf("%d bytes in memory, %d deliveries in the window", q.resident, len(q.att.sent))
	}
	h.tick(3500 * time.Millisecond)
	for range 2 {
		if q.resident > slowKeep || q.front != nil {
			t.Errorf("%d bytes in memory, %d read back", q.resident, len(q.front))
		}
		store(41, 80)
		h.tick(200 * time.Millisecond)
	}
	var last link.Envelope
	for range gw.count(link.KindDeliver) {
		last, _ = gw.delivered()
	}
	for next := uint64(1); next <= 80; {
		gw.answer(link.KindExpect, last, next) // nothing was written
		gw.fence()
		n := gw.count(link.KindDeliver)
		if n == 0 {
			t.Fatalf("nothing behind %d", next)
		}
		for range n {
			e, id := gw.delivered()
			if e.ID != next || id != next {
				t.Fatalf("delivery %d, message %d; want %d", e.ID, id, next)
			}
			last = e
			next++
		}
		gw.answer(link.KindDeliveryAck, last, next-1)
		gw.fence()
		for range gw.count(link.KindDeliver) { // those come again
			gw.delivered()
		}
	}
	if h.m().broken != nil {
		t.Error(h.m().broken)
	}
}

// TestGatewayStartsAnew: a new run of a gateway ends the attachments of the one before, and takes its place among the peers.
func TestGatewayStartsAnew(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.attach(link.KindAttach, 10, 1, 8, 1)
	gw.fence()
	if h.m().attached != 2 {
		t.Fatal("attached:", h.m().attached)
	}
	gw.stop()
	next := &peer{h: h, id: link.GatewayID{Node: 1, Incarnation: 10}}
	next.ep = link.NewEndpoint(link.Info{Role: link.RoleGateway, Node: 1, Incarnation: 10, Shards: 1, Cluster: "c"}, next, link.Options{})
	next.connect()
	next.fence()
	if h.m().attached != 0 || len(*h.o.peers.gateways.Load()) != 1 {
		t.Errorf("%d attached, %d gateways", h.m().attached, len(*h.o.peers.gateways.Load()))
	}
}

// TestWorkersStandBesideEachOther: what comes up on the same node under another worker number ends nothing.
func TestWorkersStandBesideEachOther(t *testing.T) {
	h := newHarness(t, 1, nil)
	worker := func(n uint16, random uint64) *peer {
		p := &peer{h: h, id: link.GatewayID{Node: 1, Incarnation: link.NewIncarnation(n, random)}}
		p.ep = link.NewEndpoint(link.Info{Role: link.RoleGateway, Node: 1, Incarnation: p.id.Incarnation, Shards: 1, Cluster: "c"}, p, link.Options{})
		p.connect()
		return p
	}
	first, second := worker(1, 9), worker(2, 9)
	first.attach(link.KindAttach, 9, 1, 7, 1)
	second.attach(link.KindAttach, 10, 1, 8, 1)
	first.fence()
	second.fence()
	worker(3, 9).fence()
	if h.m().attached != 2 || len(*h.o.peers.gateways.Load()) != 3 {
		t.Fatalf("%d attached, %d gateways", h.m().attached, len(*h.o.peers.gateways.Load()))
	}
	second.stop()
	worker(2, 10).fence()
	if h.m().attached != 1 || len(*h.o.peers.gateways.Load()) != 3 {
		t.Errorf("%d attached, %d gateways", h.m().attached, len(*h.o.peers.gateways.Load()))
	}
}

// TestDownOverhead checks the budget of a downward message against its encoding with every number at its largest.
func TestDownOverhead(t *testing.T) {
	s := stanza.MessageDown{ID: stanza.MaxID, From: stanza.MaxAccount, FromDevice: stanza.MaxDevice, SentAt: stanza.MaxID}
	s.Body = make([]byte, stanza.MaxStanza-downOverhead)
	if n := len(s.Append(nil)); n != stanza.MaxStanza {
		t.Errorf("%d bytes, want %d", n, stanza.MaxStanza)
	}
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	up := stanza.MessageUp{ID: 8, Account: 9, Version: 1, Body: stanza.AppendCipher(nil, 1, s.Body)}
	gw.storeStanza(7, 1, 8, 9, up.Append(nil))
	e, id := gw.delivered()
	if id != 8 || len(e.Payload) > stanza.MaxStanza {
		t.Errorf("%d in %d bytes", id, len(e.Payload))
	}
}

// TestLargestEntry: every message that a gateway takes fits into a log entry.
func TestLargestEntry(t *testing.T) {
	c := message(stanza.MaxAccount, stanza.MaxDevice, stanza.MaxID, stanza.MaxID, stanza.MaxAccount, 1)
	c.maxEntries, c.maxBytes = 1<<40, 1<<50
	c.body = stanza.AppendCipher(nil, 1, make([]byte, stanza.MaxStanza-8))
	var back command
	if err := decodeCommand(appendCommand(nil, &c), &back); err != nil {
		t.Error(err)
	}
}
