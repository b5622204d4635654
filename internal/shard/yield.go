package shard

import (
	"errors"
	"sync/atomic"
	"time"
)

// errLowHeir: a replica's disk is below its floor, so that it would refuse what the present leader takes.
var errLowHeir = errors.New("shard: the disk of the other replica is below its floor")

// yieldWithin is how long a leader whose disk is below its floor goes on to take messages while it looks for somebody who leads in its place:
// the disk is looked at once a second, a replica may have to be asked, and a leadership that has just begun is left alone for lookFirst. What
// is written within it may pass the floor, as between two looks.
const yieldWithin = 5 * time.Second

// yielding is what a group does about its host's low disk where it has other voters: one disk of three that is full should refuse nobody
// anything. The leader hands over, and takes messages until it has, or has not been able to for yieldWithin. Shard goroutine only, but for on.
type yielding struct {
	on      atomic.Bool     // a low disk refuses nothing for now
	low     bool            // the disk is, and was noticed
	since   time.Duration   // when it was, or when the leadership began after it
	spurned map[string]bool // those that could not take over
}

// start begins anew with a leadership.
func (y *yielding) start(now time.Duration) {
	y.since = now
	clear(y.spurned)
}

// watchDisk looks at the disk, each tick.
func (g *Group[C, R]) watchDisk(now time.Duration) {
	y, was := &g.yields, g.yields.low
	y.low = g.host.cfg.Disk.Low()
	if y.low && !was {
		y.start(now)
		if g.led != 0 && g.rec.backoff == 0 {
			g.rec.next = min(g.rec.next, max(now, g.rec.began+lookFirst))
		}
	}
	y.on.Store(g.led != 0 && g.voters > 1 && (!y.low || now-y.since < yieldWithin))
}

// spurn notes that one of others replicas could not take over, so that another one is asked; when none could, all are asked again.
func (y *yielding) spurn(node string, others int) {
	if y.spurned == nil || len(y.spurned)+1 >= others {
		y.spurned = map[string]bool{}
	}
	y.spurned[node] = true
}

// StorageFull reports whether the disk is below its floor, so that commands that grow the state should be refused storage_full. For a moment it is
// not, where another replica may lead. Safe for concurrent use.
func (c *core) StorageFull() bool { return c.host.cfg.Disk.Low() && !c.yields.on.Load() }
