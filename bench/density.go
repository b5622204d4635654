package bench

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	densitySessions = 15000
	densityHold     = 10 * time.Second
	setupWindows    = 5
	largestCaches   = 12
)

// Goals of the design for idle sessions.
const (
	goalUser    = 800 // of all servers, empty base included
	goalGateway = 600
	goalBehind  = 200 // router and offline together, above their empty size
	goalSetup   = 225
	goalPing    = 18
	goalCores   = 0.2 / 2e6 // of a session that pings every 5 minutes
	goalWorker  = 6 << 20
	goalClient  = 300
)

// density opens sessions that say nothing, holds them and looks at what they take.
func (r *run) density() error {
	n := cmp.Or(r.o.Sessions, densitySessions)
	if err := r.up(n, 0); err != nil {
		return err
	}
	r.title(n)
	before, err := r.sys.counters()
	if err != nil {
		return err
	}
	opened, ramp, err := r.open("open", swarm.Open{Range: swarm.Range{Count: n}, Mode: swarm.Register, Rate: r.o.Rate})
	if err != nil {
		return err
	}
	r.ramp(n, opened, ramp)
	if err := r.hold(n); err != nil {
		return err
	}
	full, err := r.sys.look(true)
	if err != nil {
		return err
	}
	kernel, err := meter.ReadKernel()
	if err != nil {
		return err
	}
	r.memory(n, full)
	r.kernelMemory(n, kernel.Since(r.kernel))
	if err := r.pings(n); err != nil {
		return err
	}
	if err := r.collections(before); err != nil {
		return err
	}
	if r.o.Messages > 0 {
		if err := r.letters(); err != nil {
			return err
		}
	}
	if err := r.lost(n); err != nil {
		return err
	}
	if r.o.KillWorker {
		if err := r.killWorker(n); err != nil {
			return err
		}
	}
	r.rep.Tables = append(r.rep.Tables, budgetTable())
	return nil
}

func (r *run) title(n int) {
	where := "gateways elsewhere"
	switch {
	case r.plan.here:
		where = "loopback, both ends on one machine"
	case !r.o.remote():
		where = "clients on other machines"
	}
	r.rep.Title = fmt.Sprintf("%d established, bound, idle Noise sessions: %s", n, where)
}

// ramp reports the set-up.
func (r *run) ramp(n int, opened swarm.Opened, ticks []tick) {
	var each []float64
	for _, w := range windowsOf(ticks, setupWindows) {
		if bound := w.last.clients.Binds - w.first.clients.Binds; bound > uint64(n/setupWindows/4) { // a window of few says little
			each = append(each, w.per(float64(bound)))
		}
	}
	whole := window{ticks[0], ticks[len(ticks)-1]}
	r.add(report.Figure{Key: "sessions", Name: "sessions established and bound", Value: float64(opened.Bound)})
	r.add(report.Figure{Key: "setup_cpu_us", Name: "server CPU per set-up, XX and register", Unit: "us", Value: whole.per(float64(n)), Samples: each, Goal: goalSetup, Better: report.Less})
	r.add(report.Figure{Key: "setup_rate", Name: "set-ups per second", Unit: "/s", Value: float64(opened.Bound) / opened.Elapsed.Seconds(), Better: report.More})
	r.add(report.Figure{Key: "setup_retries", Name: "  attempts beyond the first", Value: float64(opened.Attempts) - float64(opened.Bound), Better: report.Less})
	r.add(report.Figure{Key: "setup_p50_ms", Name: "from connect to bound, median", Unit: "ms", Value: millis(opened.Setup.At(50)), Better: report.Less})
	r.add(report.Figure{Key: "setup_p99_ms", Name: "from connect to bound, 99th percentile", Unit: "ms", Value: millis(opened.Setup.At(99)), Better: report.Less})
	r.rep.Charts = append(r.rep.Charts, report.Chart{Name: "density-ramp", Title: "Sessions while they are opened", X: "seconds", Y: "sessions", Series: []report.Series{
		series("bound", ticks, func(t tick) float64 { return float64(t.clients.Bound) }),
	}})
}

// hold keeps the sessions, and says what the servers use meanwhile.
func (r *run) hold(n int) error {
	hold := cmp.Or(r.o.Hold, densityHold)
	from := time.Now()
	r.rec.begin("hold", hold.Seconds(), "s", func(swarm.Counters) float64 { return time.Since(from).Seconds() })
	ticks, err := r.watch(func() error { return r.rest(hold) })
	if err != nil {
		return err
	}
	w := window{ticks[0], ticks[len(ticks)-1]}
	r.rec.end(w.wall().Seconds(), fmt.Sprintf(", %d of %d bound", w.last.clients.Bound, n))
	r.add(report.Figure{Key: "hold_seconds", Name: "held idle", Unit: "s", Value: w.wall().Seconds()})
	r.add(report.Figure{Key: "hold_pings", Name: "  pings by schedule meanwhile", Value: float64(w.last.clients.Pings - w.first.clients.Pings)})
	r.add(report.Figure{Key: "hold_cores", Name: "  server CPU meanwhile, pings included", Unit: "cores", Value: w.cores(), Better: report.Less})
	return nil
}

// memory reports what the servers hold, as it is: no collection is forced.
func (r *run) memory(n int, full parts) {
	per := float64(n)
	base, all := pss(r.empty), pss(full)
	grown := func(name string) float64 {
		if !full.has(name) || !r.empty.has(name) {
			return math.NaN()
		}
		return float64(full.part(name).Memory.PSS-r.empty.part(name).Memory.PSS) / per
	}
	r.add(report.Figure{Key: "user_bytes_per_session", Name: "user memory of all servers per session, empty base included", Unit: "B", Value: all / per, Goal: goalUser, Better: report.Less})
	if r.o.Shape == Apart || r.o.remote() {
		r.add(report.Figure{Key: "gateway_marginal_bytes", Name: "  gateway, above its empty size, per session", Unit: "B", Value: grown("gateway"), Goal: goalGateway, Better: report.Less})
		r.add(report.Figure{Key: "router_bytes", Name: "  router, above its empty size, per session", Unit: "B", Value: grown("router"), Better: report.Less})
		r.add(report.Figure{Key: "offline_bytes", Name: "  offline, above its empty size, per session", Unit: "B", Value: grown("offline"), Better: report.Less})
		r.add(report.Figure{Key: "behind_bytes", Name: "  router and offline together", Unit: "B", Value: grown("router") + grown("offline"), Goal: goalBehind, Better: report.Less})
		gateways := r.empty.part("gateway")
		r.add(report.Figure{Key: "worker_empty_bytes", Name: "one empty gateway process", Unit: "B", Value: float64(gateways.Memory.PSS) / float64(gateways.Processes), Goal: goalWorker, Better: report.Less})
	}
	r.add(report.Figure{Key: "base_bytes", Name: "all servers, empty", Unit: "B", Value: base, Better: report.Less})
	t := report.Table{Title: "Memory of the servers (proportional set size, no collection forced)", Header: []string{"part", "processes", "empty", "with the sessions", "per session above empty"}}
	for _, p := range full {
		t.Rows = append(t.Rows, []string{p.Name, fmt.Sprint(p.Processes), report.Bytes(float64(r.empty.part(p.Name).Memory.PSS)), report.Bytes(float64(p.Memory.PSS)), fmt.Sprintf("%.0f B", grown(p.Name))})
	}
	if full.whole() {
		t.Rows = append(t.Rows, []string{"all", "", report.Bytes(base), report.Bytes(all), fmt.Sprintf("%.0f B", (all-base)/per)})
	}
	if m, err := r.fleet.Memory(r.ctx); err == nil && m.PSS > 0 {
		r.add(report.Figure{Key: "client_bytes_per_session", Name: "the bench's own client, above its empty size, per session", Unit: "B", Value: (float64(m.PSS) - float64(m.Base)) / per, Goal: goalClient, Better: report.Less})
		t.Rows = append(t.Rows, []string{"the bench's clients", fmt.Sprint(len(r.fleet.Pids())), report.Bytes(float64(m.Base)), report.Bytes(float64(m.PSS)), fmt.Sprintf("%.0f B", (float64(m.PSS)-float64(m.Base))/per)})
	}
	r.rep.Tables = append(r.rep.Tables, t)
	if full.memory().Shared {
		r.rep.Note("memory is resident size: this system, or servers elsewhere, tell no proportional one")
	}
	if full.whole() {
		r.rep.Charts = append(r.rep.Charts, peerChart("density-peers", "User memory per idle session, empty base included", "bytes", all/per,
			func(p peer) float64 { return p.sessionBytes }))
	}
}

// kernelMemory reports what the kernel took for the sessions; with both ends here that is a pair of sockets each.
func (r *run) kernelMemory(n int, grown meter.Kernel) {
	if r.o.remote() && len(r.o.Agents) > 0 {
		return // nothing of it is here
	}
	label := map[bool]string{true: "pair: both ends are here", false: "one end is here"}[r.plan.here]
	r.add(report.Figure{Key: "kernel_bytes_per_session", Name: "kernel memory per session (" + label + ")", Unit: "B", Value: float64(grown.Total()) / float64(n), Better: report.Less})
	t := report.Table{Title: "Kernel memory, " + label, Header: []string{"kind", "grown by", "per session"}}
	row := func(name string, bytes int64) {
		t.Rows = append(t.Rows, []string{name, report.Bytes(float64(bytes)), fmt.Sprintf("%.0f B", float64(bytes)/float64(n))})
	}
	row("slab caches", grown.Slab)
	for _, c := range grown.Largest(largestCaches) {
		row("  "+c.Name, c.Bytes)
	}
	row("page tables", grown.PageTables)
	row("mapped areas (large descriptor tables)", grown.Vmalloc)
	row("per processor", grown.PerCPU)
	row("socket buffers", grown.Sockets)
	row("all of it", grown.Total())
	row("less available to programs, user memory included", -grown.Available)
	r.rep.Tables = append(r.rep.Tables, t)
	if grown.Caches == nil {
		r.rep.Note("slabs by cache are readable by the administrator only")
	}
}

// pings has every session ping once.
func (r *run) pings(n int) error {
	var pinged swarm.Pinged
	before := r.rec.last().clients.Pongs
	r.rec.begin("ping", float64(n), "pings", func(c swarm.Counters) float64 { return float64(c.Pongs - before) })
	ticks, err := r.watch(func() (err error) {
		pinged, err = r.fleet.Ping(r.ctx, swarm.Ping{Range: swarm.Range{Count: n}})
		return err
	})
	if err != nil {
		return err
	}
	r.rec.end(float64(pinged.Pongs), "")
	w := window{ticks[0], ticks[len(ticks)-1]}
	cpu := w.per(float64(w.last.clients.Pongs - w.first.clients.Pongs)) // by schedule as well: the servers' time is that of all
	r.add(report.Figure{Key: "ping_cpu_us", Name: "server CPU per ping and pong", Unit: "us", Value: cpu, Goal: goalPing, Better: report.Less})
	r.add(report.Figure{Key: "ping_cores", Name: "  times the sessions, each pinging every 5 minutes", Unit: "cores", Value: cpu * float64(n) / 300e6, Goal: goalCores * float64(n), Better: report.Less})
	r.add(report.Figure{Key: "ping_unanswered", Name: "  sessions without a pong", Value: float64(n - pinged.Pongs), Better: report.Less})
	return nil
}

// collections reports the collector's part of the CPU time that the servers' runtimes had since before.
func (r *run) collections(before counters) error {
	after, err := r.sys.counters()
	if err != nil {
		return err
	}
	class := func(name string) float64 {
		return after.since(before, "go_cpu_classes_"+name+"_cpu_seconds_total")
	}
	r.add(report.Figure{Key: "gc_cpu_fraction", Name: "garbage collection's share of the servers' CPU time", Value: class("gc_total") / (class("total") - class("idle")), Better: report.Less})
	return nil
}

// lost counts sessions that ended, whether they are back or not, and those that are not there for whatever reason.
func (r *run) lost(n int) error {
	c, err := r.fleet.Counters(r.ctx)
	if err != nil {
		return err
	}
	r.add(report.Figure{Key: "lost", Name: "sessions lost", Value: float64(max(int(sum(c.Lost)), n-c.Bound)), Better: report.Less})
	if len(c.Lost)+len(c.Failed) > 0 {
		r.rep.Note(fmt.Sprintf("sessions lost: %s; attempts that failed: %s", reasons(c.Lost), reasons(c.Failed)))
	}
	return nil
}
