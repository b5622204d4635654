package offline

import (
	"testing"

	"linecard.example/internal/link"
)

// TestMove hands a session over with deliveries written, on their way and unwritten: the attachment goes on under the new name, from the
// number that the session expects, and nothing that was written comes again.
func TestMove(t *testing.T) {
	h := newHarness(t, 1, nil)
	old, heir := h.peer(link.RoleGateway, 1, 0), h.peer(link.RoleGateway, 2, 0)
	for id := uint64(1); id <= 4; id++ {
		old.store(7, 1, id, id-1, 9, 1)
	}
	old.attach(link.KindAttach, 9, 1, 7, 1)
	first, _ := old.delivered()
	for range 3 {
		old.delivered()
	}
	h.post(deliveryAck(first, 1))
	// Of the others the session has 2, and 3 and 4 reached the old process too late.
	moved := link.Envelope{Kind: link.KindAttach, Gateway: heir.id, Account: 9, Device: 1, Slot: 70, Gen: 5, Serial: 2, Epoch: first.Epoch, ID: 3}
	h.post(moved)
	for want := uint64(3); want <= 4; want++ {
		if e, id := heir.delivered(); e.ID != want || id != want || e.Slot != 70 || e.Gen != 5 || e.Epoch != first.Epoch {
			t.Fatalf("message %d in %+v", id, e)
		}
	}
	if h.m().attached != 1 {
		t.Errorf("%d attached", h.m().attached)
	}

	// The dead name: what still comes from there ends nothing and takes nothing.
	h.post(deliveryAck(first, 4), link.Envelope{Kind: link.KindDetach, Gateway: old.id, Account: 9, Device: 1, Slot: 7, Gen: 1, Serial: 1})
	old.stop()
	a := h.attached(keyOf(9, 1))
	if a == nil || a.acked != 1 {
		t.Fatalf("attachment %+v", a)
	}
	first.Slot, first.Gen = 70, 5
	h.post(deliveryAck(first, 4))
	if n := h.m().queue(keyOf(9, 1)).entries(); n != 0 {
		t.Errorf("%d entries stay", n)
	}

	// And a new session of the device begins anew.
	heir.store(7, 1, 5, 4, 9, 1)
	heir.attach(link.KindAttach, 9, 1, 71, 2)
	for {
		if e, id := heir.delivered(); e.Slot == 71 {
			if e.ID != 1 || id != 5 || e.Epoch == first.Epoch {
				t.Errorf("message %d in %+v", id, e)
			}
			break
		}
	}
}

// TestMoveOfUnknownAttachment: a leader that does not have the attachment any more makes a new one.
func TestMoveOfUnknownAttachment(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.store(7, 1, 1, 0, 9, 1)
	h.post(link.Envelope{Kind: link.KindAttach, Gateway: gw.id, Account: 9, Device: 1, Slot: 70, Gen: 5, Serial: 2, Epoch: 99, ID: 3})
	if e, id := gw.delivered(); e.ID != 1 || id != 1 || e.Epoch == 99 {
		t.Errorf("message %d in %+v", id, e)
	}
}
