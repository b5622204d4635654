package border

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// Deps is what a border gets from its process.
type Deps struct {
	Node, Incarnation uint64
	Shards            int
	Cluster           string
	Logger            *slog.Logger          // nil: discards
	Registerer        prometheus.Registerer // nil: no metrics
	Clock             func() time.Time      // nil: time.Now
	LinkCredit        int                   // bytes on their way here from one peer for one group; 0: link.DefaultCredits
	Board             *link.Board           // where the process keeps the roster; nil: it runs alone
	// Authorities are the certificates that a peer's may be verified with, by region.
	Authorities map[stanza.Region][]*x509.Certificate
}

// Border is the daemon. Safe for concurrent use.
type Border struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	count  *counters
	region stanza.Region
	within *link.Endpoint // towards this region
	abroad *link.Endpoint

	mu      sync.Mutex
	leaders map[stanza.Group]leader
	inner   map[stream]uint64 // what it was told to be reached, a bit for each region
	outer   [stanza.MaxRegion + 1][]stream
	calls   calls
	env     link.Envelope
	text    []byte
}

type leader struct {
	term   uint64
	stream stream
}

// abroadCredit is what a region may have on its way here. It is all groups together, so it is more than links have for one.
const abroadCredit = 16 << 20

// New returns a border that its endpoints connect.
func New(cfg Config, deps Deps) (*Border, error) {
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if deps.Shards < 1 {
		return nil, fmt.Errorf("border: %d shards", deps.Shards)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	b := &Border{
		cfg: cfg, deps: deps, log: deps.Logger, count: newCounters(deps.Registerer, cfg), region: cfg.Region(),
		leaders: map[stanza.Group]leader{}, inner: map[stream]uint64{},
	}
	info := link.Info{Role: link.RoleBorder, Node: deps.Node, Incarnation: deps.Incarnation, Shards: deps.Shards, Cluster: deps.Cluster, Region: b.region}
	b.within = link.NewEndpoint(info, inner{b}, link.Options{Credits: deps.LinkCredit, Board: deps.Board, Logger: b.log, Registerer: deps.Registerer})
	info.Role, info.Shards = link.RoleRegion, 1
	b.abroad = link.NewEndpoint(info, outer{b}, link.Options{
		Credits: abroadCredit, MaxStreams: maxAddrs * int(stanza.MaxRegion), Admit: b.admit, Logger: b.log, Registerer: deps.Registerer,
	})
	return b, nil
}

// Within is the end of the links to this region's routers and offlines.
func (b *Border) Within() *link.Endpoint { return b.within }

// Abroad is the end of the links to other regions.
func (b *Border) Abroad() *link.Endpoint { return b.abroad }

// Run sweeps until ctx ends.
func (b *Border) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			b.sweep()
		}
	}
}

// Ready reports whether the leader of every group is known, else of which it is not.
func (b *Border) Ready() (ok bool, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := range b.deps.Shards {
		for _, g := range []stanza.Group{stanza.DirGroup(n), stanza.QueueGroup(n)} {
			if b.leaders[g].stream == nil {
				return false, g.String() + " has no known leader"
			}
		}
	}
	return true, ""
}

// admit decides whether a peer may speak for the region that it names.
func (b *Border) admit(peer link.Info, dialled string, verified [][]*x509.Certificate) bool {
	known := false
	b.cfg.Each(func(r stanza.Region, p Peer) {
		if r != peer.Region {
			return
		}
		if dialled != "" {
			known = slices.Contains(p.Addrs, dialled)
			return
		}
		for _, chain := range verified {
			root := chain[len(chain)-1]
			known = known || slices.ContainsFunc(b.deps.Authorities[r], root.Equal)
		}
	})
	return known
}

// sweep ends calls that nobody answered, and tells of regions where that found no room.
func (b *Border) sweep() {
	now := b.deps.Clock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls.endIf(func(c *call) bool { return now.After(c.until) }, func(c *call) {
		reason := stanza.ReasonRetry // the outcome is unknown
		if c.query {
			reason = stanza.ReasonUnavailable
		}
		b.refuse(c, reason, 0)
	})
	b.tellRegions()
	b.count.calls.Set(float64(b.calls.busy))
}

// reach returns the regions that can be reached now. Under mu.
func (b *Border) reach() (bits uint64) {
	for r, streams := range b.outer {
		if len(streams) > 0 {
			bits |= 1 << r
		}
	}
	return bits
}

// tellRegions tells whom it was not told what can be reached. Under mu.
func (b *Border) tellRegions() {
	now := b.reach()
	for s, told := range b.inner {
		if told == now {
			continue
		}
		b.env = link.Envelope{Kind: link.KindRegions, ID: now}
		if s.Send(&b.env) == nil {
			b.inner[s] = now
		}
	}
}

// leaderOf returns the stream to the leader of g, nil if it is not known. Under mu.
func (b *Border) leaderOf(g stanza.Group) stream { return b.leaders[g].stream }

// ended forgets a stream: who waits for an answer on it is told to come again. Under mu.
func (b *Border) ended(s stream) {
	b.calls.endIf(func(c *call) bool { return c.from == s || c.to == s }, func(c *call) {
		if c.from != s {
			b.refuse(c, stanza.ReasonUnavailable, 0)
		}
	})
}

// ask books a call and sends e to where it goes; what cannot go is refused. Under mu.
func (b *Border) ask(c call, e *link.Envelope) {
	if c.to == nil {
		b.refuse(&c, stanza.ReasonUnavailable, 0)
		return
	}
	slot, gen, ok := b.calls.add(c)
	if !ok {
		b.refuse(&c, stanza.ReasonBusy, 0)
		return
	}
	e.Slot, e.Gen = slot, gen
	err := c.to.SendSpare(e)
	if err == nil {
		return
	}
	b.calls.end(slot)
	if errors.Is(err, link.ErrNoCredit) {
		b.refuse(&c, stanza.ReasonBusy, 0)
	} else {
		b.refuse(&c, stanza.ReasonUnavailable, 0)
	}
}

// callOf begins a call for e, which came on s.
func (b *Border) callOf(s stream, e *link.Envelope, wait time.Duration) call {
	return call{
		from: s, slot: e.Slot, gen: e.Gen, group: e.Group, gateway: e.Gateway, account: e.Account, device: e.Device, id: e.ID, epoch: e.Epoch,
		query: e.Kind == link.KindQuery, until: b.deps.Clock().Add(wait),
	}
}

// retryAfter is what askers are told to wait where the other end says nothing, in ms.
const retryAfter = 1000

// refuse answers a call with a reason. Under mu.
func (b *Border) refuse(c *call, reason stanza.Reason, after uint32) {
	if after == 0 && reason.Retry() == stanza.RetryLater {
		after = retryAfter
	}
	b.count.refused.Inc(reason)
	if c.query {
		qe := stanza.QueryError{ID: c.id, Reason: reason, RetryAfter: after}
		b.text = qe.Append(b.text[:0])
		b.result(c, b.text)
		return
	}
	b.forwarded(c, &link.Envelope{Reason: reason, RetryAfter: after})
}

// forwarded answers a message with what e says. Under mu.
func (b *Border) forwarded(c *call, e *link.Envelope) {
	b.env = link.Envelope{
		Kind: link.KindForwarded, Group: c.group, Slot: c.slot, Gen: c.gen, Epoch: c.epoch, Reason: e.Reason, RetryAfter: e.RetryAfter,
		Flags: e.Flags & link.FlagStale,
	}
	b.answer(c)
}

// result answers a question with a ready stanza. Under mu.
func (b *Border) result(c *call, ready []byte) {
	b.env = link.Envelope{
		Kind: link.KindResult, Group: c.group, Gateway: c.gateway, Slot: c.slot, Gen: c.gen, Account: c.account, ID: c.id, Payload: ready,
	}
	b.answer(c)
}

// answers between regions have credit of their own: what is asked must not take it.
const (
	askGroup    = stanza.Group(0x8000)
	answerGroup = stanza.Group(0)
)

func (b *Border) answer(c *call) {
	if c.abroad {
		b.env.Group = answerGroup
	}
	if err := c.from.Send(&b.env); err != nil {
		b.count.dropped.Inc(link.ReasonOf(err)) // it goes again after a while
	}
}
