package offline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/internal/disktest"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// powered is a daemon's two queue groups, without links, for power cuts.
type powered struct {
	clock  atomic.Int64 // Unix ms
	disk   *disktest.Disk
	host   *shard.Host
	lost   atomic.Pointer[error] // what stopped the host
	groups [disktest.Groups]*poweredGroup
	bodies [][]byte // every ciphertext ever sent
}

// poweredGroup is one group and what it was told. model is what it must be after all of told.
type poweredGroup struct {
	id    stanza.Group
	ops   *operations
	told  []command // an ack as a number of entries
	acked int       // of told
	model *model

	g *shard.Group[proposal, result]
	m *replica
}

func newPowered(seed uint64) *powered {
	p := &powered{}
	p.clock.Store(1_700_000_000_000)
	for i := range p.groups {
		p.groups[i] = &poweredGroup{
			id: stanza.QueueGroup(i), model: newModel(),
			ops: &operations{rng: rand.New(rand.NewPCG(seed, uint64(i))), ids: map[streamKey]uint64{}},
		}
	}
	return p
}

func (p *powered) Open(d *disktest.Disk, first bool) (err error) {
	p.disk = d
	p.host, err = shard.OpenHost(shard.HostConfig{
		Dir: "offline", FS: d, NodeID: "n", Bootstrap: first, Heartbeat: 10 * time.Millisecond, Tick: time.Millisecond,
		Clock:      func() time.Time { return time.UnixMilli(p.clock.Load()) },
		FlushBytes: 1500, SnapshotCount: 1 << 20, TrailingLogs: 3, Cache: 1 << 20, LogMemTable: 256 << 10, StateMemTable: 256 << 10,
	})
	if err != nil {
		return err
	}
	cfg := DefaultConfig()
	for _, x := range p.groups {
		fail := func(err error) { p.lost.Store(&err) }
		x.m = &replica{
			group: newGroup(cfg, x.id, disktest.Groups, 0, newPeers(), newCounters(nil), slog.New(slog.DiscardHandler), fail),
			led:   make(chan uint64, 8), done: make(chan result, 64),
		}
		if x.g, err = shard.Open(p.host, x.id, x.m); err != nil {
			return errors.Join(err, p.host.Close())
		}
	}
	for _, x := range p.groups {
		if _, err := receive(x.m.led); err != nil {
			return fmt.Errorf("leader of %s: %w", x.id, err)
		}
	}
	return nil
}

// receive waits for what must come.
func receive[T any](from <-chan T) (v T, err error) {
	select {
	case v = <-from:
	case <-time.After(60 * time.Second):
		err = errors.New("nothing came")
	}
	return v, err
}

// on runs f on the shard goroutine.
func (x *poweredGroup) on(f func()) error { return x.g.Call(context.Background(), f) }

func (p *powered) Step(group int) error {
	x := p.groups[group]
	var want []string
	err := x.on(func() {
		n := 1
		if x.ops.rng.IntN(3) == 0 {
			n = 4 // in one entry
		}
		for i := range n {
			c := x.next(i > 0)
			p.bodies = append(p.bodies, fillBodies(x.ops.rng, &c)...)
			if !x.g.Propose(appendCommand(nil, &c), proposal{}) {
				want = append(want, "accepted")
				continue
			}
			c = counted(x.m.state, c)
			x.told = append(x.told, c)
			want = append(want, x.model.apply(&c, 1))
		}
	})
	if err != nil {
		return err
	}
	for _, w := range want {
		r, err := receive(x.m.done)
		if err != nil {
			return err
		}
		if got := show(r); got != w {
			return fmt.Errorf("%s: %s, want %s", x.id, got, w)
		}
	}
	if !p.disk.Cut() {
		x.acked = len(x.told)
	}
	return x.on(func() { x.model.learnStamps(x.m.state) })
}

// next makes a command; storing: one that does not depend on what was not applied yet.
func (x *poweredGroup) next(storing bool) command {
	for {
		c := x.ops.next(x.model, x.m.state)
		switch c.op {
		case opExpireQueues, opExpireStreams, opExpireReceipts:
			c.cut, c.cutTombs = int64(x.ops.rng.IntN(2))<<50, 0 // the shard stamps: everything or nothing
		}
		if !storing || c.op == opMessage {
			return c
		}
	}
}

// fillBodies makes the ciphertexts of a message random, so that they can be found, and returns those that are long enough to be.
func fillBodies(rng *rand.Rand, c *command) (bodies [][]byte) {
	if c.op != opMessage {
		return nil
	}
	for b := c.body; len(b) > 0; {
		_, cipher, rest, _ := stanza.NextCipher(b)
		for i := range cipher {
			cipher[i] = byte(rng.Uint32())
		}
		if len(cipher) >= 16 {
			bodies = append(bodies, append([]byte(nil), cipher...))
		}
		b = rest
	}
	return bodies
}

func (p *powered) WriteAhead(group int) error {
	x := p.groups[group]
	return x.on(func() { x.m.relieve(200); x.m.evictQueues(1) })
}

func (p *powered) Snapshot(group int) error { return p.groups[group].g.Snapshot(context.Background()) }

func (p *powered) Scrub() error {
	since := time.UnixMilli(p.clock.Add((12 * time.Hour).Milliseconds()))
	limit := time.After(60 * time.Second)
	for _, s := range p.host.Status() {
		for s.Scrubbed.Before(since) {
			select {
			case <-limit:
				return fmt.Errorf("%s was not scrubbed", s.Group)
			case <-time.After(time.Millisecond):
			}
			for _, now := range p.host.Status() {
				if now.Group == s.Group {
					s = now
				}
			}
		}
	}
	return nil
}

func (p *powered) Dead() (dead [][]byte) {
	queued := map[string]bool{}
	for _, x := range p.groups {
		for _, q := range x.model.queues {
			for _, e := range q.entries {
				queued[e.body] = true
			}
		}
	}
	for _, b := range p.bodies {
		if !queued[string(b)] {
			dead = append(dead, b)
		}
	}
	return dead
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
	var first string
	for k := x.acked; k <= len(x.told); k++ {
		m := newModel()
		for _, c := range x.told[:k] {
			m.apply(&c, 1)
		}
		var diff string
		if err := x.on(func() {
			m.learnStamps(x.m.state)
			if diff = m.compare(x.m.state); diff == "" {
				diff = checkMemory(x.m.state)
			}
		}); err != nil {
			return err
		}
		if diff == "" {
			x.told, x.acked, x.model = x.told[:k], k, m
			return nil
		}
		if first == "" {
			first = diff
		}
	}
	return fmt.Errorf("neither after the %d acked commands, nor after any of the %d that follow: %s", x.acked, len(x.told)-x.acked, first)
}

func (p *powered) Close() error { return p.host.Close() }

// TestPowerCutAtEverySync cuts the power of two queue groups on one disk before each sync of a scenario: see disktest.Scenario.
func TestPowerCutAtEverySync(t *testing.T) {
	seeds, work := 1, 2
	if os.Getenv("LINECARD_LONG") != "" {
		seeds, work = 4, 8
	}
	for seed := range uint64(seeds) {
		disktest.MustSurvive(t, func(d *disktest.Disk) error { return disktest.Scenario(d, newPowered(seed), work) })
	}
}
