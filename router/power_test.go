package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/internal/disktest"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// powered is two directory groups of a router, without links, for power cuts.
type powered struct {
	clock  atomic.Int64 // Unix ms
	disk   *disktest.Disk
	host   *shard.Host
	lost   atomic.Pointer[error] // what stopped the host
	groups [disktest.Groups]*poweredGroup
}

// poweredGroup is one group and what it was told. model is what it must be after all of told.
type poweredGroup struct {
	id     stanza.Group
	rng    *rand.Rand
	keys   [][keySize]byte // since the last scrub, by randomCommand's
	used   [][keySize]byte // all
	told   []command
	stamps []int64 // of told
	acked  int     // of told
	model  *model

	g       *shard.Group[chan answer, result]
	m       *directMachine
	applied []int64 // stamps of what was applied in this step
}

func newPowered(seed uint64) *powered {
	p := &powered{}
	p.clock.Store(time.Now().UnixMilli()) // as the invites of randomCommand
	for i := range p.groups {
		x := &poweredGroup{id: stanza.DirGroup(i), model: newModel(), rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		x.newKeys()
		p.groups[i] = x
	}
	return p
}

// newKeys makes the keys that devices have from now on: random bytes that can be found in files.
func (x *poweredGroup) newKeys() {
	x.keys = make([][keySize]byte, 256)
	for i := range x.keys {
		for j := range x.keys[i] {
			x.keys[i][j] = byte(x.rng.Uint32())
		}
	}
	x.used = append(x.used, x.keys...)
}

func (p *powered) Open(d *disktest.Disk, first bool) (err error) {
	p.disk = d
	p.host, err = shard.OpenHost(shard.HostConfig{
		Dir: "router", FS: d, NodeID: "n", Bootstrap: first, Heartbeat: 10 * time.Millisecond, Tick: time.Millisecond,
		Clock:      func() time.Time { return time.UnixMilli(p.clock.Load()) },
		FlushBytes: 2000, SnapshotCount: 1 << 20, TrailingLogs: 3, Cache: 1 << 20, LogMemTable: 256 << 10, StateMemTable: 256 << 10,
	})
	if err != nil {
		return err
	}
	cfg := DefaultConfig()
	cfg.RecordCache = 600 // small, so that records are read again
	for _, x := range p.groups {
		dir := newDirShard(cfg, testShard, testShards, "test", time.Now(), slog.New(slog.DiscardHandler), newMetrics(nil))
		dir.directory.fail = func(err error) { p.lost.Store(&err) }
		x.m = &directMachine{dirShard: dir, applied: func(e logged) { x.applied = append(x.applied, e.stamp) }}
		if x.g, err = shard.Open(p.host, x.id, x.m); err != nil {
			return errors.Join(err, p.host.Close())
		}
	}
	return p.await("leaders", func(s shard.GroupStatus) bool { return s.Leading })
}

// await polls until every group is so: they tell nobody.
func (p *powered) await(what string, so func(shard.GroupStatus) bool) error {
	limit := time.Now().Add(60 * time.Second)
	for slices.ContainsFunc(p.host.Status(), func(s shard.GroupStatus) bool { return !so(s) }) {
		if time.Now().After(limit) {
			return errors.New("in vain: " + what)
		}
		time.Sleep(time.Millisecond) // yields the processor between two looks
	}
	return nil
}

func (x *poweredGroup) on(f func()) error { return x.g.Call(context.Background(), f) }

func (p *powered) Step(group int) error {
	x := p.groups[group]
	cmds := make([]command, 1+x.rng.IntN(4)*x.rng.IntN(2))
	answers := make(chan answer, len(cmds))
	if err := x.on(func() {
		x.applied = x.applied[:0]
		for i := range cmds {
			cmds[i] = randomCommand(x.rng)
			cmds[i].key = x.keys[cmds[i].key[0]]
			if !x.g.Propose(cmds[i].append(nil), answers) {
				answers <- answer{o: shard.Rejected}
			}
		}
	}); err != nil {
		return err
	}
	var got []answer
	for range cmds {
		select {
		case a := <-answers:
			got = append(got, a)
		case <-time.After(60 * time.Second):
			return errors.New("no answer")
		}
	}
	cut := p.disk.Cut()
	var stamps []int64
	if err := x.on(func() { stamps = slices.Clone(x.applied) }); err != nil {
		return err
	}
	for i := range cmds {
		if got[i].o != shard.Committed {
			return fmt.Errorf("%s: %v", x.id, got[i].o)
		}
		x.told, x.stamps = append(x.told, cmds[i]), append(x.stamps, stamps[i])
		if want := x.model.apply(stamps[i], &cmds[i]); got[i].r != want {
			return fmt.Errorf("%s: %+v, want %+v", x.id, got[i].r, want)
		}
	}
	if !cut {
		x.acked = len(x.told)
	}
	return nil
}

// WriteAhead does nothing: a directory changes its tables in flushes only.
func (p *powered) WriteAhead(int) error { return nil }

func (p *powered) Snapshot(group int) error { return p.groups[group].g.Snapshot(context.Background()) }

func (p *powered) Scrub() error {
	since := time.UnixMilli(p.clock.Add((12 * time.Hour).Milliseconds()))
	return p.await("scrubs", func(s shard.GroupStatus) bool { return !s.Scrubbed.Before(since) })
}

func (p *powered) Dead() (dead [][]byte) {
	for _, x := range p.groups {
		live := x.model.keys()
		for _, k := range x.used {
			if !live[k] {
				dead = append(dead, slices.Clone(k[:]))
			}
		}
		x.newKeys() // those that are dead now stay so
	}
	return dead
}

// keys returns the keys that must be kept.
func (m *model) keys() map[[keySize]byte]bool {
	live := map[[keySize]byte]bool{}
	for _, a := range m.accounts {
		for _, d := range a.devices {
			live[d.key] = true
		}
		if len(a.devices) == 0 {
			live[a.last] = true
		}
	}
	for _, i := range m.invites {
		if i.by != nil {
			live[*i.by] = true
		}
	}
	for _, k := range m.tickets[max(0, len(m.tickets)-2):] {
		live[k.key] = true
	}
	return live
}

func (p *powered) Check() error {
	for _, x := range p.groups {
		if err := x.check(); err != nil {
			return fmt.Errorf("%s: %w", x.id, err)
		}
	}
	if err := p.lost.Load(); err != nil {
		return fmt.Errorf("the host was stopped: %w", *err)
	}
	return nil
}

// check finds how many of the commands that were not acked are there.
func (x *poweredGroup) check() error {
	var have []string
	var err error
	if errCall := x.on(func() { have, err = directoryLines(x.m.directory) }); errCall != nil || err != nil {
		return errors.Join(errCall, err)
	}
	m := newModel()
	for k := range len(x.told) + 1 {
		if k >= x.acked && slices.Equal(m.lines(), have) {
			x.told, x.stamps, x.acked, x.model = x.told[:k], x.stamps[:k], k, m
			return nil
		}
		if k < len(x.told) {
			m.apply(x.stamps[k], &x.told[k])
		}
	}
	return fmt.Errorf("neither after the %d acked commands, nor after any of the %d that follow: %q", x.acked, len(x.told)-x.acked, have)
}

func (p *powered) Close() error { return p.host.Close() }

// TestPowerCutAtEverySync cuts the power of two directories on one disk before each sync of a scenario: see disktest.Scenario.
func TestPowerCutAtEverySync(t *testing.T) {
	seeds, work := 1, 2
	if os.Getenv("LINECARD_LONG") != "" {
		seeds, work = 4, 16
	}
	for seed := range uint64(seeds) {
		disktest.MustSurvive(t, func(d *disktest.Disk) error { return disktest.Scenario(d, newPowered(seed), work) })
	}
}
