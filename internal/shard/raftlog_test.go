package shard

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
)

// An entry that is gone from the middle of the log ends neither the process with raft's panic nor the opening without a word: it is refused
// with what is missing and what to do.
func TestOpenWithoutAnEntry(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig(fs)
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, 1, m)
	propose(t, g, m, 0, 100)
	last, err := g.store.LastIndex()
	noErr(t, err, h.log.Delete(logKey(1, last-1), pebble.Sync))
	onShard(t, g, func() { g.stopGroup(errRefused) }) // no flush and no snapshot that would cover it
	noErr(t, h.Close())

	cfg.Bootstrap = false
	h = openHost(t, cfg)
	if _, err := Open[int, uint64](h, 1, newToy()); !errors.Is(err, errLogRecord) || !strings.Contains(err.Error(), remedy) {
		t.Errorf("opened without entry %d: %v", last-1, err)
	}
	if err := <-h.Failed(); !errors.Is(err, errLogRecord) {
		t.Errorf("the host says %v", err)
	}
}

// While it runs, the goroutine that meets the gap ends, and the host stops. A gap below the snapshot, and what was never there, are what raft
// is told as ever.
func TestLogThatLacksAnEntry(t *testing.T) {
	h := openHost(t, testConfig(vfs.NewMem()))
	m := newToy()
	g := openToy(t, h, 1, m)
	propose(t, g, m, 0, 100)
	noErr(t, g.Snapshot(t.Context()))
	propose(t, g, m, 100, 200)
	last, err := g.store.LastIndex()
	noErr(t, err)
	s, at := raftLog{g.store, h}, g.snaps.index.Load()
	noErr(t, h.log.Delete(logKey(1, last), pebble.Sync), h.log.Delete(logKey(1, at-1), pebble.Sync))
	var l raft.Log
	for _, index := range []uint64{0, at - 1, last + 1} {
		if err := s.GetLog(index, &l); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d, snapshot at %d: %v", index, at, err)
		}
	}
	noErr(t, s.GetLog(last-1, &l))
	returned, done := false, make(chan struct{})
	go func() {
		defer close(done)
		_ = s.GetLog(last, &l)
		returned = true
	}()
	<-done
	if returned {
		t.Error("raft was told of a gap, and would panic")
	}
	if err := <-h.Failed(); !errors.Is(err, errLogRecord) {
		t.Errorf("the host says %v", err)
	}
}

// raft's gauge of the oldest entry may read when the group has ended, was dropped, or the database is closed: it is told so, which neither
// ends the process with Pebble's panic nor passes for damage.
func TestLogReadAfterItsEnd(t *testing.T) {
	h := openHost(t, testConfig(vfs.NewMem()))
	m := newToy()
	g := openToy(t, h, 1, m)
	propose(t, g, m, 0, 100)
	s := raftLog{g.store, h}
	first, err := s.FirstIndex()
	noErr(t, err)
	read := func(when string) {
		var l raft.Log
		if err := s.GetLog(first, &l); !errors.Is(err, errClosed) {
			t.Errorf("%s: %v", when, err)
		}
		select {
		case err := <-h.Failed():
			t.Errorf("%s: the host says %v", when, err)
		default:
		}
	}
	noErr(t, g.Close())
	read("closed")
	noErr(t, h.Drop(1))
	read("dropped")
	noErr(t, h.Close())
	read("without a database")
}
