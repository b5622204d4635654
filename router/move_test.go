package router

import (
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// moving is a session bound at old, and the next process of old's line beside it.
type moving struct {
	*harness
	q, old, heir *fakeStream
	c            client
	serial       link.Fence
}

func newMoving(t *testing.T) *moving {
	h := newHarness(t, nil)
	m := &moving{harness: h, q: h.offline(1)}
	id := link.GatewayID{Node: 1, Incarnation: link.NewIncarnation(3, 77)}
	m.old = h.gateway(id.Node, id.Incarnation)
	m.heir = h.gateway(id.Node, id.Successor(1, 4).Incarnation)
	m.c = h.register(m.old, handleIn("ann"), 1, 5)
	bound, _ := h.m.bindings.get(keyOf(m.c.account, 1))
	m.serial = bound.serial
	m.q.got = nil
	return m
}

func (m *moving) rebind(s *fakeStream, slot uint32, serial link.Fence) {
	m.send(s, link.Envelope{Kind: link.KindRebind, Account: m.c.account, Device: 1, Slot: slot, Gen: 1, Serial: serial, Epoch: 42, ID: 9})
}

func (m *moving) at(t *testing.T, incarnation uint64, slot uint32) {
	t.Helper()
	b, _ := m.m.bindings.get(keyOf(m.c.account, 1))
	if id := m.m.gateways.at(b.gateway).id; id.Incarnation != incarnation || b.slot != slot || b.serial != m.serial {
		t.Errorf("bound at %+v: %+v", id, b)
	}
}

// TestMove: a session that the next process of its gateway's line re-binds is moved: nobody is displaced, and the queue's leader hears
// which attachment goes on. What the old process says of it afterwards counts for nothing.
func TestMove(t *testing.T) {
	m := newMoving(t)
	heir := link.GatewayID{Node: 1, Incarnation: link.NewIncarnation(3, 77)}.Successor(1, 4)
	m.rebind(m.heir, 8, m.serial)
	m.heir.nothing(t)
	m.old.nothing(t)
	m.at(t, heir.Incarnation, 8)
	e := m.q.take(t, link.KindAttach)
	if e.Gateway != heir || e.Slot != 8 || e.Epoch != 42 || e.ID != 9 || e.Serial <= m.serial {
		t.Errorf("attach %+v", e)
	}
	m.q.nothing(t)

	// The old process's own re-binding of it was on the way, and its end of the session too.
	m.rebind(m.old, 5, m.serial)
	m.send(m.old, link.Envelope{Kind: link.KindUnbind, Account: m.c.account, Device: 1, Slot: 5, Gen: 1, Serial: m.serial})
	m.send(m.old, link.Envelope{Kind: link.KindGone, Account: m.c.account, Device: 1, Slot: 5, Gen: 1})
	m.m.down(m.old)
	m.settle()
	m.q.nothing(t)
	m.old.nothing(t)
	m.at(t, heir.Incarnation, 8)

	// And it can be displaced like any other.
	other := m.gateway(2, 1)
	m.send(other, m.bindEnv(m.c, 3, 0))
	other.take(t, link.KindBound)
	if e := m.heir.take(t, link.KindClose); e.Reason != stanza.ReasonDisplaced || e.Slot != 8 {
		t.Errorf("close %+v", e)
	}
}

// TestMoveComesLate: the device was bound anew while its session moved: the newer session keeps it.
func TestMoveComesLate(t *testing.T) {
	m := newMoving(t)
	other := m.gateway(2, 1)
	m.send(other, m.bindEnv(m.c, 3, 0))
	other.take(t, link.KindBound)
	m.old.take(t, link.KindClose)
	m.rebind(m.heir, 8, m.serial)
	if e := m.heir.take(t, link.KindClose); e.Reason != stanza.ReasonDisplaced || e.Slot != 8 {
		t.Errorf("close %+v", e)
	}
	other.nothing(t)
}

// TestTakenBack: a hand-over that failed leaves the session in its process under another slot.
func TestTakenBack(t *testing.T) {
	m := newMoving(t)
	m.rebind(m.old, 6, m.serial)
	m.old.nothing(t)
	m.at(t, link.NewIncarnation(3, 77), 6)
	if e := m.q.take(t, link.KindAttach); e.Slot != 6 || e.Epoch != 42 {
		t.Errorf("attach %+v", e)
	}
}

// TestSameSerialElsewhere: a gateway of another line cannot take a session by its serial.
func TestSameSerialElsewhere(t *testing.T) {
	m := newMoving(t)
	stranger := m.gateway(1, link.NewIncarnation(4, 77))
	m.rebind(stranger, 8, m.serial)
	if e := stranger.take(t, link.KindClose); e.Reason != stanza.ReasonDisplaced {
		t.Errorf("close %+v", e)
	}
	m.at(t, link.NewIncarnation(3, 77), 5)
}
