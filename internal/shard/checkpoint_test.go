package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
)

// TestCheckpointUnderLoad takes checkpoints while commands are committed and snapshots cut the log, on files of the disk, whose WALs are
// read while they are written. Each must be whole, reach to what was committed before the call, and open as another node that has all of
// it and goes on in a later term.
func TestCheckpointUnderLoad(t *testing.T) {
	cfg := testConfig(vfs.Default)
	cfg.Dir = t.TempDir()
	cfg.SnapshotCount, cfg.TrailingLogs, cfg.FlushBytes, cfg.PackCommands = 40, 5, 4<<10, 4
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, testGroup, m)
	startLoad(t, g, m, 1<<30)
	for round := range 8 {
		waitFor(t, g, func() bool { return len(m.results()) >= 300*(round+1) })
		answered := m.committed(t)
		dir, last, err := h.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.Checkpoint(); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("a second one: %v", err)
		}
		waitFor(t, g, func() bool { return len(m.results()) >= answered+200 }) // what happens now is no concern of the copy
		i, err := Inspect(nil, dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(i.Faults) > 0 || len(i.Groups) != 1 || i.Groups[0].Last < last[testGroup] || last[testGroup] == 0 {
			t.Fatalf("round %d: %q, %+v, want entry %v", round, i.Faults, i.Groups, last)
		}
		f := newToyFold()
		hashes, ok := i.Replay(i.Groups[0], f)
		if !ok || f.count < uint64(answered) {
			t.Fatalf("round %d: %d commands in the copy, %d were answered before: %q", round, f.count, answered, i.Faults)
		}
		if err := i.Close(); err != nil {
			t.Fatal(err)
		}
		reseated(t, dir, i.Groups[0], hashes[0].Hash, f.count)
		if err := h.DropCheckpoint(); err != nil {
			t.Fatal(err)
		}
		if _, err := cfg.FS.Stat(dir); err == nil {
			t.Error("the checkpoint is still there")
		}
	}
	onShard(t, g, func() { m.onTurn = nil })
}

// reseated opens a checkpoint as another node's and holds it against what was in it.
func reseated(t *testing.T, dir string, was GroupFiles, hash, count uint64) {
	t.Helper()
	for range 2 { // a restore that was broken off is done again
		if err := Reseat(nil, dir, "n2", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	cfg := testConfig(vfs.Default)
	cfg.Dir, cfg.Bootstrap = dir, false
	if _, err := OpenHost(cfg); err == nil {
		t.Fatal("it opened as the node that it was copied of")
	}
	cfg.NodeID = "n2"
	h := openHost(t, cfg)
	m := newToy()
	var first uint64
	m.onTurn = func() {
		if first == 0 && m.count == count {
			first = m.Hash()
		}
	}
	g := openToy(t, h, testGroup, m)
	if term, _ := g.Leading(); term < was.Term+reseatTerms {
		t.Errorf("leads in term %d, the copy was of term %d", term, was.Term)
	}
	onShard(t, g, func() {
		if m.count != count || first != hash {
			t.Errorf("%d commands, hash %x; want %d, %x", m.count, first, count, hash)
		}
		m.onTurn = nil
	})
	propose(t, g, m, 0, 50)
	if err := g.Snapshot(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, nil, dir); len(got.faults) > 0 {
		t.Error(got.faults)
	}
}

// busyFS has a WAL written to while it is copied. The first read meets the end of what was written and finds zeros behind it, as in a file
// that is longer; then meanwhile is called, and the rest is read.
type busyFS struct {
	vfs.FS
	meanwhile func() // nil: nothing happens
}

func (f *busyFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, opts...)
	if err != nil || f.meanwhile == nil || path.Ext(name) != ".log" || path.Dir(name) != "d/log" {
		return file, err
	}
	return &busyFile{File: file, meanwhile: f.meanwhile}, nil
}

type busyFile struct {
	vfs.File
	at        int64
	meanwhile func()
}

func (f *busyFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	if f.meanwhile != nil {
		clear(p[n:])
		n, err = len(p), nil
		f.meanwhile()
		f.meanwhile = nil
	}
	f.at += int64(n)
	return n, err
}

// TestCheckpointWhileWritten: what is committed, flushed and made a snapshot of while the log is copied leaves a copy that is whole.
func TestCheckpointWhileWritten(t *testing.T) {
	fs := &busyFS{FS: vfs.NewMem()}
	h := openHost(t, testConfig(fs))
	m := newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 100)
	snapshot := make(chan error, 1)
	called := false
	fs.meanwhile = func() {
		if called {
			return
		}
		called = true
		propose(t, g, m, 100, 20_000) // over the end of the buffer
		onShard(t, g, func() { _ = g.flush(0) })
		if err := h.flushState(); err != nil {
			t.Error(err)
		}
		go func() { snapshot <- g.Snapshot(t.Context()) }()
	}
	dir, _, err := h.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if err := <-snapshot; !called || err != nil {
		t.Fatal(called, err)
	}
	i, err := Inspect(fs.FS, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if len(i.Faults) > 0 || len(i.Groups) != 1 {
		t.Fatalf("%q", i.Faults)
	}
	f := newToyFold()
	if _, ok := i.Replay(i.Groups[0], f); !ok || f.count < 100 || f.count > 20_000 {
		t.Errorf("%d commands in the copy, want 100 and more: %q", f.count, i.Faults)
	}
}

// TestReseatIsOneWrite: when the power is lost before it returned, the node is the one that it was, or the new one.
func TestReseatIsOneWrite(t *testing.T) {
	fs := vfs.NewStrictMem()
	restingHost(t, fs)
	for _, lost := range []bool{true, false} {
		fs.SetIgnoreSyncs(lost)
		if err := Reseat(fs, "d", "n2", time.Now()); err != nil {
			t.Fatal(err)
		}
		if lost {
			fs.ResetToSyncedState()
			fs.SetIgnoreSyncs(false)
		}
		i, err := Inspect(fs, "d")
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{true: "n1", false: "n2"}[lost]
		if len(i.Faults) > 0 || i.NodeID != want || len(i.Groups) != 3 {
			t.Fatalf("lost %v: node %s, %q", lost, i.NodeID, i.Faults)
		}
		for _, g := range i.Groups {
			if !slices.Equal(g.Voters, []string{want}) {
				t.Errorf("lost %v: %+v", lost, g)
			}
		}
		if err := i.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReseatBehindAReceivedState: tables that came from another replica may be ahead of the log. What is committed by the new node must not
// be taken for what they have.
func TestReseatBehindAReceivedState(t *testing.T) {
	fs := vfs.NewMem()
	h := openHost(t, testConfig(fs))
	m := newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 50)
	if err := g.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		propose(t, g, m, 50+n, 51+n)
	}
	count, snap := m.count, h.Status()[0].Snapshot
	if err := h.Close(); err != nil { // which flushes
		t.Fatal(err)
	}
	db, err := pebble.Open("d/log", &pebble.Options{FS: fs, FormatMajorVersion: formatVersion})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(db.DeleteRange(logKey(testGroup, snap+1), groupEnd(keyLog, testGroup), pebble.Sync),
		db.Set(groupStart(keyReached, testGroup), binary.BigEndian.AppendUint64(nil, 1<<20), pebble.Sync), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	i, err := Inspect(fs, "d")
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Faults) > 0 || len(i.Groups) != 1 || i.Groups[0].Flushed < i.Groups[0].Last+100 {
		t.Fatalf("%q %+v", i.Faults, i.Groups)
	}
	if hashes, ok := i.Replay(i.Groups[0], newToyFold()); !ok || len(hashes) != 1 || hashes[0].Index != i.Groups[0].Flushed {
		t.Errorf("%+v %q", hashes, i.Faults)
	}
	if err := errors.Join(i.Close(), Reseat(fs, "d", "n2", time.Now())); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(fs)
	cfg.NodeID, cfg.Bootstrap = "n2", false
	h = openHost(t, cfg)
	m = newToy()
	g = openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 70)
	onShard(t, g, func() {
		if m.count != count+70 {
			t.Errorf("%d commands, want %d", m.count, count+70)
		}
	})
}

// TestCheckpointHoldsSnapshots: between the two copies no snapshot becomes durable, whose log entries would be in neither.
func TestCheckpointHoldsSnapshots(t *testing.T) {
	h := openHost(t, testConfig(vfs.NewMem()))
	m := newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 100)
	h.still.Lock()
	done := make(chan error, 1)
	go func() { done <- g.Snapshot(t.Context()) }()
	propose(t, g, m, 100, 300) // goes on meanwhile
	select {
	case err := <-done:
		t.Errorf("a snapshot was taken: %v", err)
	default:
	}
	h.still.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestCheckpointOfALowDisk is refused, and what a process left behind goes at the next start.
func TestCheckpointOfALowDisk(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig(fs)
	cfg.Disk = &Disk{fs: fs}
	cfg.Disk.low.Store(true)
	h := openHost(t, cfg)
	if _, _, err := h.Checkpoint(); !errors.Is(err, ErrLowDisk) {
		t.Error(err)
	}
	cfg.Disk.low.Store(false)
	dir, _, err := h.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Checkpoint(); !errors.Is(err, ErrCheckpoint) {
		t.Error(err)
	}
	if err := h.DropCheckpoint(); err != nil {
		t.Error(err)
	}
	if _, _, err := h.Checkpoint(); !errors.Is(err, errClosed) {
		t.Errorf("of a closed host: %v", err)
	}
	if err := makeDir(fs, path.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	openHost(t, cfg)
	if _, err := fs.Stat(dir); err == nil {
		t.Error("a checkpoint outlived a start")
	}
}

// TestClipWAL: a copy of a WAL that was written meanwhile has a hole, and behind it records. They are cut off, as is what the file held
// in an earlier life. What is before the hole stays.
func TestClipWAL(t *testing.T) {
	fs := vfs.NewMem()
	db, err := pebble.Open("db", &pebble.Options{FS: fs, FormatMajorVersion: formatVersion})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 900 {
		if err := db.Set([]byte(fmt.Sprint("k", n)), bytes.Repeat([]byte{byte(n)}, 100), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	h := &Host{cfg: HostConfig{FS: fs}}
	names, err := h.list("db", ".log")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	file := path.Join("db", slices.Max(names))
	b, err := readAll(fs, file)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	copy(b[60_000:60_500], make([]byte, 500))
	want := bytes.Clone(b) // what is written, the memory FS may change
	if err := writeWhole(fs, file, b); err != nil {
		t.Fatal(err)
	}
	if err := clipWAL(fs, file); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(fs, file)
	if err != nil || len(got) > 60_000 || len(got) < 59_500 || !bytes.Equal(got, want[:len(got)]) {
		t.Errorf("%d bytes are left: %v", len(got), err)
	}
}
