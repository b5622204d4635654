package shard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

// toyFold is a toy without a group around it.
type toyFold struct{ *toy }

func newToyFold() toyFold { return toyFold{newToy()} }

// Check implements Fold: whatever the tables hold is read.
func (f toyFold) Check() error {
	return f.o.Scan([]byte{0}, nil, func([]byte, []byte) bool { return true })
}

func (f toyFold) Fold(e Entry) error {
	f.Apply(e)
	return nil
}

func (f toyFold) Hash() (uint64, error) { return f.toy.Hash(), nil }

// restingHost leaves in fs, below "d", what three groups wrote in two lives: tables, logs with a tail behind the tables. It returns
// the groups' hashes.
func restingHost(t *testing.T, fs vfs.FS) map[stanza.Group]uint64 {
	t.Helper()
	hashes := map[stanza.Group]uint64{}
	cfg := testConfig(fs)
	cfg.SnapshotCount, cfg.TrailingLogs, cfg.PackCommands = 120, 10, 4
	cfg.LogMemTable, cfg.StateMemTable = 64<<10, 64<<10
	for life := range 2 {
		h := openHost(t, cfg)
		cfg.Bootstrap = false
		for id := range stanza.Group(3) {
			m := newToy()
			g := openToy(t, h, id, m)
			propose(t, g, m, 0, 700)
			if life == 0 {
				if err := g.Snapshot(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			hashes[id] = hashOf(t, g, m)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return hashes
}

// inspected is all that a look finds.
type inspected struct {
	faults []string
	ends   map[stanza.Group]string // last entry and hash
}

func inspect(t *testing.T, fs vfs.FS, dir string) inspected {
	t.Helper()
	i, err := Inspect(fs, dir)
	if err != nil {
		return inspected{faults: []string{err.Error()}}
	}
	found := inspected{ends: map[stanza.Group]string{}}
	for _, g := range i.Groups {
		hashes, ok := i.Replay(g, newToyFold())
		if ok && (len(hashes) != 1 || hashes[0].Term == 0) {
			t.Errorf("%s: %+v, %+v", g.Group, g, hashes)
		}
		if ok {
			found.ends[g.Group] = fmt.Sprintf("%d %x", g.Last, hashes[0].Hash)
		}
	}
	found.faults = i.Faults
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	return found
}

// contents are the files below a directory.
func contents(t *testing.T, fs vfs.FS, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, db := range []string{"log", "state"} {
		names, err := fs.List(path.Join(dir, db))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := readAll(fs, path.Join(dir, db, name))
			if err != nil {
				t.Fatal(err)
			}
			all[path.Join(dir, db, name)] = string(b)
		}
	}
	return all
}

// TestInspectWholeData: nothing is found in whole data, the replayed states are those that the groups had, and no file changes. While a
// process has the data nobody looks.
func TestInspectWholeData(t *testing.T) {
	fs := vfs.NewMem()
	want := restingHost(t, fs)
	before := contents(t, fs, "d")
	i, err := Inspect(fs, "d")
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Faults) > 0 || len(i.Groups) != 3 || i.NodeID != "n1" || i.Tables == 0 || i.Bytes == 0 {
		t.Fatalf("%+v", i)
	}
	for _, g := range i.Groups {
		if g.Flushed == 0 || g.Snapshot == 0 || g.Snapshot > g.Flushed || g.Flushed > g.Last || g.Term < 3 || !slices.Equal(g.Voters, []string{"n1"}) {
			t.Errorf("%+v", g)
		}
		hashes, ok := i.Replay(g, newToyFold(), g.Flushed, g.Last, g.Last+1, g.Flushed-1)
		if !ok || len(hashes) == 0 || hashes[len(hashes)-1].Hash != want[g.Group] || hashes[0].Index != g.Flushed {
			t.Errorf("%s: %+v, want hash %x; %q", g.Group, hashes, want[g.Group], i.Faults)
		}
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	after := contents(t, fs, "d")
	for name, b := range before {
		if after[name] != b {
			t.Errorf("%s changed", name)
		}
		delete(after, name)
	}
	if len(after) > 0 {
		t.Errorf("%d new files", len(after))
	}
	cfg := testConfig(fs)
	cfg.Bootstrap = false
	h := openHost(t, cfg)
	if _, err := Inspect(fs, "d"); err == nil || !strings.Contains(err.Error(), "does its process run") {
		t.Errorf("looked at a running host: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(fs, "nowhere"); err == nil {
		t.Error("looked at nothing")
	}
}

// TestInspectFindsFlippedBits flips bits all over every file. Each must be found, or make no difference: neither to what is in the
// groups nor to where they end. Of the log alone a torn last record cannot be told from one that was never synced.
func TestInspectFindsFlippedBits(t *testing.T) {
	fs := vfs.NewMem()
	restingHost(t, fs)
	whole := inspect(t, fs, "d")
	if len(whole.faults) > 0 {
		t.Fatal(whole.faults)
	}
	files := contents(t, fs, "d")
	rng := rand.New(rand.NewPCG(5, 6))
	flips, found := map[string]int{}, map[string]int{}
	for name, b := range files {
		kind := path.Base(path.Dir(name)) + " " + strings.SplitN(path.Base(name), "-", 2)[0]
		if ext := path.Ext(name); ext != "" {
			kind = path.Base(path.Dir(name)) + " " + ext
		}
		for range min(len(b), 24) {
			at := rng.IntN(len(b))
			spoiled := []byte(b)
			spoiled[at] ^= 1 << rng.IntN(8)
			if err := writeWhole(fs, name, spoiled); err != nil {
				t.Fatal(err)
			}
			got := inspect(t, fs, "d")
			flips[kind]++
			if len(got.faults) > 0 {
				found[kind]++
				if path.Ext(name) == ".sst" && !strings.HasPrefix(got.faults[0], name) {
					t.Errorf("%s, byte %d: found, but not where: %q", name, at, got.faults)
				}
			} else if fmt.Sprint(got.ends) != fmt.Sprint(whole.ends) {
				t.Errorf("%s, byte %d of %d: not found, and %v became %v", name, at, len(b), whole.ends, got.ends)
			}
		}
		if err := writeWhole(fs, name, []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
	for kind, n := range flips {
		t.Logf("%s: %d of %d found, the others change nothing", kind, found[kind], n)
	}
	if found["state .sst"] == 0 || found["log .log"] == 0 || found["state MANIFEST"] == 0 {
		t.Errorf("found %v", found)
	}
	if again := inspect(t, fs, "d"); len(again.faults) > 0 {
		t.Error(again.faults)
	}
}

// TestInspectFindsTornLogs flips bits of a log of which much is not in tables, because the power was lost: whatever is not in the last
// record is found.
func TestInspectFindsTornLogs(t *testing.T) {
	fs := vfs.NewStrictMem()
	h := openHost(t, testConfig(fs))
	m := newToy()
	g := openToy(t, h, testGroup, m)
	for n := range 100 { // a record each
		propose(t, g, m, n, n+1)
	}
	fs.SetIgnoreSyncs(true)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	fs.ResetToSyncedState()
	fs.SetIgnoreSyncs(false)
	whole := inspect(t, fs, "d")
	names, err := h.list("d/log", ".log")
	if err != nil || len(names) == 0 || len(whole.faults) > 0 {
		t.Fatal(names, err, whole.faults)
	}
	name := slices.Max(names)
	b, err := readAll(fs, path.Join("d/log", name))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseUint(strings.TrimSuffix(name, ".log"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	chunks(b, uint32(number), func(offset int, _ byte, _ []byte, _ int) { last = offset })
	found := 0
	for at := 7; at < len(b); at += len(b) / 50 {
		spoiled := bytes.Clone(b)
		spoiled[at] ^= 4
		if err := writeWhole(fs, path.Join("d/log", name), spoiled); err != nil {
			t.Fatal(err)
		}
		got := inspect(t, fs, "d")
		if len(got.faults) > 0 {
			found++
		} else if fmt.Sprint(got.ends) != fmt.Sprint(whole.ends) && at < last {
			t.Errorf("byte %d of %d: not found, and %v became %v", at, len(b), whole.ends, got.ends)
		}
	}
	if found < 40 {
		t.Errorf("only %d found", found)
	}
}

// TestInspectMissingFiles: without any one of its tables or logs the data are not whole.
func TestInspectMissingFiles(t *testing.T) {
	fs := vfs.NewMem()
	restingHost(t, fs)
	whole := inspect(t, fs, "d")
	for name, b := range contents(t, fs, "d") {
		if ext := path.Ext(name); ext != ".sst" && ext != ".log" {
			continue
		}
		if err := fs.Remove(name); err != nil {
			t.Fatal(err)
		}
		if got := inspect(t, fs, "d"); len(got.faults) == 0 && fmt.Sprint(got.ends) != fmt.Sprint(whole.ends) {
			t.Errorf("without %s: %v instead of %v", name, got.ends, whole.ends)
		}
		if err := writeWhole(fs, name, []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
}
