package simtest

import (
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// weather is the network between the processes: how long each message takes, who reaches whom, who is dead. What it draws for one way
// depends on the seed and on what went that way before, and on nothing else that happens at the same time. Safe for concurrent use.
type weather struct {
	seed   uint64
	region climate

	mu      sync.Mutex
	dead    map[string]bool // processes that were killed: nothing leaves them any more
	cuts    map[way]int     // ways that are cut, by how many faults
	slow    map[way]time.Duration
	draws   map[string]*rand.Rand
	changed chan struct{} // closed at each change
}

// way is one direction between two processes.
type way struct{ from, to string }

// climate says how messages travel while nothing is wrong.
type climate struct {
	raft, link  time.Duration // a message takes up to this
	tail        float64       // share of messages that take up to twenty times as long
	loss        float64       // share of raft messages that are lost
	linkFailure float64       // share of batches at which a stream breaks
}

var (
	errDead = errors.New("simtest: the process is dead")
	errLost = errors.New("simtest: lost on the way")
)

// Patience of who waits for somebody who is cut off.
const (
	raftPatience = time.Second
	linkPatience = 9 * time.Second // a stream notices after 7.5 to 10 s of silence
)

func newWeather(seed uint64, c climate) *weather {
	return &weather{seed: seed, region: c, dead: map[string]bool{}, cuts: map[way]int{}, slow: map[way]time.Duration{},
		draws: map[string]*rand.Rand{}, changed: make(chan struct{})}
}

// draw returns the source of one kind of message on one way. Under mu.
func (w *weather) draw(key string) *rand.Rand {
	r := w.draws[key]
	if r == nil {
		h := fnv.New64a()
		h.Write([]byte(key))
		r = rand.New(rand.NewPCG(w.seed, h.Sum64()))
		w.draws[key] = r
	}
	return r
}

// change does f and has everybody who waits look again.
func (w *weather) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// kill lets nothing leave a process any more. What left it before arrives.
func (w *weather) kill(name string)   { w.change(func() { w.dead[name] = true }) }
func (w *weather) revive(name string) { w.change(func() { delete(w.dead, name) }) }

// cut separates the ways listed until the returned function is called.
func (w *weather) cut(ways []way) (heal func()) {
	w.change(func() {
		for _, x := range ways {
			w.cuts[x]++
		}
	})
	return func() {
		w.change(func() {
			for _, x := range ways {
				w.cuts[x]--
			}
		})
	}
}

// delay makes messages of the ways listed take up to d longer until the returned function is called.
func (w *weather) delay(ways []way, d time.Duration) (heal func()) {
	w.change(func() {
		for _, x := range ways {
			w.slow[x] += d
		}
	})
	return func() {
		w.change(func() {
			for _, x := range ways {
				w.slow[x] -= d
			}
		})
	}
}

// raft is the shard.Carry of all replicas.
func (w *weather) raft(from, to string, g stanza.Group, stop <-chan struct{}) error {
	x := way{from, to}
	w.mu.Lock()
	r := w.draw(from + ">" + to + " " + g.String())
	lost := r.Float64() < w.region.loss
	d := w.time(r, x, w.region.raft)
	w.mu.Unlock()
	if err := w.travel(x, d, raftPatience, stop); err != nil {
		return err
	}
	if lost {
		return errLost
	}
	return nil
}

// road is the link.Road of an endpoint of the process from.
func (w *weather) road(from string, names func(link.Info) string) link.Road {
	return func(_, peer link.Info, down <-chan struct{}) error {
		x := way{from, names(peer)}
		w.mu.Lock()
		r := w.draw(x.from + "-" + x.to)
		fails := r.Float64() < w.region.linkFailure
		d := w.time(r, x, w.region.link)
		w.mu.Unlock()
		if err := w.travel(x, d, linkPatience, down); err != nil {
			return err
		}
		if fails {
			return errLost
		}
		return nil
	}
}

// time draws how long a message takes. Never a whole number of microseconds, so that two seldom arrive at the same moment. Under mu.
func (w *weather) time(r *rand.Rand, x way, usual time.Duration) time.Duration {
	d := time.Duration(r.Int64N(int64(usual)))
	if r.Float64() < w.region.tail {
		d *= 20
	}
	if extra := w.slow[x]; extra > 0 {
		d += time.Duration(r.Int64N(int64(extra)))
	}
	return d | 1
}

// travel waits as long as a message is under way. On a way that is cut, and before a process that is dead, it waits for that to end.
func (w *weather) travel(x way, d, patience time.Duration, stop <-chan struct{}) error {
	w.mu.Lock()
	dead := w.dead[x.from]
	w.mu.Unlock()
	if dead {
		return errDead
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-stop:
		return errLost
	}
	t.Reset(patience)
	for {
		w.mu.Lock()
		blocked, changed := w.cuts[x] > 0 || w.dead[x.to], w.changed
		w.mu.Unlock()
		if !blocked {
			return nil
		}
		select {
		case <-changed:
		case <-t.C:
			return errLost
		case <-stop:
			return errLost
		}
	}
}
