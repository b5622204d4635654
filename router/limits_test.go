package router

import (
	"testing"
	"time"
	"unsafe"

	"linecard.example/internal/stanza"
)

func TestBucketTable(t *testing.T) {
	b := newBucketTable(256, 2, 10, 7)
	now := time.Hour
	for i, step := range []struct {
		after int64 // ms
		ok    bool
		wait  int64 // ms
	}{{0, true, 0}, {0, true, 0}, {0, false, 100}, {60, false, 40}, {40, true, 0}, {10_000, true, 0}, {0, true, 0}, {0, false, 100}} {
		now += time.Duration(step.after) * time.Millisecond
		if wait, ok := b.take(1, 2, now); ok != step.ok || wait.Milliseconds() != step.wait {
			t.Errorf("step %d: %v after %v, want %v after %d ms", i, ok, wait, step.ok, step.wait)
		}
	}
	if _, ok := b.take(2, 1, now); !ok {
		t.Error("the pair turned round shares the bucket")
	}
	slow := newBucketTable(256, 1, 0.0001, 7)
	slow.take(1, 1, 0)
	if wait, ok := slow.take(1, 1, 1); ok || wait != 10*time.Minute {
		t.Errorf("wait %v, want the cap", wait)
	}
	for _, rate := range []float64{1e-9, 1, 1e9} {
		huge := newBucketTable(256, 1e9, rate, 7)
		for range 1000 {
			if _, ok := huge.take(1, 1, now); !ok {
				t.Fatalf("rate %v: empty", rate)
			}
		}
	}
}

// TestBucketEviction: a full set forgets the entry that was used longest ago, so nearest to full, and no other.
func TestBucketEviction(t *testing.T) {
	b := newBucketTable(ways, 1, 1.0/(24*3600), 7)
	if b.sets.Len() != 1 {
		t.Fatalf("%d sets", b.sets.Len())
	}
	for i := range uint64(ways) {
		b.take(i, 0, time.Duration(100+i)*time.Hour)
	}
	b.take(99, 0, 104*time.Hour)
	for i := range uint64(ways) {
		i = ways - 1 - i // the newest first, so that a look at them replaces nothing
		if _, ok := b.take(i, 0, 104*time.Hour); ok != (i == 0) {
			t.Errorf("entry %d forgotten: %v", i, ok)
		}
	}
}

func TestContactTable(t *testing.T) {
	c := newContactTable(ways, 7)
	for i := range stanza.Account(ways) {
		c.add(i+1, 50)
	}
	c.add(1, 50) // used again: now the newest
	c.add(9, 50)
	for _, test := range []struct {
		from stanza.Account
		has  bool
	}{{1, true}, {2, false}, {3, true}, {4, true}, {9, true}} {
		if c.has(test.from, 50) != test.has {
			t.Errorf("%d: %v", test.from, !test.has)
		}
		if c.has(50, test.from) {
			t.Errorf("%d in the other direction", test.from)
		}
	}
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(bucket{}); n != 16 {
		t.Errorf("a bucket has %d bytes", n)
	}
	if n := unsafe.Sizeof(binding{}); n > 24 {
		t.Errorf("a binding has %d bytes", n)
	}
	if n := setsFor(16384) * ways; n != 16384 {
		t.Errorf("%d entries", n)
	}
}

func TestConfig(t *testing.T) {
	if faults := DefaultConfig().Validate(); len(faults) > 0 {
		t.Errorf("default: %v", faults)
	}
	if faults := (Config{}).Validate(); len(faults) != 18 {
		t.Errorf("the zero config has %d faults, want one for each field: %v", len(faults), faults)
	}
}
