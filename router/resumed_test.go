package router

import (
	"bytes"
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// resumed makes of a bind by key what a gateway sends for a session that showed a ticket.
func resumed(e link.Envelope) link.Envelope {
	hash := wire.StaticHash([32]byte(e.Payload))
	e.Flags |= link.FlagResumed
	e.Payload = (&stanza.Bind{Account: e.Account, Device: e.Device, ID: e.ID}).Append(hash[:])
	return e
}

// TestBindResumed: a ticket's session binds like any other, whether its id is to be noted or not, until the device is unlinked.
func TestBindResumed(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	c := h.register(s, handleIn("ann"), 1, 5)
	second := h.link(s, c, 2)
	hash := wire.StaticHash(second.key)
	for slot, id := range map[uint32]uint64{7: 5000, 8: 0} {
		h.send(s, resumed(h.bindEnv(second, slot, id)))
		if e := s.take(t, link.KindBound); e.Slot != slot || e.Device != second.device || !bytes.HasPrefix(e.Payload, hash[:]) {
			t.Errorf("bound %+v", e)
		}
		s.got = nil // the one before is displaced
	}
	h.result(h.query(s, c, stanza.Query{ID: 3, Op: stanza.OpUnlink, Device: second.device}))
	s.got = nil
	h.send(s, resumed(h.bindEnv(second, 9, 0)))
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonUnlinked {
		t.Errorf("close %v: an unlinked device's ticket must be worth nothing", e.Reason)
	}
}
