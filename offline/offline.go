package offline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/link"
	"linecard.example/internal/metrics"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// Deps is what an offline daemon gets from its process.
type Deps struct {
	Node        uint64 // durable id of the node
	Incarnation uint64 // random per start
	Shards      int    // of the cluster
	Cluster     string
	Region      stanza.Region
	Logger      *slog.Logger          // nil: discards
	Registerer  prometheus.Registerer // nil: no metrics
	Host        *shard.Host           // of this daemon alone; the process closes it after Run
	Groups      []int                 // the shard numbers that this process holds
	Lines       metrics.Budget        // of lines about clients in the log
	LinkCredit  int                   // bytes on their way here from one peer for one group; 0: link.DefaultCredits
	Board       *link.Board           // where the process keeps the roster; nil: it runs alone
}

// Offline is the daemon: the queue groups of this process and their end of the links. Its methods are safe for concurrent use.
type Offline struct {
	deps  Deps
	log   *slog.Logger
	peers *peers
	cfg   Config
	count *counters
	ep    *link.Endpoint

	// Under mu, which readers of links hold while they put envelopes into inboxes. Both are replaced, never changed, once New has returned.
	mu     sync.RWMutex
	groups map[stanza.Group]*served // envelopes are for them
	order  []*served                // those that are open, in the order of their opening
}

// served is a group and its raft group.
type served struct {
	*group
	raft *shard.Group[proposal, result]
}

// Turn is when a shard goroutine last turned.
type Turn struct {
	Name string
	At   time.Time
}

// New opens Deps.Groups and returns the daemon. The groups take part in raft from now on; links come through Endpoint. If New fails
// everything it opened is closed again.
func New(cfg Config, deps Deps) (*Offline, error) {
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if deps.Host == nil || deps.Shards < 1 {
		return nil, errors.New("offline: want a host and at least one shard")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	o := &Offline{deps: deps, cfg: cfg, log: deps.Logger, peers: newPeers(), count: newCounters(deps.Registerer), groups: map[stanza.Group]*served{}}
	o.count.lines = metrics.NewLines(o.log, deps.Lines)
	for _, n := range deps.Groups {
		if n < 0 || n >= deps.Shards {
			return nil, fmt.Errorf("offline: shard %d of %d", n, deps.Shards)
		}
		id := stanza.QueueGroup(n)
		if o.groups[id] != nil {
			return nil, fmt.Errorf("offline: shard %d is named twice", n)
		}
		s := o.newServed(id)
		o.groups[id] = s
		o.order = append(o.order, s)
	}
	info := link.Info{
		Role: link.RoleOffline, Node: deps.Node, Incarnation: deps.Incarnation, Shards: deps.Shards, Cluster: deps.Cluster, Region: deps.Region,
	}
	o.ep = link.NewEndpoint(info, o, link.Options{Turns: true, Credits: deps.LinkCredit, Board: deps.Board, Logger: o.log, Registerer: deps.Registerer})
	if err := o.open(); err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

// Run serves until ctx ends, then flushes and closes the groups. Proposals under way are answered as their outcome is; stop the links
// after Run has returned.
func (o *Offline) Run(ctx context.Context) error {
	<-ctx.Done()
	return o.close()
}

// Endpoint returns the daemon's end of the links.
func (o *Offline) Endpoint() *link.Endpoint { return o.ep }

// Turned returns when each shard goroutine last turned.
func (o *Offline) Turned() []Turn {
	served := o.served()
	all := make([]Turn, 0, len(served))
	for _, s := range served {
		all = append(all, Turn{Name: s.id.String(), At: s.raft.Turned()})
	}
	return all
}

// Ready reports whether every group here knows its leader, and if not, why: first what was stopped, since that does not pass.
func (o *Offline) Ready() (ok bool, why string) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	known := 0
	all := o.deps.Host.Status()
	if why := shard.Stopped(all); why != "" {
		return false, why
	}
	for _, st := range all {
		if o.groups[st.Group] == nil {
			continue
		}
		if !st.Leading && st.LeaderID == "" {
			return false, st.Group.String() + " knows no leader"
		}
		known++
	}
	if known < len(o.order) {
		return false, "not all groups are open"
	}
	return true, ""
}

// Up implements link.Handler: leaders say hello on the new stream.
func (o *Offline) Up(s *link.Stream) {
	o.peers.up(s)
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, g := range o.groups {
		g.inbox.Push(s, link.Envelope{Kind: link.KindHello})
	}
}

// Down implements link.Handler.
func (o *Offline) Down(s *link.Stream, _ error) { o.peers.down(s) }

// Receive implements link.Handler: it sorts envelopes into the groups' inboxes. What concerns leaders of other groups is noted here.
func (o *Offline) Receive(s *link.Stream, batch []link.Envelope) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for i := 0; i < len(batch); {
		env := &batch[i]
		switch env.Kind {
		case link.KindHello:
			o.hello(s, env)
			i++
			continue
		case link.KindRegions:
			o.regions(s, env.ID)
			i++
			continue
		case link.KindNotLeader:
			o.peers.notLeader(env.Group, s)
			s.Done(env.Group, env.Size())
			i++
			continue
		}
		end := i + 1
		for end < len(batch) && batch[end].Group == env.Group && !ofPeers(batch[end].Kind) {
			end++
		}
		o.pass(s, batch[i:end])
		i = end
	}
}

// ofPeers reports whether an envelope is for the daemon, and no group.
func ofPeers(k link.Kind) bool {
	return k == link.KindHello || k == link.KindNotLeader || k == link.KindRegions
}

// regions notes what a border reaches, and has the groups go on with what waits for that. Under mu.
func (o *Offline) regions(s *link.Stream, reach uint64) {
	if s.Peer().Role != link.RoleBorder {
		return
	}
	if gained := o.peers.reaches(s, reach); gained != 0 {
		for _, g := range o.groups {
			g.inbox.Push(s, link.Envelope{Kind: link.KindHello, ID: gained})
		}
	}
}

// pass hands envelopes of one group to it. Under mu.
func (o *Offline) pass(s *link.Stream, envs []link.Envelope) {
	g := o.groups[envs[0].Group]
	if g != nil {
		g.inbox.Push(s, envs...)
		return
	}
	for i := range envs {
		answerNotLeader(s, &envs[i])
		s.Done(envs[i].Group, envs[i].Size())
	}
}

// hello notes a leader, and tells our groups, whose receipts may be waiting for it. Under mu.
func (o *Offline) hello(s *link.Stream, env *link.Envelope) {
	if !o.peers.hello(env.Group, env.Term, s) || !env.Group.IsQueue() {
		return
	}
	for _, g := range o.groups {
		if g.id != env.Group {
			g.inbox.Push(s, link.Envelope{Kind: link.KindHello, Group: env.Group, Term: env.Term})
		}
	}
}
