package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// FleetConfig describes a Fleet.
type FleetConfig struct {
	Config // of all sessions together
	// PerEngine is how many sessions a child process holds, rounded down to an even number; 0: 18,000, which fits a limit of 20,000
	// descriptors.
	PerEngine int
	// Lead is how many sessions the first engine has, and no others, so that what happens to those is not in the latencies of these; at most
	// PerEngine, rounded down to an even number. 0: as many as the others.
	Lead int
	// Agents are machines that run the engines instead of this one: HOST:PORT of `linecard bench agent`. Engines are spread over them.
	Agents []string
	// Token is what agents want to hear.
	Token string
	// Together is how many engines open sessions at a time while an Open has no rate; 0: all. Few that are busy cost a machine less than
	// many that wake up for every frame: of the latter, most of the time goes to waking them.
	Together int
	// Command starts a child that speaks the engine's orders on its standard input and output. nil: this program with the arguments
	// `bench swarm`.
	Command []string
	// Progress is called about once a second with the sum of all engines' counters, from one goroutine. nil: nobody asks.
	Progress func(Counters)
	// Log gets what children write to standard error. nil: dropped.
	Log io.Writer
}

const defaultPerEngine = 18000

// Fleet is many engines as one: sessions are numbered through, orders are divided over the engines that hold the sessions, and results
// added up. An engine that dies is reported by every later order that is about its sessions, and in Counters; they are lost, never
// forgotten.
//
// Without Sources, and with servers on the loopback interface alone, every engine connects from an address of its own in 127.9.0.0/16
// (Linux), so that ports never bind.
type Fleet struct {
	cfg     FleetConfig
	engines []*remote
	cancel  context.CancelFunc
	done    sync.WaitGroup // Progress
}

// NewFleet starts the engines. Children end with Close, with this process, and when ctx ends.
func NewFleet(ctx context.Context, cfg FleetConfig) (*Fleet, error) {
	if cfg.Handshakes == 0 {
		cfg.Handshakes = fleetHandshakes
	}
	cfg.Config = cfg.Config.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.PerEngine <= 0 {
		cfg.PerEngine = defaultPerEngine
	}
	cfg.PerEngine = max(2, cfg.PerEngine&^1) // a pair is of one engine
	cfg.Lead = min(max(0, cfg.Lead&^1), cfg.PerEngine)
	ctx, cancel := context.WithCancel(ctx)
	f := &Fleet{cfg: cfg, cancel: cancel}
	for first := 0; first < cfg.Sessions; {
		count := min(f.size(len(f.engines)), cfg.Sessions-first)
		if err := f.start(ctx, first, count); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		first += count
	}
	context.AfterFunc(ctx, func() {
		for _, r := range f.engines {
			_ = r.in.Close()
		}
	})
	if cfg.Progress != nil {
		f.done.Go(func() { f.progress(ctx) })
	}
	return f, nil
}

// size is how many sessions engine k may have.
func (f *Fleet) size(k int) int {
	if k == 0 && f.cfg.Lead > 0 {
		return f.cfg.Lead
	}
	return f.cfg.PerEngine
}

// start starts the engine of count sessions from first on.
func (f *Fleet) start(ctx context.Context, first, count int) error {
	k := len(f.engines)
	cfg := f.cfg.Config
	cfg.First += first
	cfg.Sessions = count
	cfg.Sources = f.sources(k)
	cfg.Handshakes = max(leastHandshakes, cfg.Handshakes/f.together())
	var r *remote
	var err error
	if len(f.cfg.Agents) > 0 {
		addr := f.cfg.Agents[k%len(f.cfg.Agents)]
		r, err = dialAgent(ctx, fmt.Sprintf("%d at %s", k, addr), addr, f.cfg.Token)
	} else {
		r, err = startChild(fmt.Sprint(k), f.cfg.Command, f.cfg.Log)
	}
	if err != nil {
		return err
	}
	r.first, r.count = first, cfg.Sessions
	f.engines = append(f.engines, r)
	return r.soon(ctx, opNew, cfg, nil)
}

// count is the number of engines that the sessions need.
func (f *Fleet) count() int {
	rest := max(0, f.cfg.Sessions-f.size(0))
	return 1 + (rest+f.cfg.PerEngine-1)/f.cfg.PerEngine
}

// together is how many engines may open at a time.
func (f *Fleet) together() int {
	if f.cfg.Together > 0 {
		return min(f.cfg.Together, f.count())
	}
	return f.count()
}

// sources are the addresses that engine k connects from.
func (f *Fleet) sources(k int) []netip.Addr {
	engines := f.count()
	if n := len(f.cfg.Sources); n > 0 {
		var own []netip.Addr
		for i := k % n; i < n; i += engines {
			own = append(own, f.cfg.Sources[i])
		}
		return own
	}
	if runtime.GOOS != "linux" || engines == 1 || len(f.cfg.Agents) > 0 {
		return nil
	}
	for _, s := range f.cfg.Servers {
		if !s.Addr().Is4() || !s.Addr().IsLoopback() {
			return nil
		}
	}
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 9, byte(k / 250), byte(1 + k%250)})}
}

// part is what an order asks of one engine.
type part struct {
	r     *remote
	local Range // by the engine's numbers
	share float64
}

// parts divides a range over the engines that hold its sessions.
func (f *Fleet) parts(o Range) ([]part, error) {
	if o.From < 0 || o.Count < 0 || o.Step < 0 || o.From+o.Count > f.cfg.Sessions {
		return nil, fmt.Errorf("swarm: sessions %d to %d: there are %d", o.From, o.From+o.Count-1, f.cfg.Sessions)
	}
	step := max(1, o.Step)
	var list []part
	for _, r := range f.engines {
		from, to := max(o.From, r.first), min(o.From+o.Count, r.first+r.count)
		if rest := (from - o.From) % step; rest != 0 {
			from += step - rest
		}
		if from >= to {
			continue
		}
		local := Range{From: from - r.first, Count: to - from, Step: o.Step}
		list = append(list, part{r: r, local: local, share: float64(local.count()) / float64(o.count())})
	}
	return list, nil
}

// all returns every engine with all of its sessions.
func (f *Fleet) all() []part {
	list, _ := f.parts(Range{Count: f.cfg.Sessions}) // within bounds
	return list
}

// each calls do for all parts at once and joins their errors.
func each(parts []part, do func(k int, p part) error) error {
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for k, p := range parts {
		wg.Go(func() { errs[k] = do(k, p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// inTurn is each for at most n parts at a time, in their order.
func inTurn(n int, parts []part, do func(k int, p part) error) error {
	turns := make(chan struct{}, n)
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for k, p := range parts {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			errs[k] = do(k, p)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// gather gives every part its order and returns the results, those beside errors as well.
func gather[R any](ctx context.Context, parts []part, op string, order func(part) any) ([]R, error) {
	results := make([]R, len(parts))
	err := each(parts, func(k int, p part) error { return p.r.do(ctx, op, order(p), &results[k]) })
	return results, err
}

// progress tells about the counters once a second.
func (f *Fleet) progress(ctx context.Context) {
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		select {
		case <-clock.C:
			c, _ := f.Counters(ctx) // what is dead is in it
			if ctx.Err() == nil {
				f.cfg.Progress(c)
			}
		case <-ctx.Done():
			return
		}
	}
}

// Pids returns the process ids of the children on this machine.
func (f *Fleet) Pids() []int {
	var list []int
	for _, r := range f.engines {
		if r.pid != 0 {
			list = append(list, r.pid)
		}
	}
	return list
}

// Close ends all sessions and engines and waits for them.
func (f *Fleet) Close() error {
	f.cancel()
	f.done.Wait()
	parts := make([]part, len(f.engines))
	for k, r := range f.engines {
		parts[k].r = r
	}
	return each(parts, func(_ int, p part) error { return p.r.close() })
}
