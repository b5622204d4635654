package shard

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

// reclaimable is a group that only counts.
type reclaimable struct {
	hosted // nil: what is not asked here
	err    error
	calls  int
}

func (r *reclaimable) status() GroupStatus   { return GroupStatus{Applied: 1} }
func (r *reclaimable) scrubIfDue() time.Time { return time.Time{} }
func (r *reclaimable) Close() error          { return nil }
func (r *reclaimable) hash(context.Context) (GroupHash, error) {
	return GroupHash{}, nil
}
func (r *reclaimable) reclaim() error {
	r.calls++
	return r.err
}

// TestReclaimGoesOn: a group that cannot give space back holds up no other, and is asked again, though nothing is applied meanwhile.
func TestReclaimGoesOn(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	var now time.Duration
	cfg.Tick, cfg.Monotonic = time.Hour, func() time.Duration { return now } // this test is the scrubber
	cfg.Disk = new(Disk)
	cfg.Disk.low.Store(true)
	h := openHost(t, cfg)
	a, b := &reclaimable{err: errors.New("not now")}, &reclaimable{err: errors.New("not now")}
	for g, x := range []hosted{a, b} {
		must(t, h.reserve(stanza.Group(g)))
		h.opened(stanza.Group(g), x)
	}
	for range 2 {
		now += 2 * reclaimEvery
		h.reclaimIfLow()
	}
	if a.calls != 2 || b.calls != 2 {
		t.Errorf("asked %d and %d times, want 2", a.calls, b.calls)
	}
	a.err, b.err = nil, errBehind
	for range 2 {
		now += 2 * reclaimEvery
		h.reclaimIfLow()
	}
	if a.calls != 3 || b.calls != 3 {
		t.Errorf("asked %d and %d times, want 3", a.calls, b.calls)
	}
}
