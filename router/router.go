package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/link"
	"linecard.example/internal/metrics"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// Deps is what a router gets from the process it runs in. Host and Groups are required; Logger, Registerer and Clock default to
// nothing, a registry of its own and time.Now.
type Deps struct {
	Node, Incarnation uint64
	Shards            int    // of the cluster, 1-16384
	Cluster           string // its name, 1-64 bytes
	Logger            *slog.Logger
	Registerer        prometheus.Registerer
	Clock             func() time.Time
	Host              *shard.Host    // stays the caller's, who closes it after Run has returned
	Groups            []int          // shard numbers hosted here, each 0 to Shards-1, no repeats
	Lines             metrics.Budget // of lines about clients in the log
	LinkCredit        int            // bytes on their way here from one peer for one group; 0: link.DefaultCredits
}

// Router is the daemon. Safe for concurrent use.
type Router struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	endpoint *link.Endpoint
	hosted   []*hosted // by order of Deps.Groups
	byShard  []*hosted // by shard number; nil: not hosted here
}

// hosted is one group of this process.
type hosted struct {
	number int
	shard  *dirShard
	group  *shard.Group[*pending, result]
	inbox  *link.Inbox
}

// New opens the groups and returns a router that its endpoint connects to others. It refuses a configuration with faults, and data
// that belong to another cluster.
func New(cfg Config, deps Deps) (*Router, error) {
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if err := deps.check(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	r := &Router{cfg: cfg, deps: deps, log: deps.Logger, byShard: make([]*hosted, deps.Shards)}
	m := newMetrics(deps.Registerer)
	m.lines = metrics.NewLines(r.log, deps.Lines)
	info := link.Info{Role: link.RoleRouter, Node: deps.Node, Incarnation: deps.Incarnation, Shards: deps.Shards, Cluster: deps.Cluster}
	r.endpoint = link.NewEndpoint(info, r, link.Options{Turns: true, Credits: deps.LinkCredit, Logger: r.log, Registerer: deps.Registerer})
	if err := r.openGroups(m); err != nil {
		return nil, err
	}
	return r, nil
}

func (d *Deps) check() error {
	if d.Shards < 1 || d.Shards > 1<<14 {
		return fmt.Errorf("router: %d shards: want 1 to 16384", d.Shards)
	}
	if len(d.Cluster) < 1 || len(d.Cluster) > maxCluster {
		return fmt.Errorf("router: cluster name %q: want 1 to %d bytes", d.Cluster, maxCluster)
	}
	if d.Host == nil {
		return errors.New("router: no shard host")
	}
	for i, n := range d.Groups {
		if n < 0 || n >= d.Shards || slices.Contains(d.Groups[:i], n) {
			return fmt.Errorf("router: group %d: want each shard number once, below %d", n, d.Shards)
		}
	}
	return nil
}

// openGroups opens all groups at once: each reads its log.
func (r *Router) openGroups(metrics *routerMetrics) error {
	r.hosted = make([]*hosted, len(r.deps.Groups))
	errs := make([]error, len(r.deps.Groups))
	var wg sync.WaitGroup
	for i, n := range r.deps.Groups {
		wg.Go(func() { r.hosted[i], errs[i] = r.openGroup(n, metrics) })
	}
	wg.Wait()
	if err := shard.Brief(errs); err != nil {
		return errors.Join(err, r.closeGroups())
	}
	for _, h := range r.hosted {
		r.byShard[h.number] = h
	}
	return nil
}

func (r *Router) openGroup(n int, counts *routerMetrics) (*hosted, error) {
	m := newDirShard(r.cfg, n, r.deps.Shards, r.deps.Cluster, r.deps.Clock(), r.log, counts)
	m.directory.fail = func(err error) {
		if errors.Is(err, errFacts) { // the configuration is wrong: so it is for every group
			r.deps.Host.Fail(m.errGroup("apply", err))
			return
		}
		r.deps.Host.StopGroup(m.id, m.errGroup("read", err))
	}
	g, err := shard.Open(r.deps.Host, m.id, m)
	if err != nil {
		return nil, m.errGroup("open", err)
	}
	h := &hosted{number: n, shard: m, group: g, inbox: link.NewInbox(g.Wake)}
	// The group runs already; from here on it knows where its envelopes come from.
	if err := g.Call(context.Background(), func() { m.start(g, h.inbox, r.endpoint.Flush) }); err != nil {
		return nil, errors.Join(m.errGroup("start", err), g.Close())
	}
	return h, nil
}

func (r *Router) closeGroups() error {
	var errs []error
	for _, h := range r.hosted {
		if h == nil {
			continue
		}
		if err := h.group.Close(); err != nil {
			errs = append(errs, h.shard.errGroup("close", err))
		}
	}
	return errors.Join(errs...)
}

// Endpoint is the router's connection point: gateways and offlines are connected to it.
func (r *Router) Endpoint() *link.Endpoint { return r.endpoint }

// Trim has the links and the groups let go of buffers that grow again when they are needed, and returns when they have, or ctx ends. It
// is for a moment in which little happens, before a collection. Safe for concurrent use.
func (r *Router) Trim(ctx context.Context) {
	r.endpoint.Trim()
	for _, h := range r.hosted {
		_ = h.group.Call(ctx, h.inbox.Trim) // not done: the group or the process ends
	}
}

// Run runs until ctx ends, then closes the groups and returns nil. Data that cannot be read stop their group, data that turn out to
// belong to another cluster the host: shard.Host.Failed.
func (r *Router) Run(ctx context.Context) error {
	<-ctx.Done()
	return r.closeGroups()
}

// Up takes in a stream. It is called by the link.
func (r *Router) Up(s *link.Stream) {
	for _, h := range r.hosted {
		if h.shard.events.up(s, s.Peer()) {
			h.group.Wake()
		}
	}
}

// Down notes the end of a stream. It is called by the link.
func (r *Router) Down(s *link.Stream, _ error) {
	for _, h := range r.hosted {
		if h.shard.events.down(s) {
			h.group.Wake()
		}
	}
}

// Receive hands envelopes to the inboxes of their groups, a run of the same group at a time. It is called by the link.
func (r *Router) Receive(s *link.Stream, batch []link.Envelope) {
	for len(batch) > 0 {
		g, n := batch[0].Group, 1
		for n < len(batch) && batch[n].Group == g {
			n++
		}
		if h := r.hostOf(g); h != nil {
			h.inbox.Push(s, batch[:n]...)
		} else {
			r.notHosted(s, batch[:n])
		}
		batch = batch[n:]
	}
}

// hostOf returns the shard that an envelope of group g is for: queue/N is what dir/N talks to.
func (r *Router) hostOf(g stanza.Group) *hosted {
	if n := g.Shard(); n < len(r.byShard) {
		return r.byShard[n]
	}
	return nil
}

// notHosted answers for groups that have no replica here.
func (r *Router) notHosted(s *link.Stream, batch []link.Envelope) {
	size := 0
	for i := range batch {
		e := &batch[i]
		size += e.Size()
		if !wantsAnswer(e.Kind) {
			continue
		}
		// An answer without credit is lost like any other; the client asks again.
		_ = s.Send(notLeader(e.Group, 0, e))
	}
	s.Done(batch[0].Group, size)
}

// leadingShards returns the groups that this process leads, by shard number.
func (r *Router) leadingShards() map[int]*hosted {
	led := map[int]*hosted{}
	for _, h := range r.hosted {
		if _, ok := h.group.Leading(); ok {
			led[h.number] = h
		}
	}
	return led
}

// Turn says when a shard goroutine went through its work last.
type Turn struct {
	Name string
	At   time.Time
}

// Turned returns the last turn of every shard goroutine, for /healthz.
func (r *Router) Turned() []Turn {
	turns := make([]Turn, 0, len(r.hosted))
	for _, h := range r.hosted {
		turns = append(turns, Turn{Name: h.shard.name, At: h.group.Turned()})
	}
	return turns
}

// Ready reports whether every group here knows its leader, else which does not: first what was stopped, since that does not pass.
func (r *Router) Ready() (ok bool, why string) {
	known := map[stanza.Group]bool{}
	all := r.deps.Host.Status()
	if why := shard.Stopped(all); why != "" {
		return false, why
	}
	for _, s := range all {
		known[s.Group] = s.Leading || s.LeaderID != ""
	}
	for _, h := range r.hosted {
		if !known[h.shard.id] {
			return false, h.shard.name + " has no leader"
		}
	}
	return true, ""
}
