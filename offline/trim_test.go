package offline

import (
	"testing"

	"linecard.example/internal/link"
)

// TestTrim: behind a burst a group keeps no room of it, and goes on as before.
func TestTrim(t *testing.T) {
	h := newHarness(t, 1, nil)
	m := h.m()
	gw := h.peer(link.RoleGateway, 1, 0)
	for n := uint64(1); n <= 2000; n++ {
		gw.store(7, 1, n, n-1, 9, 1)
	}
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	for n := uint64(1); n <= 2000; n++ {
		e, id := gw.delivered()
		if id != n {
			t.Fatalf("message %d, want %d", id, n)
		}
		h.post(deliveryAck(e, n))
		if n == 1000 {
			m.trim() // in the middle of it, nothing is lost
		}
	}
	gw.fence()
	b := m.t.ahead()
	m.flush(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	m.trim()
	if n := cap(m.rooms) + cap(m.spare) + cap(m.ready) + cap(m.dirtyQueues); n != 0 {
		t.Errorf("room for %d is kept", n)
	}
	gw.store(7, 1, 2001, 2000, 9, 1)
	if _, id := gw.delivered(); id != 2001 {
		t.Errorf("message %d", id)
	}
}
