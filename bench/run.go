package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

// settle is how long servers get to come to rest before anything is read from them.
const settle = 2 * time.Second

const (
	// allHandshakes is how many are under way at once, of all clients. More than the servers finish within their handshake_timeout would be
	// begun again and again, and a busy machine finishes few.
	allHandshakes = 128
	// together is how many engines connect at a time.
	together = 4
)

var errScenario = errors.New("bench: no such scenario")

// scenario is one kind of run.
type scenario struct {
	name  string
	shape Shape // when the options name none
	run   func(*run) error
}

// scenarios in the order of `all`.
func scenarios() []scenario {
	return []scenario{
		{"density", Apart, (*run).density},
		{"storm", Apart, (*run).storm},
		{"route", Together, (*run).route},
		{"offline", Together, (*run).offline},
		{"slow", Apart, (*run).slow},
		{"soak", Apart, (*run).soak},
		{"cluster", Replicas, (*run).cluster},
		{"media", Apart, (*run).media},
		{"relay", Apart, (*run).relay},
	}
}

// Run runs a scenario, or all of them, writes the report and returns it. The error says what failed or which budgets were broken; what
// was measured until then is written nevertheless.
func Run(ctx context.Context, name string, o Options) (*report.Report, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	if name == "all" {
		return runAll(ctx, o)
	}
	list := scenarios()
	at := slices.IndexFunc(list, func(s scenario) bool { return s.name == name })
	if at < 0 {
		return nil, fmt.Errorf("%w: %s", errScenario, name)
	}
	rep, err := runOne(ctx, list[at], o)
	return rep, finish(rep, o, err)
}

// runAll runs every scenario after another, each into a folder of its own below the common report.
func runAll(ctx context.Context, o Options) (*report.Report, error) {
	whole := report.New("all", "All scenarios of the bench", o.Command)
	var faults []error
	for _, s := range scenarios() {
		one := o
		one.Out = filepath.Join(o.Out, s.name)
		one.Assert = nil
		rep, err := runOne(ctx, s, one)
		faults = append(faults, finish(rep, one, err))
		whole.Merge(rep)
		if ctx.Err() != nil {
			break
		}
	}
	return whole, finish(whole, o, errors.Join(faults...))
}

// finish prints and writes a report and, unless the run failed, holds it against the budgets.
func finish(rep *report.Report, o Options, failed error) error {
	fmt.Fprint(o.Console, rep.Text())
	if err := rep.Write(o.Out); err != nil {
		return errors.Join(failed, err)
	}
	fmt.Fprintf(o.Console, "\nwritten to %s\n", filepath.Join(o.Out, report.HTMLFile))
	if failed != nil {
		return failed
	}
	return rep.Check(o.Assert)
}

// run is one run of one scenario.
type run struct {
	ctx      context.Context // ends with the first fault of a server, which is its cause then
	fail     context.CancelCauseFunc
	o        Options
	scenario string
	rep      *report.Report
	progress *progress

	sys   *system
	fleet *swarm.Fleet
	rec   *recorder
	plan  plan

	handshakes int // under way at once, of all clients; 0: allHandshakes

	empty  parts        // servers without sessions
	kernel meter.Kernel // before the first session, clients' processes started
}

func runOne(ctx context.Context, s scenario, o Options) (rep *report.Report, err error) {
	if o.Shape == "" {
		o.Shape = s.shape
	}
	r := &run{
		o: o, scenario: s.name, rep: report.New(s.name, "linecard bench "+s.name, o.Command),
		progress: &progress{w: o.Console, terminal: o.Terminal, clock: time.Now},
	}
	r.ctx, r.fail = context.WithCancelCause(ctx)
	defer r.fail(nil)
	began := time.Now()
	err = s.run(r)
	if r.ctx.Err() != nil {
		err = context.Cause(r.ctx) // whatever else failed, failed by that
	}
	err = errors.Join(err, r.close())
	r.rep.Seconds = time.Since(began).Round(100 * time.Millisecond).Seconds()
	if err != nil {
		r.rep.Note("the run failed: " + err.Error())
		err = fmt.Errorf("%s: %w", s.name, err)
	}
	return r.rep, err
}

// up checks the machine, starts servers and clients for so many sessions, and looks at all of it while it is empty. The first lead
// sessions have a client process of their own; 0: none has.
func (r *run) up(sessions, lead int) (err error) {
	h := readHost()
	r.plan = h.planFor(r.o, sessions, lead)
	if err := r.precheck(h, r.plan); err != nil {
		return err
	}
	r.progress.say("%s: %d sessions, %d gateway processes, %d client processes", r.scenario, sessions, r.plan.workers, r.plan.engines)
	if r.sys, err = startSystem(r.ctx, r.o, sessions); err != nil {
		return err
	}
	if err := r.rest(min(settle, 4*r.pause())); err != nil {
		return err
	}
	if r.empty, err = r.sys.look(true); err != nil {
		return err
	}
	if len(r.o.Agents) > 0 {
		r.rep.Note("the clients ran on " + strings.Join(r.o.Agents, ", "))
	}
	r.rec = &recorder{sys: r.sys, progress: r.progress, failed: r.fail}
	cfg := swarm.FleetConfig{
		Config: swarm.Config{
			Servers: r.sys.servers, Root: r.sys.root, Sessions: sessions, Prefix: prefix(r.o), Seed: "bench", Sources: r.plan.sources,
			Ping: r.o.Ping, Tickets: true, Handshakes: cmp.Or(r.handshakes, allHandshakes),
		},
		PerEngine: r.plan.perEngine, Lead: lead, Together: together, Agents: r.o.Agents, Token: r.o.Token, Command: []string{r.o.Exe, "bench", "swarm"},
		Progress: r.rec.see, Log: r.o.Console,
	}
	if r.fleet, err = swarm.NewFleet(r.ctx, cfg); err != nil {
		return err
	}
	r.rec.engines = r.fleet.Pids
	r.kernel, err = meter.ReadKernel()
	return err
}

// prefix begins the names of sessions. Servers elsewhere have had other runs: each has names of its own, so that what registers is new.
func prefix(o Options) string {
	if !o.remote() {
		return "bench-"
	}
	return "bench-" + strconv.FormatInt(time.Now().Unix(), 36) + "-"
}

func (r *run) close() error {
	var faults []error
	if r.fleet != nil {
		faults = append(faults, r.fleet.Close())
	}
	if r.sys != nil {
		faults = append(faults, r.sys.close())
	}
	return errors.Join(faults...)
}

// rest lets time pass.
func (r *run) rest(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// open connects sessions and returns what it cost from tick to tick. All of them must get bound.
func (r *run) open(phase string, o swarm.Open) (opened swarm.Opened, ticks []tick, err error) {
	before := 0
	if c, err := r.fleet.Counters(r.ctx); err == nil {
		before = c.Bound
	}
	want := 0
	for n := o.From; n < o.From+o.Count; n += max(1, o.Step) {
		want++
	}
	r.rec.begin(phase, float64(want), "sessions", func(c swarm.Counters) float64 { return float64(c.Bound - before) })
	ticks, err = r.watch(func() (err error) {
		opened, err = r.fleet.Open(r.ctx, o)
		return err
	})
	r.rec.end(float64(opened.Bound), "")
	if err == nil && opened.Bound != want {
		err = fmt.Errorf("%w: %s: %d of %d sessions were bound; attempts failed: %v", errOptions, phase, opened.Bound, want, r.failures())
	}
	return opened, ticks, err
}

// failures says why attempts failed.
func (r *run) failures() map[string]uint64 {
	c, err := r.fleet.Counters(r.ctx)
	if err != nil {
		return map[string]uint64{err.Error(): 1}
	}
	return c.Failed
}

// watch runs an order with a tick at its beginning and at its end, and returns the ticks.
func (r *run) watch(order func() error) ([]tick, error) {
	from := time.Now()
	if err := r.tick(); err != nil {
		return nil, err
	}
	if err := order(); err != nil {
		return nil, err
	}
	if err := r.tick(); err != nil {
		return nil, err
	}
	return r.rec.between(from, time.Now()), nil
}

func (r *run) tick() error {
	c, err := r.fleet.Counters(r.ctx)
	if err != nil {
		return err
	}
	r.rec.mu.Lock()
	defer r.rec.mu.Unlock()
	r.rec.take(c)
	return r.rec.fault
}

// add adds a figure of the scenario.
func (r *run) add(f report.Figure) {
	f.Scenario = r.scenario
	r.rep.Add(f)
}

// reasons formats counts by reason for a table, the name first.
func reasons(counts map[string]uint64) string {
	var all []string
	for name, n := range counts {
		all = append(all, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(all)
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

func sum(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}
