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
	Region            stanza.Region
	Regions           uint64 // those that there are links to, by the configuration: a bit each
	Logger            *slog.Logger
	Registerer        prometheus.Registerer
	Clock             func() time.Time
	Host              *shard.Host    // stays the caller's, who closes it after Run has returned
	Groups            []int          // shard numbers hosted here, each 0 to Shards-1, no repeats
	Lines             metrics.Budget // of lines about clients in the log
	LinkCredit        int            // bytes on their way here from one peer for one group; 0: link.DefaultCredits

	// Board is where the process keeps the roster; nil: it runs alone.
	Board *link.Board
}

// Router is the daemon. Safe for concurrent use.
type Router struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	metrics  *routerMetrics
	endpoint *link.Endpoint

	// Under mu, which readers of links hold while they put envelopes into inboxes. The slices are replaced, never changed.
	mu      sync.RWMutex
	hosted  []*hosted               // in the order of their opening
	byShard []*hosted               // by shard number; nil: not hosted here
	streams map[*link.Stream]uint64 // what a border has said that it reaches

	heard heard
}

// hosted is one group of this process.
type hosted struct {
	number int
	shard  *dirShard
	group  *shard.Group[*pending, result]
	inbox  *link.Inbox
}

// New opens Deps.Groups and returns a router that its endpoint connects to others. It refuses a configuration with faults, and data
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
	r := &Router{cfg: cfg, deps: deps, log: deps.Logger, byShard: make([]*hosted, deps.Shards), streams: map[*link.Stream]uint64{},
		heard: heard{queues: map[int]hello{}}}
	r.metrics = newMetrics(deps.Registerer)
	r.metrics.lines = metrics.NewLines(r.log, deps.Lines)
	info := link.Info{Role: link.RoleRouter, Node: deps.Node, Incarnation: deps.Incarnation, Shards: deps.Shards, Cluster: deps.Cluster, Region: deps.Region}
	r.endpoint = link.NewEndpoint(info, r, link.Options{Turns: true, Credits: deps.LinkCredit, Board: deps.Board, Logger: r.log, Registerer: deps.Registerer})
	if err := r.openGroups(); err != nil {
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

// Endpoint is the router's connection point: gateways and offlines are connected to it.
func (r *Router) Endpoint() *link.Endpoint { return r.endpoint }

// Trim has the links and the groups let go of buffers that grow again when they are needed, and returns when they have, or ctx ends. It
// is for a moment in which little happens, before a collection. Safe for concurrent use.
func (r *Router) Trim(ctx context.Context) {
	r.endpoint.Trim()
	for _, h := range r.groups() {
		_ = h.group.Call(ctx, h.inbox.Trim) // not done: the group or the process ends
	}
}

// Run runs until ctx ends, then closes the groups and returns nil. Data that cannot be read stop their group, data that turn out to
// belong to another cluster the host: shard.Host.Failed.
func (r *Router) Run(ctx context.Context) error {
	<-ctx.Done()
	return closeAll(r.groups())
}

// Receive hands envelopes to the inboxes of their groups, a run of the same group at a time. It is called by the link.
func (r *Router) Receive(s *link.Stream, batch []link.Envelope) {
	if s.Peer().Role == link.RoleBorder {
		for i := range batch {
			if batch[i].Kind == link.KindRegions {
				r.regions(s, &batch[i])
			}
		}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.heard.hear(s, batch)
	for len(batch) > 0 {
		if batch[0].Kind == link.KindRegions {
			batch = batch[1:]
			continue
		}
		g, n := batch[0].Group, 1
		for n < len(batch) && batch[n].Group == g && batch[n].Kind != link.KindRegions {
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

// hostOf returns the shard that an envelope of group g is for: queue/N is what dir/N talks to. Under mu.
func (r *Router) hostOf(g stanza.Group) *hosted {
	if n := g.Shard(); n < len(r.byShard) {
		return r.byShard[n]
	}
	return nil
}

// Turn says when a shard goroutine went through its work last.
type Turn struct {
	Name string
	At   time.Time
}

// Turned returns the last turn of every shard goroutine, for /healthz.
func (r *Router) Turned() []Turn {
	all := r.groups()
	turns := make([]Turn, 0, len(all))
	for _, h := range all {
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
	for _, h := range r.groups() {
		if !known[h.shard.id] {
			return false, h.shard.name + " has no leader"
		}
	}
	return true, ""
}
