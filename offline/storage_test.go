package offline

import (
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// TestStorageFull: below the free-space floor a new message is refused with a time to come back, one that was stored before is acked
// again, and what waits is delivered and acked; with space back the same id is taken.
func TestStorageFull(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.store(7, 1, 1, 0, 9, 1)
	gw.take(link.KindAck)
	h.rafts[0].full = true
	gw.store(7, 1, 2, 1, 9, 1)
	if r := gw.refused(); r.ID != 2 || r.Reason != stanza.ReasonStorageFull || r.RetryAfter != 30_000 || r.Reason.Final() {
		t.Errorf("%+v", r)
	}
	gw.store(7, 1, 1, 0, 9, 1)
	if e := gw.take(link.KindAck); e.ID != 1 {
		t.Errorf("a stored message was answered %+v", e)
	}
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	e, id := gw.delivered()
	if id != 1 {
		t.Errorf("delivered %d", id)
	}
	h.post(deliveryAck(e, 1))
	if n := h.m().queue(keyOf(9, 1)).entries(); n != 0 {
		t.Errorf("%d entries stay", n)
	}
	h.rafts[0].full = false
	gw.store(7, 1, 2, 1, 9, 1)
	if e := gw.take(link.KindAck); e.ID != 2 {
		t.Errorf("%+v", e)
	}
}
