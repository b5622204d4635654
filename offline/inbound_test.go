package offline

import (
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// TestNumbersOutOfRange: an account or a device that cannot be is dropped, whatever asks for it: keys are packed from these numbers.
func TestNumbersOutOfRange(t *testing.T) {
	h := newHarness(t, 1, nil)
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.fence()
	for kind := link.KindHello + 1; kind.String() != "unknown"; kind++ {
		for _, e := range []link.Envelope{
			{Account: 1<<64 - 1, Device: 1}, {Account: 1 << 47, Device: 1}, {Account: stanza.MaxAccount + 1, Device: 1},
			{Account: 9, Device: 1<<32 - 1}, {Account: 9, Device: stanza.MaxDevice + 1},
		} {
			e.Kind, e.Group, e.Gateway, e.Slot, e.Gen, e.ID = kind, h.m().id, gw.id, 7, 1, 1
			h.post(e)
		}
	}
	if !isAsleep(h.m()) || h.m().attached != 1 {
		t.Error("the attachment that was there is not what it was")
	}
}
