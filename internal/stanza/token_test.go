package stanza

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
)

// Tokens of a released minor version never change: clients carry them. A new minor version adds a line here.
var pinnedTokens = []string{
	"9d60a8fa24ab5289761bf667e7ae85d7c3d6eb26dbeca46943cdc60b6bb5749a",
	"bbe2f43304174d0370b43b2ed734b526501ca68a82db02cf8edbde088c3e5a3c",
	"65050bc128197d15fabecbdc7d45f2157806e614fc1c1ed3b8ede5e8fcf08b1f",
	"d8caafaa88554823e8a63f8cea905fcd74e4421e7ed28720a5ce93eadef90a2b",
}

// Reasons are pinned up to this number; a new one may be added behind without touching the pin.
const (
	pinnedReasonCount = 46
	pinnedReasons     = "17bd60adccd73b481fcfaef2beaf2b6e9bc3c2e05dda91a68cff04e3a0947125"
)

func TestTokensPinned(t *testing.T) {
	if len(tokenHashes) != len(pinnedTokens) || len(tokenHashes) != Minor+1 {
		t.Fatalf("%d minor versions, %d pinned, Minor %d", len(tokenHashes), len(pinnedTokens), Minor)
	}
	for i, want := range pinnedTokens {
		if tokenHashes[i] != want {
			t.Errorf("minor version %d changed: %s, pinned %s", i, tokenHashes[i], want)
		}
	}
}

func TestReasonsPinned(t *testing.T) {
	h := sha256.New()
	for _, r := range Reasons[:pinnedReasonCount] {
		fmt.Fprintf(h, "%d %s\n", r, r)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != pinnedReasons {
		t.Errorf("reasons changed: %s", got)
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		TagMessage.String():       "message",
		Tag(0).String():           "unknown",
		Tag(100).String():         "unknown",
		Tag(255).String():         "unknown",
		AttrRetryAfter.String():   "retry_after",
		Attr(62).String():         "unknown",
		OpDeviceList.String():     "device_list",
		Op(255).String():          "unknown",
		ReasonQueueFull.String():  "queue_full",
		Reason(0).String():        "unknown",
		Reason(0xffff).String():   "unknown",
		ReasonPeerClosed.String(): "peer_closed",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if len(Tags) != 23 || len(Attrs) != 34 || len(Ops) != 11 || len(Reasons) != 48 {
		t.Errorf("%d tags, %d attributes, %d ops, %d reasons", len(Tags), len(Attrs), len(Ops), len(Reasons))
	}
	if TagRetry.Delivery() || !TagMessage.Delivery() || !Tag(127).Delivery() {
		t.Error("Delivery is not tags from 64 on")
	}
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		r                      Reason
		retry                  Retry
		final                  bool
		closes, refuses, drops bool
	}{
		{ReasonDisplaced, RetryNever, false, true, false, false},
		{ReasonWorkerFull, RetryNow, false, true, false, false},
		{ReasonBusy, RetryLater, false, true, true, false},
		{ReasonForbidden, RetryNever, true, true, true, false},
		{ReasonUnknownAccount, RetryNever, true, true, true, false},
		{ReasonBlocked, RetryNever, true, false, true, false},
		{ReasonTooLarge, RetryNever, true, false, true, false},
		{ReasonInternal, RetryBackoff, false, true, true, false},
		{ReasonGap, RetryLater, false, false, true, false},
		{ReasonPeerClosed, RetryBackoff, false, true, false, false},
		{ReasonExpired, RetryBackoff, false, false, false, true},
		{Reason(9999), RetryBackoff, false, false, false, false},
	} {
		if c.r.Retry() != c.retry || c.r.Final() != c.final || c.r.Closes() != c.closes || c.r.Refuses() != c.refuses || c.r.Drops() != c.drops {
			t.Errorf("%s: retry %d final %v closes %v refuses %v drops %v", c.r, c.r.Retry(), c.r.Final(), c.r.Closes(), c.r.Refuses(), c.r.Drops())
		}
	}
}
