package shard

import (
	"time"

	"github.com/hashicorp/raft"
)

// ServerStatus describes one server of a group's raft configuration.
type ServerStatus struct {
	Node  string
	Voter bool   // else a standby: it receives the log and has no vote
	Alive bool   // on the leader: it answers; elsewhere false
	Last  uint64 // on the leader: index of the last entry in its log, as it said last
	Near  bool   // on the leader: alive, and its log lacks little
}

// view returns what the group's leader plans from.
func (g *Group[C, R]) view(now time.Duration) view {
	v := view{self: g.host.cfg.NodeID, want: g.rec.want, low: g.yields.low, spurned: g.yields.spurned}
	last, _ := g.store.LastIndex()
	last = max(last, g.snaps.index.Load())
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		r := replica{id: string(s.ID), voter: s.Suffrage == raft.Voter}
		alive, at := g.answers(s.ID, g.led, now, last)
		r.alive, r.near = alive, alive && at+nearEntries >= last
		v.have = append(v.have, r)
	}
	return v
}

// aliveFor is how long ago a replica that is alive may have answered: its heartbeats come every tenth to fifth of the timeout.
func (c *HostConfig) aliveFor() time.Duration { return max(3*c.Heartbeat, time.Second) }

// watchPeers shows and logs which replicas answer.
func (g *Group[C, R]) watchPeers(v view) {
	for _, r := range v.have {
		was, known := g.alive[r.id]
		switch {
		case known && was && !r.alive:
			g.log.Warn("replica does not answer", "node", r.id, "voter", r.voter)
		case known && !was && r.alive:
			g.log.Info("replica answers again", "node", r.id, "voter", r.voter)
		}
	}
	clear(g.alive)
	for _, r := range v.have {
		g.alive[r.id] = r.alive
	}
}

// replicas adds the configuration as this process knows it to s. Any goroutine.
func (c *core) replicas(s *GroupStatus) {
	term, now := c.term.Load(), c.host.cfg.Monotonic()
	for _, x := range c.raft.GetConfiguration().Configuration().Servers {
		r := ServerStatus{Node: string(x.ID), Voter: x.Suffrage == raft.Voter}
		if term != 0 {
			r.Alive, r.Last = c.answers(x.ID, term, now, s.Last)
			r.Near = r.Alive && r.Last+nearEntries >= s.Last
		}
		s.Servers = append(s.Servers, r)
	}
	if why := c.waits.Load(); why != nil {
		s.Waits = *why
	}
}

// answers returns whether a server of the configuration is alive, as the leader of a term sees it, and the last entry in its log. last is the
// leader's own.
func (c *core) answers(id raft.ServerID, term uint64, now time.Duration, last uint64) (alive bool, at uint64) {
	if string(id) == c.host.cfg.NodeID {
		return true, last
	}
	if c.known == nil {
		return false, 0
	}
	x, ok := c.known.of(id, term)
	return ok && now-x.heard <= c.host.cfg.aliveFor(), x.last
}

// showPeers sets the gauges of the configuration.
func (g *Group[C, R]) showPeers(last uint64) {
	voters, reachable, lag := 0, 0, uint64(0)
	now := g.host.cfg.Monotonic()
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		alive, at := false, last
		if g.led != 0 {
			alive, at = g.answers(s.ID, g.led, now, last)
		}
		if s.Suffrage == raft.Voter {
			voters++
			if alive {
				reachable++
			}
		}
		lag = max(lag, last-min(at, last))
	}
	g.voters = voters
	g.metrics.voters.Set(float64(voters))
	g.metrics.reachable.Set(float64(reachable))
	g.metrics.lag.Set(float64(lag))
}
