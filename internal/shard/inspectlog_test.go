package shard

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
)

// TestInspectEntries changes single records of a log, all of whose checksums are right: what a fault of the code, or of memory, leaves.
func TestInspectEntries(t *testing.T) {
	const g = 1
	entry := func(index, term uint64, kind raft.LogType, data string) (key, val []byte) {
		l := &raft.Log{Index: index, Term: term, Type: kind, Data: []byte(data)}
		v := make([]byte, logValueHeader+len(l.Data))
		putLogValue(v, l)
		return logKey(g, index), v
	}
	fs := vfs.NewMem()
	cfg := testConfig(fs)
	cfg.TrailingLogs, cfg.PackCommands, cfg.SnapshotCount = 20, 4, 1<<20
	h := openHost(t, cfg)
	m := newToy()
	x := openToy(t, h, g, m)
	propose(t, x, m, 0, 100)
	if err := x.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	propose(t, x, m, 100, 200)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	i, err := Inspect(fs, "d")
	if err != nil || len(i.Groups) != 1 {
		t.Fatal(i, err)
	}
	was := i.Groups[0]
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	if was.First == 0 || was.First+4 > was.Snapshot || was.Snapshot+4 > was.Last {
		t.Fatalf("too little to change: %+v", was)
	}
	files := contents(t, fs, "d")
	if faults := inspectedAfter(t, files, func(*pebble.DB) error { return nil }); len(faults) > 0 {
		t.Fatal(faults)
	}
	set := func(key, val []byte) func(*pebble.DB) error {
		return func(db *pebble.DB) error { return db.Set(key, val, pebble.Sync) }
	}
	start := func(kind byte, more string) []byte { return append(groupStart(kind, g), more...) }
	for name, c := range map[string]struct {
		change func(*pebble.DB) error
		want   string
	}{
		"gap":           {func(db *pebble.DB) error { return db.Delete(logKey(g, was.Last-1), pebble.Sync) }, "follows"},
		"no entries":    {func(db *pebble.DB) error { return db.DeleteRange(logKey(g, 0), groupEnd(keyLog, g), pebble.Sync) }, "DIR/log was lost"},
		"falling term":  {set(entry(was.Last, 1, raft.LogNoop, "")), "of term 1 follows"},
		"term 0":        {set(entry(was.First, 0, raft.LogNoop, "")), "of term 0 follows"},
		"later term":    {set(entry(was.Last, was.Term+1, raft.LogNoop, "")), "it has an entry or a vote of term"},
		"type":          {set(entry(was.First, 1, 99, "")), "is of type 99"},
		"no pack":       {set(entry(was.First, 1, raft.LogCommand, "junk")), "malformed pack"},
		"no voters":     {set(entry(was.First, 1, raft.LogConfiguration, "junk")), "dir/1: "},
		"short entry":   {set(logKey(g, was.First), []byte{1}), "malformed record"},
		"long key":      {set(append(logKey(g, was.First), 0), []byte{1}), "malformed record"},
		"snapshot":      {set(start(keySnap, ""), []byte("{")), "malformed record"},
		"no snapshot":   {func(db *pebble.DB) error { return db.Delete(start(keySnap, ""), pebble.Sync) }, "begins at"},
		"term":          {set(start(keyStable, "CurrentTerm"), []byte{1}), "malformed record"},
		"vote":          {set(start(keyStable, "LastVoteTerm"), []byte{0, 0, 0, 0, 0, 0, 9, 9}), "a vote of term 2313"},
		"another group": {set([]byte{keyStable, 0, 7, 'x'}, []byte{1}), "dir/7"},
		"nobody's":      {func(db *pebble.DB) error { return db.Delete([]byte(keyNode), pebble.Sync) }, "names no node"},
	} {
		if faults := inspectedAfter(t, files, c.change); len(faults) == 0 || !strings.Contains(strings.Join(faults, "\n"), c.want) {
			t.Errorf("%s: %q, want %q", name, faults, c.want)
		}
	}
}

// inspectedAfter returns the faults that are found when the log in the files was changed.
func inspectedAfter(t *testing.T, files map[string]string, change func(*pebble.DB) error) []string {
	t.Helper()
	fs := vfs.NewMem()
	if err := errors.Join(fs.MkdirAll("d/log", 0o700), fs.MkdirAll("d/state", 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := writeWhole(fs, name, []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
	db, err := pebble.Open("d/log", &pebble.Options{FS: fs, FormatMajorVersion: formatVersion})
	if err == nil {
		err = errors.Join(change(db), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return inspect(t, fs, "d").faults
}
