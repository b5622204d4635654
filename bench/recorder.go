package bench

import (
	"math"
	"sync"
	"time"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

// tick is what was seen at a moment.
type tick struct {
	at      time.Time
	clients swarm.Counters
	servers parts
	busy    time.Duration // of the whole machine
	engines meter.Usage   // of the clients' processes here
}

// recorder looks at clients and servers about once a second while orders run. The fleet calls it from a goroutine of its own.
type recorder struct {
	sys      *system
	engines  func() []int
	progress *progress

	mu     sync.Mutex
	ticks  []tick
	done   func(swarm.Counters) float64 // of the phase that runs; nil: none is shown
	fault  error                        // the first
	failed func(error)                  // called with it, once: nothing that waits for a server that is gone would ever end
	paused bool
}

// see is the fleet's Progress.
func (r *recorder) see(c swarm.Counters) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused {
		return
	}
	r.take(c)
	if r.done != nil {
		r.progress.at(r.done(c), "")
	}
}

// take adds a tick. Caller holds mu.
func (r *recorder) take(c swarm.Counters) {
	servers, err := r.sys.look(false)
	if err == nil {
		err = r.sys.check()
	}
	if err != nil && r.fault == nil {
		r.fault = err
		r.failed(err)
	}
	t := tick{at: time.Now(), clients: c, servers: servers, busy: meter.Busy()}
	if r.engines != nil {
		t.engines, _ = meter.UsageOf(r.engines()) // shown beside the servers' only
	}
	r.ticks = append(r.ticks, t)
}

// begin starts a phase whose progress is counted by done, and forgets the ticks before it but for the last.
func (r *recorder) begin(phase string, total float64, unit string, done func(swarm.Counters) float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.begin(phase, total, unit)
	r.done = done
	if n := len(r.ticks); n > 1 {
		r.ticks = append([]tick(nil), r.ticks[n-1])
	}
}

// end ends it.
func (r *recorder) end(done float64, more string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.end(done, more)
	r.done = nil
}

// between returns the ticks of a span of time.
func (r *recorder) between(from, to time.Time) (all []tick) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.ticks {
		if !t.at.Before(from) && !t.at.After(to) {
			all = append(all, t)
		}
	}
	return all
}

// window is what happened from one tick to another.
type window struct{ first, last tick }

func (w window) wall() time.Duration { return w.last.at.Sub(w.first.at) }

func (w window) servers() meter.Usage {
	return w.last.servers.usage().Since(w.first.servers.usage())
}

func (w window) part(name string) meter.Usage {
	return w.last.servers.part(name).Usage.Since(w.first.servers.part(name).Usage)
}

// cpu is the CPU time of all servers; NaN, which no figure takes, where not all of them tell.
func (w window) cpu() (microseconds float64) {
	if !w.last.servers.whole() {
		return math.NaN()
	}
	return micros(w.servers().CPU())
}

// cores is the same as a part of one processor.
func (w window) cores() float64 { return w.cpu() / micros(w.wall()) }

// others is the share of the machine that neither servers nor clients used.
func (w window) others(cpus int) float64 {
	own := w.servers().CPU() + w.last.engines.Since(w.first.engines).CPU() // this program's own work counts as others'
	return max(0, float64(w.last.busy-w.first.busy-own)) / float64(w.wall()) / float64(cpus)
}

// per is the servers' CPU time in microseconds per unit.
func (w window) per(units float64) float64 { return w.cpu() / units }

// windowsOf cuts ticks into at most n windows of about the same length, neighbours sharing a tick.
func windowsOf(ticks []tick, n int) (all []window) {
	spans := len(ticks) - 1
	n = min(n, spans)
	for i := range n {
		all = append(all, window{ticks[i*spans/n], ticks[(i+1)*spans/n]})
	}
	return all
}

// series makes a chart's line of what f sees at each tick, over seconds.
func series(name string, ticks []tick, f func(tick) float64) report.Series {
	s := report.Series{Name: name}
	for _, t := range ticks {
		s.Points = append(s.Points, [2]float64{t.at.Sub(ticks[0].at).Round(time.Millisecond).Seconds(), f(t)})
	}
	return s
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
