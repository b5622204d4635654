package router

import (
	"errors"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// TestStorageFull: below the free-space floor nothing is taken that grows the directory, each with storage_full and a time to come back;
// what accounts have, and what makes room, goes on.
func TestStorageFull(t *testing.T) {
	h, s, _, ann, bob := pair(t, nil)
	h.g.low = true
	wait := uint32(DefaultConfig().FullRetryAfter.D().Milliseconds())

	h.send(s, h.registerEnv(handleIn("zoe"), key(9), 40))
	if e := s.take(t, link.KindClose); e.Slot != 40 || e.Reason != stanza.ReasonStorageFull || e.RetryAfter != wait || !e.Reason.Closes() {
		t.Errorf("registration: %v after %d", e.Reason, e.RetryAfter)
	}
	h.send(s, link.Envelope{Kind: link.KindRedeem, Slot: 41, Gen: 1, Payload: redeemPayload(9, "zoe", "code")})
	if e := s.take(t, link.KindRedeemed); e.Slot != 41 || e.Reason != stanza.ReasonStorageFull || e.RetryAfter != wait {
		t.Errorf("invite: %v after %d", e.Reason, e.RetryAfter)
	}
	k := key(50)
	if e := h.queryError(h.query(s, bob, stanza.Query{ID: 9, Op: stanza.OpLink, Key: k[:]})); e.Reason != stanza.ReasonStorageFull || e.RetryAfter != wait {
		t.Errorf("link: %v after %d", e.Reason, e.RetryAfter)
	}
	reply := make(chan error, 1)
	h.m.invite("code", time.Hour, reply)
	if err := <-reply; !errors.Is(err, errStorage) {
		t.Errorf("making an invite: %v", err)
	}

	h.send(s, h.registerEnv(handleIn("bob"), bob.key, 42)) // signs in again by name
	if e := s.take(t, link.KindBound); e.Account != bob.account {
		t.Errorf("bound %d", e.Account)
	}
	s.got = nil // the displaced session's close
	h.result(h.query(s, ann, stanza.Query{ID: 10, Op: stanza.OpUnlink, Device: 2}))

	h.g.low = false
	s.got = nil
	h.register(s, handleIn("zoe"), 9, 43)
}
