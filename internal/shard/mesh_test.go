package shard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/disktest"
	"linecard.example/internal/stanza"
)

// cloud is three replicas of one group in simulated time, with clients that ask whoever leads.
type cloud struct {
	t     *testing.T
	rng   *rand.Rand
	mesh  *Mesh
	nodes []*cloudNode
	next  int // of commands

	mu      sync.Mutex // of what the network and the shard goroutines see
	draw    *rand.Rand
	slow    map[[2]string]time.Duration // ways that are slow
	cut     map[[2]string]bool
	acked   map[string]int // committed, as its proposer was told, by when: the number of answers before it
	never   map[string]bool
	reads   int
	answers int
}

type cloudNode struct {
	name string
	disk *disktest.Disk
	boot bool
	h    *Host
	m    *toy
	g    *toyGroup
	cmds []string // by context
	seen int      // results that were looked at
}

var errFog = errors.New("lost in the fog")

func newCloud(t *testing.T, seed uint64) *cloud {
	c := &cloud{t: t, rng: rand.New(rand.NewPCG(seed, 7)), slow: map[[2]string]time.Duration{}, cut: map[[2]string]bool{},
		acked: map[string]int{}, never: map[string]bool{}, draw: rand.New(rand.NewPCG(seed, 8))}
	c.mesh = NewMesh(400*time.Millisecond, c.carry)
	for i := range 3 {
		n := &cloudNode{name: fmt.Sprint("n", i), disk: disktest.NewDisk(0), boot: true}
		c.nodes = append(c.nodes, n)
		c.open(n)
	}
	return c
}

// carry takes its time, and loses what goes where the network is cut, or bad luck.
func (c *cloud) carry(from, to string, _ stanza.Group, stop <-chan struct{}) error {
	c.mu.Lock()
	d := time.Duration(c.draw.Int64N(int64(3*time.Millisecond))) | 1
	if extra := c.slow[[2]string{from, to}]; extra > 0 {
		d += time.Duration(c.draw.Int64N(int64(extra)))
	}
	lost := c.cut[[2]string{from, to}] || c.draw.IntN(200) == 0
	c.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-stop:
		return errFog
	}
	if lost {
		return errFog
	}
	return nil
}

// change changes the network.
func (c *cloud) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *cloud) open(n *cloudNode) {
	cfg := testConfig(n.disk)
	began := time.Now()
	cfg.NodeID, cfg.Bootstrap, cfg.Voters = n.name, n.boot, []string{"n0", "n1", "n2"}
	cfg.Heartbeat, cfg.SyncInterval, cfg.TrailingLogs, cfg.SnapshotCount = 300*time.Millisecond, -1, 1<<20, 40
	cfg.FlushBytes, cfg.PackCommands = 1<<10, 4
	cfg.Monotonic = func() time.Duration { return time.Since(began) }
	cfg.Transport = c.mesh.Transport(n.name)
	var err error
	if n.h, err = OpenHost(cfg); err != nil {
		c.t.Fatal(err)
	}
	n.m, n.cmds, n.seen, n.boot = newToy(), nil, 0, false
	n.m.led = make(chan uint64, 1024)
	if n.g, err = Open[int, uint64](n.h, testGroup, n.m); err != nil {
		c.t.Fatal(err)
	}
}

// bounce takes the power from a node and gives it back.
func (c *cloud) bounce(n *cloudNode) {
	c.change(func() {
		for _, o := range c.nodes {
			c.cut[[2]string{n.name, o.name}] = true
		}
	})
	c.look(n) // what it answered so far is durable, what it answers from here on nobody hears
	n.disk.Off()
	if err := n.h.Close(); err != nil {
		c.t.Fatal(err)
	}
	n.disk.PowerOn()
	time.Sleep(time.Duration(c.rng.Int64N(int64(time.Second))))
	c.change(func() { clear(c.cut) })
	c.open(n)
}

// look takes in what proposers were told by n, up to now.
func (c *cloud) look(n *cloudNode) {
	results := n.m.results()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range results[n.seen:] {
		cmd := n.cmds[r.ctx]
		switch r.out {
		case Committed:
			c.answers++
			c.acked[cmd] = c.answers
		case Rejected:
			c.never[cmd] = true
		}
	}
	n.seen = len(results)
}

func (c *cloud) lookAll() {
	for _, n := range c.nodes {
		c.look(n)
	}
}

// ask proposes to, and reads from, everybody who believes to lead.
func (c *cloud) ask() {
	c.lookAll()
	for _, n := range c.nodes {
		before := c.answers
		onShard(c.t, n.g, func() {
			if n.m.term == 0 {
				return
			}
			for range c.rng.IntN(4) {
				cmd := fmt.Sprint("c", c.next)
				if n.g.Propose([]byte(cmd), len(n.cmds)) {
					n.cmds = append(n.cmds, cmd)
					c.next++
				}
			}
			n.g.Verify(func(ok bool) {
				if ok {
					c.checkRead(n, before)
				}
			})
		})
	}
}

// checkRead fails if n does not know what somebody was told was committed before the read began. On n's shard goroutine.
func (c *cloud) checkRead(n *cloudNode, before int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	for cmd, at := range c.acked {
		if v, _, err := n.m.o.Get([]byte(cmd)); at <= before && (err != nil || len(v) == 0) {
			c.t.Errorf("%s read under verified leadership and does not know %s, which was committed before", n.name, cmd)
			return
		}
	}
}

// storm does one random thing to the network or to a node.
func (c *cloud) storm() {
	n := c.nodes[c.rng.IntN(3)]
	switch c.rng.IntN(8) {
	case 0:
		c.bounce(n)
	case 1, 2: // cut off, in one direction or both
		both := c.rng.IntN(2) == 0
		c.change(func() {
			for _, o := range c.nodes {
				c.cut[[2]string{n.name, o.name}], c.cut[[2]string{o.name, n.name}] = true, both
			}
		})
	case 3, 4, 5: // hears late
		c.change(func() {
			for _, o := range c.nodes {
				c.slow[[2]string{o.name, n.name}] = 700 * time.Millisecond
			}
		})
	default:
		c.clear()
	}
}

func (c *cloud) clear() {
	c.change(func() {
		clear(c.cut)
		clear(c.slow)
	})
}

// TestReplicasInWeather: whatever the network does and however often the power goes, what a proposer was told holds: committed commands
// are there once on every replica, rejected ones on none; who reads under verified leadership sees what was committed before.
func TestReplicasInWeather(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 8
	}
	var total, unknown, reads int
	for seed := range seeds {
		// Objects that a pool keeps belong to the bubble that made them. Two collections empty every pool.
		runtime.GC()
		runtime.GC()
		synctest.Test(t, func(t *testing.T) {
			c := newCloud(t, seed)
			for range 25 {
				for range 10 {
					c.ask()
					time.Sleep(time.Duration(c.rng.Int64N(int64(80*time.Millisecond))) | 1)
				}
				c.storm()
			}
			unknown += c.calm()
			total, reads = total+c.next, reads+c.reads
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
	runtime.GC()
	runtime.GC()
	t.Logf("%d commands, %d of them of unknown outcome, %d verified reads", total, unknown, reads)
	if unknown == 0 || reads == 0 {
		t.Error("no unknown outcomes, or no reads: the test shows nothing")
	}
}

// calm ends the weather, has everybody agree and judges. It returns how many outcomes were unknown. Replicas that were restarted may agree
// on less than what was committed, until somebody leads and says how far it went: so one more command is committed first.
func (c *cloud) calm() (unknown int) {
	c.clear()
	c.lookAll()
	last := len(c.acked)
	for range 100 {
		c.ask()
		time.Sleep(200 * time.Millisecond)
		if len(c.acked) > last && c.equal() {
			break
		}
	}
	for _, n := range c.nodes {
		c.look(n)
		for _, r := range n.m.results() {
			if r.out == Unknown {
				unknown++
			}
		}
	}
	if len(c.acked) == last || !c.equal() {
		c.t.Error("the replicas do not agree, or commit nothing")
	}
	for _, n := range c.nodes {
		onShard(c.t, n.g, func() { c.judge(n) })
	}
	for _, n := range c.nodes {
		if err := n.h.Close(); err != nil {
			c.t.Error(err)
		}
	}
	return unknown
}

func (c *cloud) equal() bool {
	var first uint64
	for i, n := range c.nodes {
		all, err := n.h.Hashes(c.t.Context())
		if err != nil || len(all) != 1 {
			c.t.Fatal(all, err)
		}
		if i == 0 {
			first = all[0].Hash
		} else if all[0].Hash != first {
			return false
		}
	}
	return true
}

// judge holds the state of n against what proposers were told.
func (c *cloud) judge(n *cloudNode) {
	for i := range c.next {
		cmd := fmt.Sprint("c", i)
		v, _, err := n.m.o.Get([]byte(cmd))
		times := 0
		if len(v) > 0 {
			times = int(v[0])
		}
		_, committed := c.acked[cmd]
		switch {
		case err != nil:
			c.t.Error(err)
		case times > 1:
			c.t.Errorf("%s has %s %d times", n.name, cmd, times)
		case committed && times == 0:
			c.t.Errorf("%s lost %s, which was committed", n.name, cmd)
		case c.never[cmd] && times > 0:
			c.t.Errorf("%s has %s, which was rejected", n.name, cmd)
		}
	}
}
