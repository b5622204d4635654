package shard

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"github.com/cockroachdb/pebble/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"
	"linecard.example/internal/stanza"
)

func TestConfigFaultsAreAllReported(t *testing.T) {
	_, err := OpenHost(HostConfig{PackCommands: 65, PendingBytes: 1, Heartbeat: time.Nanosecond})
	for _, want := range []string{"directory", "node id", "PackCommands", "PendingBytes", "Heartbeat"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestBootstrapRule(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig(fs)
	cfg.Bootstrap = false
	if _, err := OpenHost(cfg); !errors.Is(err, ErrLost) {
		t.Fatalf("no databases under an existing node id: %v", err)
	}
	if names, _ := fs.List(""); len(names) != 0 {
		t.Fatalf("the refusal left %v", names)
	}
	cfg.Bootstrap = true
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, 1, m)
	propose(t, g, m, 0, 10)
	// A crash during the first start: other groups of these databases still bootstrap in the next, which is a first one too.
	h.Close()
	h = openHost(t, cfg)
	openToy(t, h, 1, newToy())
	openToy(t, h, 2, newToy())
	h.Close()
	// Later a group without a log is one that was lost, or that lives elsewhere.
	cfg.Bootstrap = false
	h = openHost(t, cfg)
	openToy(t, h, 2, newToy())
	if _, err := Open[int, uint64](h, 3, newToy()); !errors.Is(err, ErrLost) {
		t.Fatalf("a new group under a used node id: %v", err)
	}
	h.Close()

	other := cfg
	other.NodeID = "n2"
	other.Bootstrap = true
	if _, err := OpenHost(other); err == nil || !strings.Contains(err.Error(), "n1") {
		t.Fatalf("databases of another node: %v", err)
	}
}

// A crash between the two writes of raft's bootstrap leaves a group that the next start bootstraps again.
func TestCrashWithinBootstrap(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig(fs)
	h := openHost(t, cfg)
	half := &stableStore{db: h.log, g: 1, sync: pebble.Sync}
	if err := half.SetUint64(keyTerm, 1); err != nil {
		t.Fatal(err)
	}
	m := newToy()
	propose(t, openToy(t, h, 1, m), m, 0, 10)
	h.Close()

	// A later term, or a vote, is of a group that has run.
	for _, lost := range []map[string]uint64{{string(keyTerm): 2}, {string(keyTerm): 1, string(keyVote): 1}} {
		h = openHost(t, testConfig(vfs.NewMem()))
		half = &stableStore{db: h.log, g: 1, sync: pebble.Sync}
		for k, v := range lost {
			if err := half.SetUint64([]byte(k), v); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open[int, uint64](h, 1, newToy()); !errors.Is(err, ErrLost) {
			t.Fatalf("%v: %v", lost, err)
		}
		h.Close()
	}
}

// deleteKeys removes keys of the log or state database of a closed host.
func deleteKeys(t *testing.T, fs vfs.FS, dir string, lo, hi []byte) {
	t.Helper()
	db, err := pebble.Open("d/"+dir, &pebble.Options{FS: fs, FormatMajorVersion: formatVersion})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.DeleteRange(lo, hi, pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestLostStateRefusesToOpen(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, fs vfs.FS){
		"log":      func(t *testing.T, fs vfs.FS) { deleteKeys(t, fs, "log", []byte{keyLog}, []byte{keyLog + 1}) },
		"log end":  func(t *testing.T, fs vfs.FS) { deleteKeys(t, fs, "log", logKey(1, 110), logKey(1, 1000)) },
		"snapshot": func(t *testing.T, fs vfs.FS) { deleteKeys(t, fs, "log", []byte{keySnap}, []byte{keySnap + 1}) },
		"tables":   func(t *testing.T, fs vfs.FS) { deleteKeys(t, fs, "state", []byte{0}, []byte{255}) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			cfg := testConfig(fs)
			cfg.PackCommands = 1
			cfg.TrailingLogs = 5
			h := openHost(t, cfg)
			m := newToy()
			g := openToy(t, h, 1, m)
			propose(t, g, m, 0, 100)
			if err := g.Snapshot(context.Background()); err != nil {
				t.Fatal(err)
			}
			propose(t, g, m, 0, 20)
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			lose(t, fs)
			cfg.Bootstrap = false
			h = openHost(t, cfg)
			if _, err := Open[int, uint64](h, 1, newToy()); !errors.Is(err, ErrLost) {
				t.Fatalf("opened: %v", err)
			}
		})
	}
}

type refusingToy struct{ *toy }

var errRefused = errors.New("refused")

func (refusingToy) Load(Tables, uint64) error { return errRefused }

func TestLoadErrorIsReturned(t *testing.T) {
	h := openHost(t, testConfig(vfs.NewMem()))
	if _, err := Open[int, uint64](h, 1, refusingToy{newToy()}); !errors.Is(err, errRefused) {
		t.Fatal(err)
	}
	openToy(t, h, 1, newToy())
}

// A disk that fails stops the host: the error is reported, nothing is acknowledged any more, Close returns.
func TestDiskFailureStopsTheHost(t *testing.T) {
	for _, kind := range []string{".log", ".sst"} {
		t.Run(kind, func(t *testing.T) {
			disk := errors.New("disk on fire")
			var broken toggle
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op, path string) error {
				if broken.on() && (op == errorfs.OpFileWrite || op == errorfs.OpFileSync) && strings.HasSuffix(path, kind) {
					return disk
				}
				return nil
			}))
			h, err := OpenHost(testConfig(fs))
			if err != nil {
				t.Fatal(err)
			}
			m := newToy()
			g := openToy(t, h, 1, m)
			propose(t, g, m, 0, 10)
			broken.set()
			if kind == ".log" {
				onShard(t, g, func() { g.Propose([]byte("lost"), 10) })
			} else {
				go func() { _ = g.Snapshot(context.Background()) }()
			}
			select {
			case err := <-h.Failed():
				if !strings.Contains(err.Error(), disk.Error()) {
					t.Errorf("reported: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the failure was not reported")
			}
			waitFor(t, g, func() bool { return g.broken })
			onShard(t, g, func() {
				if g.Propose([]byte("x"), 11) {
					t.Error("accepted after a failure")
				}
			})
			if _, ok := g.Leading(); ok {
				t.Error("still leading")
			}
			if err := h.Close(); err == nil {
				t.Error("Close does not mention the failure")
			}
			for i, r := range m.results()[10:] {
				if r.out != Unknown {
					t.Errorf("answer %d after the failure: %+v", i, r)
				}
			}
			if kind == ".log" && len(m.results()) != 11 {
				t.Errorf("%d answers", len(m.results()))
			}
		})
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	h, err := OpenHost(testConfig(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 16 {
		m := newToy()
		g := openToy(t, h, stanza.DirGroup(i), m)
		propose(t, g, m, 0, 100)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	goroutinesEnd(t, before)
}

// goroutinesEnd waits until there are no more goroutines than before: those of raft and Pebble end by themselves, and tell nobody.
func goroutinesEnd(t *testing.T, before int) {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(limit) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(time.Millisecond) // goroutines of libraries end after what waits for them: they are counted again
	}
}

func TestMetricsOfTwoHosts(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	for i, dir := range []string{"router", "offline"} {
		cfg := testConfig(vfs.NewMem())
		cfg.Dir, cfg.Registerer = dir, prometheus.WrapRegistererWithPrefix("linecard_", r)
		h := openHost(t, cfg)
		m := newToy()
		g := openToy(t, h, stanza.Group(i), m)
		propose(t, g, m, 0, 100)
		if err := g.Snapshot(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	fams, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"commit_seconds": 2, "pack_commands": 2, "leader": 2, "term": 2, "applied_index": 2, "last_index": 2, "flushes_total": 2, "snapshots_total": 4}
	for _, f := range fams {
		name := strings.TrimPrefix(f.GetName(), "linecard_shard_")
		if n, ok := want[name]; ok && len(f.Metric) != n {
			t.Errorf("%s has %d children", name, len(f.Metric))
		}
		delete(want, name)
		if name == "pack_commands" && f.Metric[0].Histogram.GetSampleSum() != 100 {
			t.Errorf("packs of %v commands", f.Metric[0].Histogram.GetSampleSum())
		}
	}
	if len(want) != 0 {
		t.Errorf("missing: %v", want)
	}
}
