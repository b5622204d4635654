package gateway

import (
	"fmt"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// down is a bound session seen from offline.
type down struct {
	*raw
	h    *harness
	name link.Envelope // Group, Slot, Gen
}

func (h *harness) bindDown(account stanza.Account) down {
	h.t.Helper()
	c := h.bind(account)
	c.send(message(1, account, "who am I"))
	e := h.router.skipTo(link.KindMessage)
	e.Group = stanza.QueueGroup(int(account) % testShards)
	h.offline.send(link.Envelope{Kind: link.KindAck, Group: e.Group, Slot: e.Slot, Gen: e.Gen, ID: 1, Charge: e.Charge})
	c.ids(1)
	return down{c, h, link.Envelope{Group: e.Group, Slot: e.Slot, Gen: e.Gen}}
}

func (d down) deliver(epoch link.Fence, number uint64, text string) {
	d.h.t.Helper()
	e := d.name
	e.Kind, e.Epoch, e.ID, e.Payload = link.KindDeliver, epoch, number, delivery(number, text)
	d.h.offline.send(e)
}

func (d down) wantText(text string) {
	d.h.t.Helper()
	m, err := stanza.ParseMessageDown(d.wantTag(stanza.TagMessage))
	if err != nil || string(m.Body) != text {
		d.h.t.Fatalf("got %q (%v), want %q", m.Body, err, text)
	}
}

func (d down) ack(count uint32) { d.send((&stanza.DeliveryAck{Count: count}).Append(nil)) }

func (d down) wantUp(kind link.Kind, epoch link.Fence, number uint64) {
	d.h.t.Helper()
	if e := d.h.offline.want(kind); e.Epoch != epoch || e.ID != number || e.Slot != d.name.Slot || e.Gen != d.name.Gen || e.Account != d.account {
		d.h.t.Fatalf("%v %+v, want epoch %d number %d", kind, e, epoch, number)
	}
}

func TestDeliveryTurns(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	d.deliver(10, 1, "a")
	d.deliver(10, 1, "a again") // written already
	d.deliver(10, 2, "b")
	d.wantText("a")
	d.wantText("b")
	d.deliver(10, 4, "d")
	d.wantUp(link.KindExpect, 10, 3)
	d.deliver(10, 3, "c")
	d.deliver(10, 4, "d")
	d.wantText("c")
	d.wantText("d")
	d.ack(3)
	d.wantUp(link.KindDeliveryAck, 10, 3)
	d.deliver(10, 2, "b again") // its ack may be lost: said again
	d.wantUp(link.KindDeliveryAck, 10, 3)
	d.deliver(10, 4, "d again") // written, not acknowledged: it is on its way
	d.deliver(10, 5, "e")
	d.wantText("e")
}

// TestEpochs: an attachment's deliveries are counted from what was written before it, and acks of the one before it are dropped.
func TestEpochs(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	for n := uint64(1); n <= 3; n++ {
		d.deliver(10, n, fmt.Sprint("old ", n))
		d.wantText(fmt.Sprint("old ", n))
	}
	d.ack(1)
	d.wantUp(link.KindDeliveryAck, 10, 1)
	d.deliver(11, 1, "old 2")
	d.wantText("old 2")
	d.deliver(10, 4, "stale")
	d.ack(1) // of number 2 on the wire: not of this attachment
	d.ack(1) // 3
	d.deliver(11, 2, "old 3")
	d.wantText("old 3")
	d.ack(1) // 4: the first of this attachment
	d.wantUp(link.KindDeliveryAck, 11, 1)
	d.deliver(11, 4, "too far")
	d.wantUp(link.KindExpect, 11, 3)
}

func TestGone(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	d.conn.Close()
	h.router.skipTo(link.KindUnbind)
	h.until("the connection to end", func() bool { return h.g.open.Load() == 0 })
	d.deliver(10, 1, "a")
	if e := h.offline.want(link.KindGone); e.Slot != d.name.Slot || e.Gen != d.name.Gen || e.Group != d.name.Group {
		t.Fatalf("gone %+v", e)
	}
	next := h.bindDown(5) // the slot is used again, under another generation
	d.deliver(10, 1, "a")
	h.offline.want(link.KindGone)
	next.deliver(10, 1, "b")
	next.wantText("b")
	stray := next
	stray.name.Slot = 200 << slotBits
	stray.deliver(10, 1, "c")
	h.offline.want(link.KindGone)
}

// TestDeliveryOvertakesBound: the two come from different daemons.
func TestDeliveryOvertakesBound(t *testing.T) {
	h := start(t, nil)
	h.router.mu.Lock()
	h.router.auto = nil
	h.router.mu.Unlock()
	c := h.dial()
	c.preamble()
	c.handshake((&stanza.Bind{Account: 5, Device: 1}).Append(nil))
	e := h.router.skipTo(link.KindBind)
	if e.Account != 5 || e.Device != 1 || len(e.Payload) != 32 || string(e.Payload) != string(c.identity.Public) {
		t.Fatalf("bind %+v", e)
	}
	c.account = 5
	d := down{c, h, link.Envelope{Group: stanza.QueueGroup(1), Slot: e.Slot, Gen: e.Gen}}
	d.deliver(10, 1, "a")
	b := stanza.Bound{Account: 5, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18}
	h.until("the delivery to be looked at", func() bool { return h.count("linecard_gateway_drops_total", "out_of_turn") == 1 })
	h.router.send(link.Envelope{Kind: link.KindBound, Group: e.Group, Slot: e.Slot, Gen: e.Gen, Account: 5, Device: 1, Serial: 1, Payload: boundPayload(&b)})
	c.wantTag(stanza.TagBound)
	d.wantUp(link.KindExpect, 10, 1)
	d.deliver(10, 1, "a")
	d.wantText("a")
}

// TestPacking: what comes in one turn leaves in few frames, and none is too large.
func TestPacking(t *testing.T) {
	h := start(t, func(c *Config) { c.OutboundCap = 4 << 20 })
	d := h.bindDown(5)
	before := d.rx
	const n = 700
	for i := uint64(1); i <= n; i++ {
		d.deliver(10, i, "small")
	}
	for range n {
		d.wantText("small")
	}
	big := string(make([]byte, 50<<10))
	for i := uint64(1); i <= 8; i++ {
		d.deliver(10, n+i, big)
	}
	for range 8 {
		d.wantText(big)
	}
	t.Logf("%d frames for %d deliveries", d.rx-before, n+8)
}

// TestHeldBack: deliveries to a client that does not read wait in their queue, and are asked for when it has read what was written.
func TestHeldBack(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	const size = 4 << 10
	text := string(make([]byte, size))
	number := uint64(0)
	for number < 64 || h.count("linecard_gateway_held_back_total") == 0 {
		if number++; number > 4096 {
			t.Fatal("never held back")
		}
		d.deliver(10, number, text)
		h.until("the delivery to be written or not", func() bool {
			return h.count("linecard_gateway_held_back_total")+h.count("linecard_gateway_stanzas_total", "message", "down") == float64(number)
		})
		if n := h.buffered(d.name.Slot); n > holdBox+2*size {
			t.Fatalf("%d bytes wait", n)
		}
	}
	written := uint64(h.count("linecard_gateway_stanzas_total", "message", "down"))
	for range written {
		d.wantText(text)
	}
	h.until("what was held back is asked for", func() bool {
		h.advance(tickLength)
		return len(h.offline.got) > 0
	})
	d.wantUp(link.KindExpect, 10, written+1)
	for i := written + 1; i <= number+1; i++ {
		d.deliver(10, i, "later")
		d.wantText("later")
	}
}

// TestSlowConsumer: a client that does not read the answers to what it asks loses its session, not our memory.
func TestSlowConsumer(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	answer := (&stanza.Result{ID: 1, Handle: make([]byte, 32<<10)}).Append(nil)
	for i := 0; h.count("linecard_gateway_closes_total", "slow_consumer") == 0; i++ {
		if i > 4096 {
			t.Fatal("never closed")
		}
		h.router.send(link.Envelope{Kind: link.KindResult, Group: stanza.DirGroup(1), Slot: d.name.Slot, Gen: d.name.Gen, ID: 1, Payload: answer})
		h.until("the answer to be written or not", func() bool {
			return h.count("linecard_gateway_closes_total", "slow_consumer") == 1 || h.count("linecard_gateway_stanzas_total", "result", "down") == float64(i+1)
		})
	}
	h.router.skipTo(link.KindUnbind)
}

func TestUnresponsive(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	d.deliver(10, 1, "a")
	d.deliver(10, 2, "b")
	d.wantText("a")
	d.wantText("b")
	h.advance(40 * time.Second)
	d.ack(1) // progress
	d.wantUp(link.KindDeliveryAck, 10, 1)
	for range 8 {
		h.advance(5 * time.Second)
		d.send(stanza.Ping{}.Append(nil))
		d.wantTag(stanza.TagPong)
	}
	h.advance(10 * time.Second)
	d.wantClose(stanza.ReasonUnresponsive)
}

func TestRouterCloses(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	d.name.Kind, d.name.Reason, d.name.RetryAfter = link.KindClose, stanza.ReasonDisplaced, 0
	h.router.send(d.name)
	d.wantClose(stanza.ReasonDisplaced)
}

// TestDeliveryWithoutLeader: without a known leader nobody could be told, so it is dropped and comes again.
func TestDeliveryWithoutLeader(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	h.offline.send(link.Envelope{Kind: link.KindNotLeader, Group: d.name.Group, Slot: d.name.Slot, Gen: d.name.Gen, ID: 3})
	d.deliver(10, 1, "a")
	h.until("the drop", func() bool { return h.count("linecard_gateway_drops_total", "link_down") == 1 })
	h.offline.hello(1) // behind a not-leader it wins
	d.deliver(10, 1, "b")
	d.wantText("b")
}

// TestLinger: a closed session's client may take its time to read why, but not for ever, and what it still sends is thrown away.
func TestLinger(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	d.name.Kind, d.name.Reason = link.KindClose, stanza.ReasonDisplaced
	h.router.send(d.name)
	h.router.skipTo(link.KindUnbind)
	d.send(message(2, 9, "too late"))
	d.deliver(10, 1, "a")
	h.offline.want(link.KindGone)
	h.advance(time.Second)
	cl, err := stanza.ParseClose(d.wantTag(stanza.TagClose))
	if err != nil || cl.Reason != stanza.ReasonDisplaced {
		t.Fatalf("%+v %v", cl, err)
	}
	if n := h.g.open.Load(); n != 1 {
		t.Fatalf("%d connections after a second", n)
	}
	h.advance(2 * time.Second)
	h.until("the connection to end", func() bool { return h.g.open.Load() == 0 })
	select {
	case e := <-h.router.got:
		t.Fatalf("the router got %+v", e)
	default:
	}
}

// TestLingerEnds: a session that time ended, and whose client is dead, does not keep its connection.
func TestLingerEnds(t *testing.T) {
	h := start(t, nil)
	c := h.dial()
	c.preamble()
	c.handshake((&stanza.Bind{Account: 5, Device: 1, Interval: 60}).Append(nil))
	c.wantTag(stanza.TagBound)
	for range 130 {
		h.advance(time.Second)
	}
	h.until("the connection to end", func() bool { return h.g.open.Load() == 0 })
	if cl, err := stanza.ParseClose(c.wantTag(stanza.TagClose)); err != nil || cl.Reason != stanza.ReasonIdleTimeout {
		t.Fatalf("%+v %v", cl, err)
	}
}

// TestAckBeforeClose: what a client acknowledges right before it leaves counts.
func TestAckBeforeClose(t *testing.T) {
	h := start(t, nil)
	d := h.bindDown(5)
	d.deliver(10, 1, "a")
	d.wantText("a")
	d.send((&stanza.DeliveryAck{Count: 1}).Append(nil), (&stanza.Close{Reason: stanza.ReasonPeerClosed}).Append(nil))
	d.wantUp(link.KindDeliveryAck, 10, 1)
	d.wantClose(stanza.ReasonPeerClosed)
}
