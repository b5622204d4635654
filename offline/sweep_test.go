package offline

import (
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// A clock that is stepped by more than messages are kept expires nothing while stamps do not follow it. The next leadership begins with what
// the clock says: then what is old by it expires, when the first pass comes, and nothing that is younger.
func TestExpiryWithASteppedClock(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	store := func(from, to stanza.Account) {
		for a := from; a <= to; a++ {
			gw.store(20, 1, uint64(a), 0, a, 1)
			gw.take(link.KindAck)
		}
	}
	store(1, 5)
	h.now, h.rafts[0].ahead = h.now.Add(31*day), -31*day
	h.tick(time.Second)
	if h.m().entries != 5 || h.m().sweeps[0].next < h.now.UnixMilli() {
		t.Fatalf("%d entries stay, want 5, after a pass", h.m().entries)
	}
	h.m().Follow()
	h.rafts[0].ahead = 0
	h.m().Lead(2)
	store(6, 8)
	h.tick(50 * time.Second)
	if h.m().entries != 8 {
		t.Errorf("%d entries stay, want 8, before a pass", h.m().entries)
	}
	h.tick(20 * time.Second)
	if h.m().entries != 3 {
		t.Errorf("%d entries stay, want 3", h.m().entries)
	}
	for a := stanza.Account(1); a <= 8; a++ {
		if q := h.m().find(keyOf(a, 1)); (q.entries() == 1) != (a > 5) {
			t.Errorf("account %d: %d entries", a, q.entries())
		}
	}
}

// A clock that was ahead and is set right does not keep passes from coming, though the one before was planned by it; stamps stay ahead.
func TestPassesWithAClockSetBack(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	h.now = h.now.Add(40 * day)
	h.tick(time.Second) // a pass is done, the next is planned
	gw.store(20, 1, 1, 0, 1, 1)
	gw.take(link.KindAck)
	h.now, h.rafts[0].ahead = h.now.Add(-40*day), 40*day+31*day // as if a month had passed since
	h.tick(time.Hour + time.Second)
	if h.m().entries != 0 {
		t.Errorf("nothing expired within an hour")
	}
}
