package shard

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

func openDB(t testing.TB, fs vfs.FS) *pebble.DB {
	t.Helper()
	db, err := pebble.Open("log", &pebble.Options{FS: fs, FormatMajorVersion: formatVersion})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func openStore(t testing.TB, db *pebble.DB, g stanza.Group) *logStore {
	t.Helper()
	s, err := openLogStore(db, g, pebble.Sync)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func entry(i, term uint64) *raft.Log {
	return &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: []byte(fmt.Sprint(i, "/", term)), AppendedAt: time.Unix(0, int64(i))}
}

func store(t testing.TB, s *logStore, from, to, term uint64) {
	t.Helper()
	var logs []*raft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, entry(i, term))
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

// check compares the store with what it should hold: index -> term.
func check(t *testing.T, s *logStore, want map[uint64]uint64) {
	t.Helper()
	var lo, hi uint64
	for i := range want {
		if lo == 0 || i < lo {
			lo = i
		}
		hi = max(hi, i)
	}
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if first != lo || last != hi {
		t.Fatalf("log is %d..%d, want %d..%d", first, last, lo, hi)
	}
	for i := uint64(0); i < hi+3; i++ {
		var l raft.Log
		err := s.GetLog(i, &l)
		term, ok := want[i]
		if !ok {
			if !errors.Is(err, raft.ErrLogNotFound) {
				t.Fatalf("entry %d: %v", i, err)
			}
			continue
		}
		w := entry(i, term)
		if err != nil || l.Index != i || l.Term != term || l.Type != w.Type || !bytes.Equal(l.Data, w.Data) || !l.AppendedAt.Equal(w.AppendedAt) {
			t.Fatalf("entry %d: %+v %v", i, l, err)
		}
	}
}

func TestLogStore(t *testing.T) {
	fs := vfs.NewMem()
	db := openDB(t, fs)
	g := stanza.QueueGroup(0)
	s := openStore(t, db, g)
	neighbour := openStore(t, db, g+1)
	below := openStore(t, db, g-1)
	store(t, neighbour, 1, 5, 9)
	store(t, below, 1, 5, 9)
	want := map[uint64]uint64{}
	fill := func(from, to, term uint64) {
		store(t, s, from, to, term)
		for i := from; i <= to; i++ {
			want[i] = term
		}
	}
	cut := func(from, to uint64) {
		if err := s.DeleteRange(from, to); err != nil {
			t.Fatal(err)
		}
		for i := from; i <= to; i++ {
			delete(want, i)
		}
		check(t, s, want)
		check(t, openStore(t, db, g), want)
	}
	check(t, s, want)
	fill(1, 1200, 1)
	check(t, s, want)
	cut(1001, 1200) // a conflict
	fill(1001, 1100, 2)
	check(t, s, want)
	cut(1, 300) // compaction
	cut(1, 310) // overlapping what is gone
	cut(5000, 6000)
	cut(311, 1100) // everything
	fill(2000, 2010, 3)
	fill(3000, 3010, 3) // a gap, as after an installed snapshot
	check(t, s, want)
	cut(1, 2500) // up to inside the gap
	cut(3000, 3010)
	check(t, neighbour, map[uint64]uint64{1: 9, 2: 9, 3: 9, 4: 9, 5: 9})
	check(t, below, map[uint64]uint64{1: 9, 2: 9, 3: 9, 4: 9, 5: 9})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Sequential reading costs one iterator per block, not one per entry, and never returns what was overwritten.
func TestLogReadAhead(t *testing.T) {
	db := openDB(t, vfs.NewMem())
	defer db.Close()
	s := openStore(t, db, 1)
	store(t, s, 1, 1000, 1)
	var l raft.Log
	for i := uint64(1); i <= 100; i++ {
		if err := s.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.block.vals) != blockEntries {
		t.Fatalf("block of %d", len(s.block.vals))
	}
	if err := s.DeleteRange(101, 1000); err != nil {
		t.Fatal(err)
	}
	if err := s.GetLog(150, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatalf("a deleted entry was read from the block: %v", err)
	}
	store(t, s, 101, 200, 2)
	for i := uint64(101); i <= 200; i++ {
		if err := s.GetLog(i, &l); err != nil || l.Term != 2 {
			t.Fatalf("entry %d: term %d, %v", i, l.Term, err)
		}
	}
	if s.block.vals != nil {
		t.Fatal("the block is kept after the log was read to its end")
	}
	if err := s.GetLog(50, &l); err != nil || s.block.vals != nil {
		t.Fatal("a lone read filled the block")
	}
}

// Cutting off the end is durable at once: entries of another term follow under the same indexes.
func TestSuffixDeleteIsSynced(t *testing.T) {
	fs := vfs.NewStrictMem()
	if err := makeDir(fs, "log"); err != nil {
		t.Fatal(err)
	}
	db := openDB(t, fs)
	s := openStore(t, db, 1)
	store(t, s, 1, 100, 1)
	if err := s.DeleteRange(51, 100); err != nil {
		t.Fatal(err)
	}
	fs.SetIgnoreSyncs(true)
	db.Close()
	fs.ResetToSyncedState()
	fs.SetIgnoreSyncs(false)
	db = openDB(t, fs)
	defer db.Close()
	if last, _ := openStore(t, db, 1).LastIndex(); last != 50 {
		t.Fatalf("last index %d after a power loss", last)
	}
}

func TestLogValueRefuses(t *testing.T) {
	var l raft.Log
	good := make([]byte, logValueHeader+3)
	putLogValue(good, &raft.Log{Extensions: []byte("x"), Data: []byte("yz")})
	if err := getLogValue(good, 1, &l); err != nil || string(l.Extensions) != "x" || string(l.Data) != "yz" || !l.AppendedAt.IsZero() {
		t.Fatalf("%+v %v", l, err)
	}
	for _, b := range [][]byte{nil, good[:logValueHeader-1], append([]byte{9}, good[1:]...), append(append([]byte{}, good[:18]...), 0xff, 0, 0, 0)} {
		if err := getLogValue(b, 1, &l); !errors.Is(err, errLogRecord) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func TestStableStore(t *testing.T) {
	db := openDB(t, vfs.NewMem())
	defer db.Close()
	s := &stableStore{db: db, g: 5, sync: pebble.Sync}
	if v, err := s.Get([]byte("k")); err != nil || len(v) != 0 {
		t.Fatal(v, err)
	}
	if n, err := s.GetUint64([]byte("n")); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	if err := errors.Join(s.Set([]byte("k"), []byte("v")), s.SetUint64([]byte("n"), 1<<60)); err != nil {
		t.Fatal(err)
	}
	v, err := s.Get([]byte("k"))
	n, err2 := s.GetUint64([]byte("n"))
	if string(v) != "v" || n != 1<<60 || err != nil || err2 != nil {
		t.Fatal(v, n, err, err2)
	}
	if _, err := s.GetUint64([]byte("k")); !errors.Is(err, errLogRecord) {
		t.Fatal(err)
	}
}
