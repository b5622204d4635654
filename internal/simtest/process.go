package simtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"linecard.example/internal/config"
	"linecard.example/internal/disktest"
	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/offline"
	"linecard.example/router"
)

// process is one router or offline with a disk of its own. Its disk stays when it is killed. Whoever holds its turn only, unless noted.
type process struct {
	w       *World
	name    string
	role    link.Role
	machine int
	node    uint64
	disk    *disktest.Disk
	first   bool          // no start was complete yet
	skew    time.Duration // of its wall clock in its next life

	turn chan struct{} // holds one while somebody starts or ends the process; a channel, since time passes meanwhile
	run  *running      // nil: down
	runs uint64
}

// running is one life of a process.
type running struct {
	host  *shard.Host
	ep    *link.Endpoint
	end   context.CancelFunc
	ended chan error // of Run
	gone  chan struct{}
	dying atomic.Bool
}

// daemon is what router and offline have in common.
type daemon interface {
	Run(context.Context) error
	Endpoint() *link.Endpoint
}

func newProcess(w *World, role link.Role, machine int) *process {
	return &process{
		w: w, name: fmt.Sprintf("%s%d", role, machine), role: role, machine: machine, node: uint64(10*int(role) + machine),
		disk: disktest.NewDisk(0), first: true, turn: make(chan struct{}, 1),
	}
}

// hostConfig makes everything small, so that a schedule of seconds goes through flushes, snapshots and truncations.
func (p *process) hostConfig(clock func() time.Time) shard.HostConfig {
	began := time.Now()
	cfg := shard.HostConfig{
		Dir: "d", FS: p.disk, NodeID: p.name, Bootstrap: p.first, Clock: clock, Monotonic: func() time.Duration { return time.Since(began) },
		SyncInterval: -1, Light: true, Cache: 1 << 20, LogMemTable: 128 << 10, StateMemTable: 128 << 10, Tick: 100 * time.Millisecond,
		PackCommands: 8, FlushBytes: 2 << 10, SnapshotCount: 40, TrailingLogs: p.w.plan.trailing, Heartbeat: 300 * time.Millisecond,
	}
	for i := range machines {
		cfg.Voters = append(cfg.Voters, fmt.Sprintf("%s%d", p.role, i+1))
	}
	cfg.Transport = p.w.mesh.Transport(p.name)
	if p.w.Verbose {
		cfg.Logger = p.logger()
	}
	return cfg
}

func (p *process) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(p.w.out, &slog.HandlerOptions{Level: slog.LevelInfo})).With("process", p.name)
}

// start opens the process and connects it. A start that is refused is a fault, unless the power went during it.
func (p *process) start() {
	p.runs++
	p.w.weather.revive(p.name)
	r, err := p.open()
	if err != nil {
		if !p.disk.Cut() {
			p.w.hist.Fault("%s does not start: %v", p.name, err)
		}
		p.w.note("%s: start failed: %v", p.name, err)
		p.disk.PowerOn()
		p.disk.Again()
		return
	}
	p.run, p.first = r, false
	p.w.note("%s: started", p.name)
	go p.watch(r)
	p.w.connect(p.name, p.role, r.ep)
}

func (p *process) open() (*running, error) {
	skew := p.skew // a clock that steps within a life would turn back monotonic time too, which clocks do not
	clock := func() time.Time { return time.Now().Add(skew) }
	host, err := shard.OpenHost(p.hostConfig(clock))
	if err != nil {
		return nil, err
	}
	d, err := p.daemon(host, clock)
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	ctx, end := context.WithCancel(context.Background())
	r := &running{host: host, ep: d.Endpoint(), end: end, ended: make(chan error, 1), gone: make(chan struct{})}
	r.ep.Travel(p.w.weather.road(p.name, p.w.nameOf), p.w.jitter)
	go func() { r.ended <- d.Run(ctx) }()
	return r, nil
}

func (p *process) daemon(host *shard.Host, clock func() time.Time) (daemon, error) {
	groups := make([]int, p.w.plan.shards)
	for i := range groups {
		groups[i] = i
	}
	if p.role == link.RoleRouter {
		cfg := router.DefaultConfig()
		cfg.LimitEntries, cfg.ContactEntries, cfg.RecordCache = 256, 256, 64<<10
		cfg.LookupBurst, cfg.LookupRate = 1e6, 1e6
		return router.New(cfg, router.Deps{Node: p.node, Incarnation: p.runs, Shards: p.w.plan.shards, Cluster: cluster, Clock: clock, Host: host, Groups: groups})
	}
	cfg := offline.DefaultConfig()
	cfg.Cache, cfg.QueueCache, cfg.StreamCache = 64<<10, 256, 256
	cfg.WriteAheadAge = config.Duration(2 * time.Second)
	return offline.New(cfg, offline.Deps{Node: p.node, Incarnation: p.runs, Shards: p.w.plan.shards, Cluster: cluster, Host: host, Groups: groups})
}

// watch reports a host that gives up by itself.
func (p *process) watch(r *running) {
	select {
	case err := <-r.host.Failed():
		if !r.dying.Load() && !p.disk.Cut() {
			p.w.hist.Fault("%s gave up: %v", p.name, err)
		}
	case <-r.gone:
	}
}

// lose is the moment of a power cut: nothing leaves the process any more, then nothing becomes durable any more. Any goroutine.
func (p *process) lose() { p.w.weather.kill(p.name) }

// kill takes the power away and waits until nothing of the process is left. silent: its peers notice only by its silence.
func (p *process) kill(silent bool) {
	r := p.run
	if r == nil {
		return
	}
	p.run = nil
	r.dying.Store(true)
	p.lose()
	p.disk.Off()
	p.w.note("%s: power cut", p.name)
	if silent {
		time.Sleep(linkPatience) // in the bubble, as all of this package
	}
	r.ep.Break()
	p.w.disconnect(p.name)
	r.end()
	p.w.note("%s: ended: %v", p.name, <-r.ended)
	if err := r.host.Close(); err != nil {
		p.w.hist.Fault("%s cannot be taken apart after its power was cut, and goes on: %v", p.name, err)
	}
	close(r.gone)
	p.disk.PowerOn()
	p.disk.Again()
}

// stop ends the process in order.
func (p *process) stop() {
	r := p.run
	if r == nil {
		return
	}
	p.run = nil
	r.dying.Store(true)
	r.end()
	err := <-r.ended
	p.w.disconnect(p.name)
	close(r.gone)
	if err = errors.Join(err, r.host.Close()); err != nil && !p.disk.Cut() {
		p.w.hist.Fault("%s does not stop in order: %v", p.name, err)
	}
	if p.disk.Cut() {
		p.disk.PowerOn()
	}
	p.disk.Again()
	p.w.note("%s: stopped", p.name)
}
