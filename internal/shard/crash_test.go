package shard

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
)

// A power loss at any moment keeps every command that was answered as committed, and folding the log again gives one state.
func TestPowerLoss(t *testing.T) {
	fs := vfs.NewStrictMem()
	cfg := testConfig(fs)
	cfg.SnapshotCount = 150
	cfg.TrailingLogs = 20
	cfg.FlushBytes = 4 << 10
	cfg.PackCommands = 4
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[string]uint64{} // answered as committed, by command, over all lives
	for life := range 25 {
		h := openHost(t, cfg)
		cfg.Bootstrap = false
		m := newToy()
		g := openToy(t, h, testGroup, m)
		checkCounts(t, g, m, seen, life)
		propose(t, g, m, 0, 1+rng.IntN(400))
		if rng.IntN(3) == 0 {
			if err := g.Snapshot(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		load := startLoad(t, g, m, 100+rng.IntN(1500))
		<-load
		// Nothing after this moment reaches the disk: what was answered before it counts.
		var answered []result
		onShard(t, g, func() { answered = m.results(); fs.SetIgnoreSyncs(true) })
		for i, r := range answered {
			if r.out == Committed {
				seen[fmt.Sprint("k", i%100)]++
			}
		}
		onShard(t, g, func() { m.onTurn = nil })
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		fs.ResetToSyncedState()
		fs.SetIgnoreSyncs(false)
	}
}

// startLoad proposes without end and closes the returned channel when n more commands were committed. Commands go on from those
// of propose, so that command i is always "k"+i%100.
func startLoad(t testing.TB, g *toyGroup, m *toy, n int) <-chan struct{} {
	reached, closed := make(chan struct{}), false
	onShard(t, g, func() {
		next := len(m.results())
		target := next + n
		m.onTurn = func() {
			for g.Propose([]byte(fmt.Sprint("k", next%100)), next) {
				if next++; next%37 == 0 {
					break
				}
			}
			if n := len(m.results()); n >= target && !closed {
				close(reached)
				closed = true
			}
			g.Wake()
		}
	})
	return reached
}

// checkCounts fails if a command that was answered as committed is missing.
func checkCounts(t *testing.T, g *toyGroup, m *toy, seen map[string]uint64, life int) {
	t.Helper()
	onShard(t, g, func() {
		for k, want := range seen {
			v, _, err := m.o.Get([]byte(k))
			if err != nil {
				t.Fatal(err)
			}
			n, _ := binary.Uvarint(v)
			if n < want {
				t.Errorf("life %d: %s applied %d times, answered %d times", life, k, n, want)
			}
		}
		t.Logf("life %d: F %d, %d replayed, %d in all", life, m.loadedF, m.replays, m.count)
	})
}

// The state is the same whether it is folded in one life or through kills, flushes and snapshots.
func TestEqualHashThroughRestarts(t *testing.T) {
	const step, steps = 130, 12
	plain := newToy()
	clock := func() time.Time { return time.Unix(1_700_000_000, 0) }
	cfg := testConfig(vfs.NewMem())
	cfg.Clock, cfg.Monotonic = clock, func() time.Duration { return 0 }
	h := openHost(t, cfg)
	g := openToy(t, h, testGroup, plain)
	propose(t, g, plain, 0, step*steps)
	want := hashOf(t, g, plain)

	fs := vfs.NewStrictMem()
	cfg = testConfig(fs)
	cfg.Clock, cfg.Monotonic = clock, func() time.Duration { return 0 }
	cfg.SnapshotCount = 30
	cfg.PackCommands = 8
	cfg.FlushBytes = 2 << 10
	replayed := 0
	var got uint64
	for i := range steps {
		h := openHost(t, cfg)
		cfg.Bootstrap = false
		m := newToy()
		g := openToy(t, h, testGroup, m)
		replayed += m.replays
		propose(t, g, m, i*step, (i+1)*step)
		got = hashOf(t, g, m)
		kill := i%3 != 0
		fs.SetIgnoreSyncs(kill)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if kill {
			fs.ResetToSyncedState()
		}
		fs.SetIgnoreSyncs(false)
	}
	if got != want {
		t.Fatalf("hash %x through %d restarts, %x in one life", got, steps, want)
	}
	if replayed == 0 {
		t.Fatal("no life had to apply anything again: the test shows nothing")
	}
	t.Logf("%d entries applied again", replayed)
}

// Records written ahead are there after a flush of the state database, and F is not past them.
func TestAheadIsNotBehindF(t *testing.T) {
	fs := vfs.NewStrictMem()
	cfg := testConfig(fs)
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 50)
	onShard(t, g, func() {
		b := g.Tables().Ahead()
		b.Set([]byte("ahead"), []byte("v"))
		if err := b.Commit(); err != nil {
			t.Error(err)
		}
	})
	if err := h.flushState(); err != nil {
		t.Fatal(err)
	}
	fs.SetIgnoreSyncs(true)
	h.Close()
	fs.ResetToSyncedState()
	fs.SetIgnoreSyncs(false)
	cfg.Bootstrap = false
	h = openHost(t, cfg)
	m = newToy()
	g = openToy(t, h, testGroup, m)
	if m.loadedF != 0 || m.replays != 50 {
		t.Fatalf("F %d, %d replayed", m.loadedF, m.replays)
	}
	if v, ok, err := g.Tables().Get([]byte("ahead")); err != nil || !ok || string(v) != "v" {
		t.Fatalf("%q %v %v", v, ok, err)
	}
}

// Stamps do not fall when the wall clock was set back while the process was down, even if no stamped entry is left in the log.
func TestStampsSurviveATruncatedLog(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.NoTrailing = true
	now := time.UnixMilli(2_000_000)
	cfg.Clock, cfg.Monotonic = func() time.Time { return now }, func() time.Duration { return 0 }
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, testGroup, m)
	propose(t, g, m, 0, 10)
	if err := g.Snapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	h.Close()
	now = time.UnixMilli(1_000_000)
	h = openHost(t, cfg)
	m = newToy()
	g = openToy(t, h, testGroup, m)
	onShard(t, g, func() {
		if s := g.Stamp(); s != 2_000_000 {
			t.Errorf("stamp %d", s)
		}
	})
	propose(t, g, m, 0, 10) // the machine panics if a stamp falls
}
