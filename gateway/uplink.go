package gateway

import (
	"errors"
	"sync/atomic"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// route says which stream leads to the leader of a group. Written under Gateway.routeMu, read by every loop.
type route struct {
	stream atomic.Pointer[link.Stream] // nil: unknown
	term   uint64                      // highest term heard of; under routeMu
}

// routeOf returns the route of a group of this cluster, nil for a number that is none.
func (g *Gateway) routeOf(group stanza.Group) *route {
	shard := group.Shard()
	if shard >= g.shards {
		return nil
	}
	if group.IsQueue() {
		return &g.queues[shard]
	}
	return &g.dirs[shard]
}

func (g *Gateway) dirOf(a stanza.Account) stanza.Group {
	return stanza.DirGroup(stanza.ShardOf(a, g.shards))
}

func (g *Gateway) queueOf(a stanza.Account) stanza.Group {
	return stanza.QueueGroup(stanza.ShardOf(a, g.shards))
}

// sendHard sends what a client waits for. It returns the reason to refuse it with, 0 when it is on its way.
func (g *Gateway) sendHard(e *link.Envelope) stanza.Reason {
	switch err := g.send(e); {
	case err == nil:
		return 0
	case errors.Is(err, link.ErrNoCredit):
		return stanza.ReasonBusy
	case errors.Is(err, link.ErrDown):
		return stanza.ReasonUnavailable
	default:
		return stanza.ReasonInternal
	}
}

// sendSoft sends what is recovered without this envelope; a loss is counted. It reports whether it is on its way.
func (g *Gateway) sendSoft(e *link.Envelope) bool {
	err := g.send(e)
	if err == nil {
		return true
	}
	g.dropped(err)
	return false
}

// send sends e to the leader of its group: link.ErrDown when none is known.
func (g *Gateway) send(e *link.Envelope) error {
	r := g.routeOf(e.Group)
	if r == nil {
		return link.ErrGroup
	}
	s := r.stream.Load()
	if s == nil {
		return link.ErrDown
	}
	return s.Send(e)
}

// sendTo sends an answer to the peer it is for.
func (g *Gateway) sendTo(s *link.Stream, e *link.Envelope) {
	if err := s.Send(e); err != nil {
		g.dropped(err)
	}
}

func (g *Gateway) dropped(err error) { g.metrics.drops.Inc(link.ReasonOf(err)) }

// Up implements link.Handler. There is nothing to do: leaders say hello by themselves.
func (g *Gateway) Up(*link.Stream) {}

// Down implements link.Handler: the groups led by that peer have no leader, and what was on the way to it may be lost.
func (g *Gateway) Down(s *link.Stream, _ error) {
	g.routeMu.Lock()
	lost := false
	for _, all := range [][]route{g.dirs, g.queues} {
		for i := range all {
			lost = all[i].stream.CompareAndSwap(s, nil) || lost
		}
	}
	g.routeMu.Unlock()
	if lost {
		g.postSweeps(func() *sweep { return &sweep{reset: true, lost: uint32(s.ID())} })
	}
}

// hello notes who leads a group. A higher term than the one known is a new leader: unanswered messages may be lost with the old one. A
// queue's leader that comes back answered into the void meanwhile what reached it through the routers. A directory's leader gets
// every binding of its shard, again if it was the leader before: it may have dropped them.
//
// A lower term is a leader that was replaced, unless none is known: then it may be a group that lost its disk, whose terms begin again.
// Should it be a replaced one after all, that came in the moment between two others, the next hello of a higher term or its own
// not-leader ends that, and its deliveries are of an old epoch.
func (g *Gateway) hello(s *link.Stream, e *link.Envelope) {
	r := g.routeOf(e.Group)
	if r == nil {
		return
	}
	g.routeMu.Lock()
	before, old := r.term, r.stream.Load()
	if e.Term < before && old != nil {
		g.routeMu.Unlock()
		return
	}
	r.term = e.Term
	r.stream.Store(s)
	g.routeMu.Unlock()
	g.log.Debug("leader", "group", e.Group.String(), "term", e.Term, "node", s.Peer().Node)
	if before != 0 && (e.Term != before || old == nil && e.Group.IsQueue()) {
		lost := uint32(0)
		if old != nil && old != s {
			lost = uint32(old.ID())
		}
		g.postSweeps(func() *sweep { return &sweep{reset: true, lost: lost, came: true} })
	} else {
		g.postSweeps(func() *sweep { return &sweep{owed: true, came: true} })
	}
	if !e.Group.IsQueue() {
		run := &rebindRun{group: e.Group, term: e.Term, stream: s}
		run.left.Store(int32(len(g.loops)))
		g.postSweeps(func() *sweep { return &sweep{stream: s, runs: []*rebindRun{run}} })
	}
}

// postSweeps gives every loop a sweep of its own.
func (g *Gateway) postSweeps(make func() *sweep) {
	for _, l := range g.loops {
		l.post(notice{sweep: make()})
	}
}

// disown forgets that s leads a group, after s said that it does not.
func (g *Gateway) disown(group stanza.Group, s *link.Stream) {
	if r := g.routeOf(group); r != nil {
		r.stream.CompareAndSwap(s, nil)
	}
}

// leaderless returns a group without a known leader.
func (g *Gateway) leaderless() (stanza.Group, bool) {
	for shard := range g.shards {
		if g.dirs[shard].stream.Load() == nil {
			return stanza.DirGroup(shard), true
		}
		if g.queues[shard].stream.Load() == nil {
			return stanza.QueueGroup(shard), true
		}
	}
	return 0, false
}
