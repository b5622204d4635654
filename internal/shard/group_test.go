package shard

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

var testGroup = stanza.QueueGroup(3)

func TestProposeCommitRestart(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig(fs)
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 1000)
	if n := m.committed(t); n != 1000 {
		t.Fatalf("%d committed", n)
	}
	for i, r := range m.results() {
		if r.r != uint64(i+1) {
			t.Fatalf("result %d is %d", i, r.r)
		}
	}
	want := hashOf(t, g, m)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}

	cfg.Bootstrap = false
	h = openHost(t, cfg)
	m = newToy()
	g = openToy(t, h, testGroup, m)
	if got := hashOf(t, g, m); got != want {
		t.Fatalf("hash %x after restart, want %x", got, want)
	}
	if m.replays != 0 || m.loadedF == 0 {
		t.Fatalf("F=%d, %d entries applied again after a clean close", m.loadedF, m.replays)
	}
	if len(m.results()) != 0 {
		t.Fatal("outcomes of another opening were delivered")
	}
	propose(t, g, m, 0, 10)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotTruncatesAndRestarts(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig(fs)
	cfg.PackCommands = 1
	cfg.SnapshotCount = 100
	cfg.TrailingLogs = 10
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 500)
	if err := g.Snapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	s := h.Status()[0]
	first, _ := g.store.FirstIndex()
	if s.Snapshot < 500 || s.Flushed < s.Snapshot || s.Last-first != 9 {
		t.Fatalf("first %d, status %+v", first, s)
	}
	propose(t, g, m, 500, 520)
	want := hashOf(t, g, m)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = openHost(t, cfg)
	m = newToy()
	g = openToy(t, h, testGroup, m)
	if got := hashOf(t, g, m); got != want {
		t.Fatalf("hash %x, want %x", got, want)
	}
}

// Everything truncated: the log is empty, but there is a snapshot, so the group opens.
func TestEmptyLogAfterSnapshot(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.NoTrailing = true
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 100)
	if err := g.Snapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	if first, _ := g.store.FirstIndex(); first != 0 {
		t.Fatalf("first index %d", first)
	}
	want := hashOf(t, g, m)
	h.Close()
	cfg.Bootstrap = false
	h = openHost(t, cfg)
	m = newToy()
	g = openToy(t, h, testGroup, m)
	if got := hashOf(t, g, m); got != want {
		t.Fatalf("hash %x, want %x", got, want)
	}
	propose(t, g, m, 0, 100)
}
