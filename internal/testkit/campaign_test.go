package testkit

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// campaign is a cluster under a steady load in which one thing after the other breaks: three routers, three offlines and a gateway, each a
// process, on four machines where the system allows that (see ground).
type campaign struct {
	t     *testing.T // of the step that runs
	s     *System
	g     *ground
	load  *steady
	rnd   *rand.Rand
	costs costs
	long  bool
	ended bool // a promise was broken: what comes after it would tell nothing
	left  []string

	extra  []*Device      // that steps have opened beside the load's
	clocks map[int]*clock // that were stepped, by process id
	aging  int            // the shard of what expires
	ahead  time.Duration  // how far the stamps of queues are ahead of the true time
}

// TestFaults breaks what can break, one thing after the other, under load, and judges the history after each: nothing acked is lost,
// order holds, nothing comes twice, no receipt is made up. What each fault cost its users is in the log; docs/operations.md has the
// figures. The long run does everything more often, and kills 200 times.
func TestFaults(t *testing.T) {
	if !enterGround(t) {
		return
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &campaign{t: t, g: newGround(t), rnd: rand.New(rand.NewPCG(seed, 0)), long: os.Getenv("LINECARD_LONG") != "", clocks: map[int]*clock{}}
	c.aging = c.rnd.IntN(defaultShards)
	c.s = Start(t, Cluster, c.settings())
	c.healthy()
	c.load = newSteady(t, c.s, NewHistory())
	c.step("nothing", 1, 1, c.calm)
	for _, role := range []string{"router", "offline"} {
		c.step("stopped "+role, 1, 20, func() { c.stopped(role) })
	}
	c.step("machine cut off", 1, 20, c.machineCut)
	c.step("leader cut off from gateways", 1, 10, c.gatewayCut)
	c.step("not heard", 1, 10, func() { c.halfCut(true) })
	c.step("deaf", 1, 10, func() { c.halfCut(false) })
	c.step("slow disk", 1, 10, c.slowDisk)
	c.step("full disk", 1, 10, c.fullDisk)
	c.step("clock", 1, 10, c.clockSteps)
	c.step("damage", 2, 40, c.damage)
	c.step("kill", 10, 200, c.kill)
	c.step("expiry", 1, 3, c.expiry) // last, since the stamps of a cluster never go back
	c.load.end()
	c.load.h.Judge(t, c.load.labels)
	sent, acked, got := c.load.h.Totals()
	t.Logf("sent %d, acked %d, received %d\n%s", sent, acked, got, &c.costs)
	if acked < 1000 && only == "" {
		t.Errorf("only %d messages acked: the load was too small to show anything", acked)
	}
}

func (c *campaign) settings() Settings {
	set := Settings{Gateway: crowd, Router: "stranger_rate = 1e6\nstranger_burst = 1000000\n", Machine: c.g.machine}
	if dir := os.Getenv("LINECARD_FAULT_LOGS"); dir != "" { // for who looks into it: the lines of all processes, as they come
		f, err := os.Create(filepath.Join(dir, "faults.log"))
		must(c.t, err)
		c.t.Cleanup(func() { f.Close() })
		set.LogLine = func(line []byte) { _, _ = f.Write(slices.Concat(line, []byte("\n"))) }
	}
	return set
}

// only, if not empty, is the one step to do: for who looks into it.
var only = os.Getenv("LINECARD_FAULT")

// step does one fault a number of times, in the short or in the long run, and judges.
func (c *campaign) step(name string, short, long int, f func()) {
	if c.ended || only != "" && !strings.Contains(name, only) {
		return
	}
	rounds := short
	if c.long {
		rounds = long
	}
	t, before := c.t, time.Now()
	defer func() { c.t, c.s.t, c.load.t = t, t, t }()
	t.Run(name, func(t *testing.T) {
		c.t, c.s.t, c.load.t = t, t, t
		if why := c.g.cannot(name); why != "" {
			t.Skip(why)
		}
		for round := range rounds {
			f()
			if (round+1)%10 == 0 || round+1 == rounds {
				c.ended = !c.load.settle() || c.ended
			}
			if c.ended {
				return
			}
		}
		c.healthy()
		t.Logf("%d rounds in %.1fs", rounds, time.Since(before).Seconds())
	})
	c.ended = c.ended || t.Failed()
}

// healthy waits until all of the cluster is up, every group has its three voters, and all of them have what their leader has.
func (c *campaign) healthy() {
	c.t.Helper()
	c.s.StartAll()
	c.s.WaitVoters(3)
	Eventually(c.t, "every replica answers its leader and is near", func() bool {
		reachable := 0.0
		for _, name := range c.s.members() {
			_, page := c.s.Get(name, "/metrics")
			m, prefix := parseMetrics(page), "linecard_"+roleOf(name)+"_shard_"
			if m.Max(prefix+"lag_entries") > 256 {
				return false
			}
			reachable += m.Sum(prefix + "reachable_voters")
		}
		return reachable == 3*2*defaultShards
	})
}

// pauseUpTo lets the load run for a random time, so that a fault comes at any moment. Nothing is expected to have happened after it.
func (c *campaign) pauseUpTo(d time.Duration) { time.Sleep(time.Duration(c.rnd.Int64N(int64(d)))) }
