package shard

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
)

// TestLogTail holds a store that keeps its newest entries against one that reads all of them from disk: entries that follow, that take the
// place of others, that come behind a gap, and logs that are cut at either end. What is kept stays within its bounds.
func TestLogTail(t *testing.T) {
	db := openDB(t, vfs.NewMem())
	defer db.Close()
	with, without := openStore(t, db, 1), openStore(t, db, 2)
	with.tail.on = true
	rng := rand.New(rand.NewPCG(1, 2))
	hits := 0
	for range 3000 {
		first, last := with.first, with.last
		switch rng.IntN(8) {
		case 0: // the end is cut, and others come
			if last > first {
				cut := last - rng.Uint64N(min(last-first, 5)+1)
				both(t, with, without, func(s *logStore) error { return s.DeleteRange(cut, last) })
			}
		case 1: // the beginning
			if last > first {
				cut := first + rng.Uint64N(last-first+1)/2
				both(t, with, without, func(s *logStore) error { return s.DeleteRange(first, cut) })
			}
		case 2:
			at := last + rng.Uint64N(2)
			if rng.IntN(10) == 0 { // a state was received
				both(t, with, without, func(s *logStore) error { return s.DeleteRange(0, at) })
				both(t, with, without, func(s *logStore) error { return s.StoreLogs(randomLogs(rand.New(rand.NewPCG(at, 1)), at+5)) })
			}
		default:
			seed := rng.Uint64()
			both(t, with, without, func(s *logStore) error { return s.StoreLogs(randomLogs(rand.New(rand.NewPCG(seed, 1)), last+1)) })
		}
		for range 4 {
			index := with.last - min(rng.Uint64N(80), with.last)
			if _, ok := with.tail.get(index); ok {
				hits++
			}
			var a, b raft.Log
			errA, errB := with.GetLog(index, &a), without.GetLog(index, &b)
			if !errors.Is(errA, errB) || !reflect.DeepEqual(a, b) {
				t.Fatalf("entry %d of %d to %d: %+v, %v; on disk %+v, %v", index, with.first, with.last, a, errA, b, errB)
			}
		}
		if n := len(with.tail.logs); n > tailEntries || n > 2 && with.tail.bytes > tailBytes {
			t.Fatalf("%d entries of %d bytes are kept", n, with.tail.bytes)
		}
	}
	if hits < 1000 || len(without.tail.logs) != 0 {
		t.Errorf("%d of 12000 were kept; %d without being asked to", hits, len(without.tail.logs))
	}
}

// both does the same with two stores.
func both(t *testing.T, a, b *logStore, do func(*logStore) error) {
	t.Helper()
	if err := errors.Join(do(a), do(b)); err != nil {
		t.Fatal(err)
	}
}

// randomLogs are some entries from an index on, a few of them long.
func randomLogs(rng *rand.Rand, from uint64) (logs []*raft.Log) {
	for range 1 + rng.IntN(4) {
		l := entry(from, 1+rng.Uint64N(9))
		if rng.IntN(20) == 0 {
			l.Data = make([]byte, rng.IntN(tailBytes))
		}
		logs, from = append(logs, l), from+1
	}
	return logs
}
