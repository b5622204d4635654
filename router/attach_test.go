package router

import (
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// fill binds n devices of n accounts without a stream in the way.
func (h *harness) fill(s *fakeStream, n int) {
	gw := h.m.peers[s].gw
	for i := range n {
		a := stanza.Account((i+1)*testShards + testShard)
		h.m.bindings.set(keyOf(a, 1), binding{serial: link.Fence(i + 1), gateway: gw.index, slot: uint32(i), gen: 1})
	}
}

func TestAttachmentsInPages(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	h.send(s, link.Envelope{Kind: link.KindRebindDone, Term: h.m.term})
	h.fill(s, 3*attachPage)
	q := h.up(link.RoleOffline, 9, 1)
	q.take(t, link.KindHello)
	h.m.receive(q, &link.Envelope{Kind: link.KindHello, Group: h.m.queue, Term: 5})
	seen := map[stanza.Account]bool{}
	for turn := 0; len(seen) < 3*attachPage; turn++ {
		h.m.finishTurn()
		if turn == 1 { // no credit: nothing is lost, and nothing is tried again before the tick
			q.err = link.ErrNoCredit
			h.m.finishTurn()
			q.err = nil
			n := len(q.got)
			h.m.finishTurn()
			if len(q.got) != n {
				t.Fatal("sent before the tick")
			}
			h.tick(50 * time.Millisecond)
		}
		if len(q.got) > 2*attachPage {
			t.Fatalf("%d attachments in a turn", len(q.got))
		}
		for _, e := range q.got {
			if e.Kind != link.KindAttach || seen[e.Account] || e.Slot != uint32(e.Account/testShards-1) {
				t.Fatalf("%v %+v", e.Kind, e)
			}
			seen[e.Account] = true
		}
		q.got = nil
		if turn > 10 {
			t.Fatalf("%d of %d after %d turns", len(seen), 3*attachPage, turn)
		}
	}
	h.m.finishTurn()
	if e := q.take(t, link.KindAttachDone); e.Term != 5 || e.Group != h.m.queue {
		t.Errorf("%+v", e)
	}
	h.m.finishTurn()
	q.nothing(t)

	// A newer leader elsewhere gets them all; a hello of an older term changes nothing.
	r := h.up(link.RoleOffline, 10, 1)
	r.take(t, link.KindHello)
	h.send(r, link.Envelope{Kind: link.KindHello, Group: h.m.queue, Term: 4})
	r.nothing(t)
	h.send(r, link.Envelope{Kind: link.KindHello, Group: h.m.queue, Term: 6})
	for range 10 {
		h.m.finishTurn()
	}
	if len(r.got) != 3*attachPage+1 || r.got[len(r.got)-1].Kind != link.KindAttachDone {
		t.Errorf("%d envelopes", len(r.got))
	}
	q.nothing(t)

	// With no leader left an older term is as good: the group's disk was lost, and its terms begin again.
	h.m.down(r)
	q.got = nil
	h.send(q, link.Envelope{Kind: link.KindHello, Group: h.m.queue, Term: 1})
	for range 10 {
		h.m.finishTurn()
	}
	if len(q.got) != 3*attachPage+1 {
		t.Errorf("%d envelopes after the loss of the disk", len(q.got))
	}
}

func TestOwedOverflow(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	h.send(s, link.Envelope{Kind: link.KindRebindDone, Term: h.m.term})
	q := h.offline(1)
	q.got = nil
	h.fill(s, 10)
	q.err = link.ErrNoCredit
	for range maxOwed/10 + 1 {
		for k := range h.m.bindings.all() {
			h.m.attach(k, 0, 0)
		}
	}
	if len(h.m.attaches.owed) > maxOwed {
		t.Fatalf("%d owed", len(h.m.attaches.owed))
	}
	q.err = nil
	h.tick(50 * time.Millisecond)
	seen := map[stanza.Account]bool{}
	for range 10 {
		h.m.finishTurn()
		for _, e := range q.got {
			seen[e.Account] = true
		}
		q.got = nil
	}
	if len(seen) != 10 || len(h.m.attaches.owed) != 0 {
		t.Errorf("%d devices attached, %d owed", len(seen), len(h.m.attaches.owed))
	}
}

func TestAttachDoneWithoutGateways(t *testing.T) {
	h := newHarness(t, nil)
	q := h.offline(1)
	h.tick(9 * time.Second)
	q.nothing(t)
	h.tick(time.Second)
	q.take(t, link.KindAttachDone)
	h.tick(time.Second)
	q.nothing(t)
}

// TestAttachmentsLeaveCredit: re-sending attachments to a new leader does not take the credit that messages need.
func TestAttachmentsLeaveCredit(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	h.send(s, link.Envelope{Kind: link.KindRebindDone, Term: h.m.term})
	h.fill(s, 10)
	q := h.up(link.RoleOffline, 9, 1)
	q.take(t, link.KindHello)
	q.spent = true
	h.send(q, link.Envelope{Kind: link.KindHello, Group: h.m.queue, Term: 5})
	h.m.finishTurn()
	q.nothing(t)
	h.m.store(h.m.peers[s].gw, &link.Envelope{Kind: link.KindMessage, Slot: 1, Gen: 1, ID: 1})
	q.take(t, link.KindStore)
	q.spent = false
	h.tick(50 * time.Millisecond)
	if len(q.got) != 11 {
		t.Errorf("%d envelopes", len(q.got))
	}
}

// TestGatewaysExpireOneByOne: of many gateways that are gone at once each tick drops one, so that no turn walks all bindings again and
// again, and the queue's leader hears of every session.
func TestGatewaysExpireOneByOne(t *testing.T) {
	h := newHarness(t, nil)
	q := h.offline(1)
	const gateways, each = 20, 10
	var down []*fakeStream
	for n := range gateways {
		s := h.gateway(uint64(1+n), 1)
		gw := h.m.peers[s].gw
		for i := range each {
			k := keyOf(stanza.Account((n*each+i+1)*testShards+testShard), 1)
			h.m.bindings.set(k, binding{serial: 1, gateway: gw.index, slot: uint32(i), gen: 1})
		}
		down = append(down, s)
	}
	for _, s := range down {
		h.m.down(s)
	}
	h.tick(h.m.cfg.GatewayGrace.D() - time.Millisecond)
	q.got = nil
	h.tick(time.Millisecond)
	for n := 1; n <= gateways; n++ {
		if got := h.m.bindings.len(); got != (gateways-n)*each {
			t.Fatalf("%d bindings after %d ticks", got, n)
		}
		h.tick(50 * time.Millisecond)
	}
	detached := 0
	for _, e := range q.got {
		if e.Kind == link.KindDetach {
			detached++
		}
	}
	if detached != gateways*each || len(h.m.gateways.byID) != 0 {
		t.Errorf("%d detached, %d gateways left", detached, len(h.m.gateways.byID))
	}
}
