package router

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// answer is the outcome of one command.
type answer struct {
	o shard.Outcome
	r result
}

// logged is an entry as it was applied.
type logged struct {
	index uint64
	seq   int
	stamp int64
	cmd   []byte
}

// directMachine is a dirShard that a test proposes to without links; it keeps the log as it is applied.
type directMachine struct {
	*dirShard
	applied func(logged)
}

func (m *directMachine) Apply(e shard.Entry) result {
	m.applied(logged{e.Index, e.Seq, e.Stamp, bytes.Clone(e.Cmd)})
	return m.dirShard.Apply(e)
}
func (m *directMachine) Done(c chan answer, o shard.Outcome, r result) { c <- answer{o, r} }
func (m *directMachine) EndTurn()                                      {}
func (m *directMachine) Turn()                                         {}
func (m *directMachine) Tick(time.Time)                                {}
func (m *directMachine) Lead(uint64)                                   {}
func (m *directMachine) Follow()                                       {}

// life is one run of the process between restarts.
type life struct {
	t    *testing.T
	host *shard.Host
	g    *shard.Group[chan answer, result]
	m    *directMachine
}

func startLife(t *testing.T, cfg shard.HostConfig, applied func(logged)) *life {
	t.Helper()
	host, err := shard.OpenHost(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conf := DefaultConfig()
	conf.RecordCache = 600 // small, so that records are read again
	d := newDirShard(conf, testShard, testShards, "test", time.Now(), slog.New(slog.DiscardHandler), newMetrics(nil))
	m := &directMachine{dirShard: d, applied: applied}
	g, err := shard.Open(host, d.id, m)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) { // until raft has elected: it tells nobody outside
		if _, ok := g.Leading(); ok {
			return &life{t, host, g, m}
		}
		if time.Now().After(deadline) {
			t.Fatal("no leader")
		}
	}
}

// run commits the commands in order and returns the results.
func (l *life) run(cmds []command) []result {
	l.t.Helper()
	answers := make(chan answer, len(cmds))
	l.call(func() {
		for i := range cmds {
			if !l.g.Propose(cmds[i].append(nil), answers) {
				l.t.Error("not taken")
			}
		}
	})
	var got []result
	for range cmds {
		a := <-answers
		if a.o != shard.Committed {
			l.t.Fatalf("outcome %v", a.o)
		}
		got = append(got, a.r)
	}
	return got
}

func (l *life) call(f func()) {
	l.t.Helper()
	if err := l.g.Call(context.Background(), f); err != nil {
		l.t.Fatal(err)
	}
}

// randomCommand draws from few accounts, devices, keys and codes, so that they meet.
func randomCommand(rng *rand.Rand) command {
	number := stanza.Account((1+rng.IntN(14))*testShards + testShard)
	dev := func() stanza.Device { return stanza.Device(rng.IntN(12)) }
	k := key(byte(rng.IntN(40)))
	digest := inviteDigest(string(rune('a' + rng.IntN(8))))
	now := time.Now().UnixMilli()
	switch n := rng.IntN(100); {
	case n < 15:
		handle := []byte{'h', byte('a' + rng.IntN(12))}
		return command{op: opRegister, text: handle, key: k, create: rng.IntN(4) > 0, id: rng.Uint64N(1 << 20)}
	case n < 45:
		return command{op: opLink, account: number, by: dev(), key: k}
	case n < 65:
		return command{op: opUnlink, account: number, by: dev() * stanza.Device(rng.IntN(2)), device: dev()}
	case n < 80:
		return command{op: opNote, account: number, device: dev(), id: rng.Uint64() >> rng.IntN(64)}
	case n < 88:
		return command{op: opDropDone, account: number, device: dev()}
	case n < 92:
		return command{op: opInviteCreate, digest: digest, until: now + rng.Int64N(3000) - 1000}
	case n < 96:
		return command{op: opInviteRedeem, digest: digest, key: k, text: []byte{'h', byte('a' + rng.IntN(2))}}
	case n < 97:
		return randomChange(rng)
	case n < 98:
		return command{op: opTicketKey, id: 1 + rng.Uint64N(6), key: k}
	default:
		return command{op: opInviteExpire, until: now - rng.Int64N(3000)}
	}
}

// TestMetamorphic drives the directory on a real raft group through random commands, restarts, power losses and snapshots, and
// holds every answer and the whole state against the map model; then it folds the log once more in memory: the hashes are equal.
func TestMetamorphic(t *testing.T) {
	lives, batches := 12, 25
	if os.Getenv("LINECARD_LONG") != "" {
		lives, batches = 300, 100
	}
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("LINECARD_SEED"); given != "" {
		seed, _ = strconv.ParseUint(given, 10, 64)
	}
	t.Logf("LINECARD_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewStrictMem()
	want := newModel()
	var log []logged
	applied := func(e logged) { // replays after a restart come again, and must be the same
		i, again := slices.BinarySearchFunc(log, e, func(a, b logged) int {
			if a.index != b.index {
				return int(a.index) - int(b.index)
			}
			return a.seq - b.seq
		})
		if again {
			if log[i].stamp != e.stamp || !bytes.Equal(log[i].cmd, e.cmd) {
				t.Errorf("entry %d.%d changed", e.index, e.seq)
			}
			return
		}
		log = slices.Insert(log, i, e)
	}
	cfg := shard.HostConfig{Dir: "data", FS: fs, NodeID: "n1", Bootstrap: true, Heartbeat: 30 * time.Millisecond}
	var last uint64
	for range lives {
		cfg.FlushBytes = 1 << (8 + rng.IntN(8))
		cfg.SnapshotCount = uint64(20 + rng.IntN(300))
		cfg.TrailingLogs = uint64(1 + rng.IntN(50))
		l := startLife(t, cfg, applied)
		cfg.Bootstrap = false
		for range batches {
			cmds := make([]command, 1+rng.IntN(40))
			for i := range cmds {
				cmds[i] = randomCommand(rng)
			}
			var before int
			l.call(func() { before = len(log) })
			got := l.run(cmds)
			l.call(func() {
				for i := range cmds {
					if r := want.apply(log[before+i].stamp, &cmds[i]); r != got[i] {
						t.Errorf("%+v: %+v, want %+v", cmds[i], got[i], r)
					}
				}
			})
			if t.Failed() {
				t.FailNow()
			}
			if rng.IntN(10) == 0 {
				if err := l.g.Snapshot(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
		l.call(func() {
			lines, err := directoryLines(l.m.directory)
			if err != nil || !slices.Equal(lines, want.lines()) {
				t.Errorf("%v\nhave %q\nwant %q", err, lines, want.lines())
			}
			last = l.m.Hash()
			fs.SetIgnoreSyncs(rng.IntN(2) == 0) // half of the ends are power losses
		})
		if err := l.host.Close(); err != nil {
			t.Fatal(err)
		}
		fs.ResetToSyncedState()
		fs.SetIgnoreSyncs(false)
		lookAtRest(t, fs, last)
	}
	l := startLife(t, cfg, applied)
	defer l.host.Close()
	l.call(func() {
		if h := l.m.Hash(); h != last {
			t.Errorf("hash %x after the last restart, %x before", h, last)
		}
	})
	fold := newTestDirectory(memRecords{})
	for _, e := range log {
		fold.apply(entry(e.stamp, e.cmd))
	}
	checkDirectory(t, fold)
	if h, err := fold.hash(); err != nil || h != last {
		t.Errorf("hash %x of a fold in memory, %x with restarts, %v", h, last, err)
	}
}
