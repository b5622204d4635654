package offline

import (
	"slices"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// Accounts of region 2, seen from region 0.
const (
	abroadA = stanza.Account(2<<30 | 5)
	abroadB = stanza.Account(2<<30 | 6)
)

func outbound(from stanza.Account, id, after uint64, to stanza.Account, devices ...stanza.Device) command {
	s := stanza.MessageUp{ID: id, Account: to, Version: 3, Body: body(devices...)}
	return command{
		op: opOut, from: from, fromDevice: 1, id: id, after: after, account: to, body: s.Append(nil), maxEntries: 4, maxBytes: 1 << 20,
	}
}

func sentTo(to stanza.Account, seq uint64, failures ...uint64) command {
	c := command{op: opSent, account: to, upTo: seq}
	for _, distance := range failures {
		c.body = appendFailure(c.body, distance, stanza.ReasonUnknownAccount)
	}
	return c
}

// TestFoldAbroad: what is for another region is admitted like all else, waits under no device, and leaves with word to the sender of what
// failed.
func TestFoldAbroad(t *testing.T) {
	f := newFolder(t)
	f.s.leading, f.s.wake = true, func(*queue) {}
	for _, c := range []struct {
		c    command
		want string
	}{
		{outbound(7, 10, 0, abroadA, 1), "admitted"},
		{outbound(7, 10, 0, abroadA, 1), "duplicate"},
		{outbound(7, 12, 11, abroadA, 1), "gap 10"},
		{outbound(7, 12, 10, abroadA, 1), "admitted"},
		{outbound(8, 5, 0, abroadA, 1), "admitted"},
		{outbound(7, 5, 0, abroadB, 1), "admitted"},
		{outbound(7, 13, 12, abroadA, 1), "admitted"},
		{outbound(7, 14, 13, abroadA, 1), "queue_full []"},
	} {
		if got := show(f.apply(c.c)); got != c.want {
			t.Errorf("%d to %d: %s, want %s", c.c.id, c.c.account, got, c.want)
		}
	}
	f.flush()
	f.load()
	q := f.s.find(keyOf(abroadA, 0))
	if q == nil || q.entries() != 4 {
		t.Fatalf("queue %+v", q)
	}
	f.apply(sentTo(abroadA, q.head+2, 0, 2)) // ids 5 of account 8 and 10 of account 7 failed, 12 did not
	if q.entries() != 1 || len(f.s.pending) != 2 {
		t.Fatalf("%d entries, %d receipts", q.entries(), len(f.s.pending))
	}
	for k, ids := range map[receiptKey][]uint64{
		{to: keyOf(7, 1), from: abroadA, why: stanza.ReasonUnknownAccount}: {10},
		{to: keyOf(8, 1), from: abroadA, why: stanza.ReasonUnknownAccount}: {5},
	} {
		if p := f.s.pending[k]; p == nil || !slices.Equal(p.batches[0].ids, ids) {
			t.Errorf("receipt %+v: %+v", k, p)
		}
	}
	before := f.s.hash()
	f.flush()
	f.load()
	if f.s.hash() != before || f.s.pending[receiptKey{to: keyOf(8, 1), from: abroadA, why: stanza.ReasonUnknownAccount}] == nil {
		t.Errorf("after a restart: %x, want %x; receipts %v", f.s.hash(), before, f.s.pending)
	}
}

// TestFoldForwarded: what comes from another region is never admitted ahead of what it names, and goes to the devices that are left.
func TestFoldForwarded(t *testing.T) {
	f := newFolder(t)
	forward := func(id, after uint64, devices ...stanza.Device) command {
		c := message(abroadA, 1, id, after, 9, devices...)
		c.op = opForward
		return c
	}
	f.apply(command{op: opDrop, account: 9, device: 2})
	read := command{op: opForwardRead, from: abroadA, fromDevice: 1, id: 13, after: 12, account: 9, device: 1, maxEntries: 4, maxBytes: 1 << 20, body: []byte{1}}
	for _, c := range []struct {
		c    command
		want string
	}{
		{forward(11, 10, 1), "gap 0"}, // a client's would be admitted: the stream is not known
		{forward(10, 0, 2), "stale_devices"},
		{forward(10, 0, 1, 2), "admitted"},
		{forward(10, 0, 1, 2), "duplicate"},
		{forward(12, 11, 1), "gap 10"},
		{forward(12, 10, 1), "admitted"},
		{read, "admitted"},
	} {
		if got := show(f.apply(c.c)); got != c.want {
			t.Errorf("%d after %d: %s, want %s", c.c.id, c.c.after, got, c.want)
		}
	}
	if q := f.s.find(keyOf(9, 1)); q.entries() != 3 {
		t.Errorf("%d entries for the device", q.entries())
	}
}

// border connects a border that reaches region 2.
func (h *harness) border(node uint64) *peer {
	p := h.peer(link.RoleBorder, node, 0)
	p.reach(1 << 2)
	return p
}

func (p *peer) reach(bits uint64) {
	p.h.t.Helper()
	p.send(link.Envelope{Kind: link.KindRegions, ID: bits})
	p.h.until("the regions to be known", func() bool { return (p.h.o.peers.border(2) != nil) == (bits != 0) })
}

// forward takes the next message for another region and returns the id before it that it names, 0 for none.
func (p *peer) forward(id uint64) (e link.Envelope, after uint64) {
	p.h.t.Helper()
	e = p.take(link.KindForward)
	v, _, err := stanza.Decode(e.Payload)
	if err != nil {
		p.h.t.Fatal(err)
	}
	s, err := stanza.ParseMessageUp(v)
	if err != nil || s.ID != id || e.ID != id || e.Account != 7 || e.Device != 1 {
		p.h.t.Fatalf("%+v, stanza %+v, %v, want id %d", e, s, err, id)
	}
	return e, s.After
}

// stored answers a forward.
func (p *peer) stored(e link.Envelope, reason stanza.Reason) {
	p.h.t.Helper()
	p.send(link.Envelope{Kind: link.KindForwarded, Group: e.Group, Slot: e.Slot, Gen: e.Gen, Epoch: e.Epoch, Reason: reason})
}

func waitingAbroad(h *harness) uint64 {
	if q := h.m().find(keyOf(abroadA, 0)); q != nil {
		return q.entries()
	}
	return 0
}

// TestDrain is one queue for another region: acked when it is durable, sent when there is a way, sent again from what was refused, and
// left when it is stored there.
func TestDrain(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	for id := uint64(10); id < 13; id++ {
		gw.store(7, 1, id, max(id-1, 10)%id, abroadA, 1)
		if e := gw.take(link.KindAck); e.ID != id {
			t.Fatalf("ack of %d", e.ID)
		}
	}
	b := h.border(2)
	first, after := b.forward(10)
	second, after2 := b.forward(11)
	_, after3 := b.forward(12)
	if after != 0 || after2 != 10 || after3 != 11 {
		t.Errorf("after %d, %d, %d", after, after2, after3)
	}
	b.stored(first, 0)
	h.until("the first to leave", func() bool { return waitingAbroad(h) == 2 })
	b.stored(second, stanza.ReasonBusy)
	h.until("the refusal", func() bool { return h.m().abroad.byKey[keyOf(abroadA, 0)].hold != 0 })
	h.tick(2 * time.Second)
	again, after := b.forward(11)
	third, after3 := b.forward(12)
	if after != 0 || after3 != 11 || again.Gen == second.Gen {
		t.Errorf("again: after %d, %d, generation %d", after, after3, again.Gen)
	}
	b.stored(second, stanza.ReasonUnknownAccount) // of what was taken back: it means nothing
	b.stored(third, 0)
	b.stored(again, 0)
	h.until("all to leave", func() bool { return waitingAbroad(h) == 0 })
	if n := len(h.m().abroad.byKey); n != 0 || h.m().abroad.away[2] != 0 {
		t.Errorf("%d drains, %d bytes on their way", n, h.m().abroad.away[2])
	}
	gw.fence()
	if n := len(h.m().pending); n != 0 {
		t.Errorf("%d receipts", n)
	}
}

// TestDrainFailure: what the other region refuses for good leaves, and its sender hears of it as durably as of a delivery.
func TestDrainFailure(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw, b := h.peer(link.RoleGateway, 1, 0), h.border(2)
	gw.attach(link.KindAttach, 7, 1, 3, 1)
	gw.store(7, 1, 10, 0, abroadA, 1)
	gw.store(7, 1, 11, 10, abroadA, 1)
	first, _ := b.forward(10)
	second, _ := b.forward(11)
	b.stored(first, stanza.ReasonUnknownAccount)
	b.send(link.Envelope{Kind: link.KindForwarded, Group: second.Group, Slot: second.Slot, Gen: second.Gen, Epoch: second.Epoch, Flags: link.FlagStale})
	got := map[stanza.Reason]uint64{}
	for range 2 {
		e := gw.take(link.KindDeliver)
		v, _, err := stanza.Decode(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		u, err := stanza.ParseUndelivered(v)
		if err != nil || u.From != abroadA {
			t.Fatalf("%+v, %v", u, err)
		}
		ids := stanza.Packed(u.IDs)
		got[u.Reason], _ = ids.Next()
	}
	if got[stanza.ReasonUnknownAccount] != 10 || got[stanza.ReasonStaleDevices] != 11 || waitingAbroad(h) != 0 {
		t.Errorf("undelivered %v, %d waiting", got, waitingAbroad(h))
	}
}

// TestDrainNewLeader: a leader finds what waits, in memory or in tables, and begins from the head; a border that comes gets it.
func TestDrainNewLeader(t *testing.T) {
	h := newHarness(t, 1, func(c *Config) { c.QueueCache = 256 })
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.store(7, 1, 10, 0, abroadA, 1)
	gw.store(7, 1, 5, 0, 9, 1)
	gw.take(link.KindAck)
	gw.take(link.KindAck)
	m := h.m()
	b := m.t.ahead()
	m.flush(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	m.Follow()
	if err := m.loadFrom(m.t); err != nil { // as in a process that starts
		t.Fatal(err)
	}
	m.Lead(2)
	h.tick(200 * time.Millisecond)
	if len(m.abroad.byKey) != 1 || m.abroad.scanning {
		t.Fatalf("%d drains, scanning %v", len(m.abroad.byKey), m.abroad.scanning)
	}
	one := h.border(2)
	one.forward(10)
	one.stop() // with the answer
	two := h.border(3)
	e, after := two.forward(10)
	two.stored(e, 0)
	h.until("it to leave", func() bool { return waitingAbroad(h) == 0 && after == 0 })
}

// TestReceiptAbroad: a delivered receipt for a device of another region goes there through a border, again when there is a new way.
func TestReceiptAbroad(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw, b := h.peer(link.RoleGateway, 1, 0), h.border(2)
	s := stanza.MessageUp{ID: 4, Account: 9, Version: 1, Body: body(1)}
	b.send(link.Envelope{Kind: link.KindForward, Group: h.m().id, Gateway: b.id, Slot: 1, Gen: 2, Account: abroadA, Device: 3, ID: 4, Flags: link.FlagStale, Payload: s.Append(nil)})
	if e := b.take(link.KindAck); e.Slot != 1 || e.Gen != 2 || e.ID != 4 || e.Flags != link.FlagStale {
		t.Fatalf("ack %+v", e)
	}
	gw.attach(link.KindAttach, 9, 1, 3, 1)
	e, _ := gw.delivered()
	gw.answer(link.KindDeliveryAck, e, 1)
	r := b.take(link.KindReceipt)
	if r.Account != abroadA || r.Device != 3 || r.ID != 9 {
		t.Fatalf("receipt %+v", r)
	}
	b.reach(0)
	b.reach(1 << 2)
	r = b.take(link.KindReceipt)
	b.send(link.Envelope{Kind: link.KindReceiptStored, Group: h.m().id, Account: 9, ID: 4, Payload: appendStored(nil, abroadA, 3, r.Payload)})
	h.until("the receipt to be confirmed", func() bool { return len(h.m().pending) == 0 })
}

// TestCrossing: a message is refused that is not what its way says.
func TestCrossing(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	for _, c := range []struct {
		kind     link.Kind
		from, to stanza.Account
	}{
		{link.KindStore, abroadA, 9}, {link.KindForward, 7, 9}, {link.KindForward, abroadA, abroadB}, {link.KindForward, 7, abroadA},
	} {
		s := stanza.MessageUp{ID: 4, Account: c.to, Version: 1, Body: body(1)}
		gw.send(link.Envelope{Kind: c.kind, Group: h.m().id, Gateway: gw.id, Account: c.from, Device: 1, ID: 4, Payload: s.Append(nil)})
		if r := gw.refused(); r.Reason != stanza.ReasonForbidden {
			t.Errorf("%v from %d to %d: %v", c.kind, c.from, c.to, r.Reason)
		}
	}
}
