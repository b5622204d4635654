package shard

import (
	"github.com/hashicorp/raft"

	"linecard.example/internal/planted"
)

// verification is one round: a majority of the voters has to say that it follows this leader still. Shard goroutine only.
//
// raft's own VerifyLeader is not enough. It counts every answer that comes after the call, also to requests sent before it: a process
// that was stopped, while others elected a leader and took messages, finds such answers in its sockets when it goes on. So raft is
// asked for what it does well, to send a heartbeat to everybody at once and to step down if one is refused; and here the answers count that belong
// to requests sent after the round began. No clock is asked, so neither a process that stood still nor a clock that jumps
// makes an old answer young; there is no lease for the same reason.
type verification struct {
	waiting []func(bool) // nil: no round is under way
	term    uint64       // of the leadership at its begin
	round   uint64       // see contacts
	said    bool         // raft has answered yes
}

// startVerify begins a round if someone waits and none is in progress.
func (g *Group[C, R]) startVerify() {
	if len(g.verifies) == 0 || g.verifying.waiting != nil {
		return
	}
	g.verifying = verification{waiting: g.verifies, term: g.led}
	g.verifies = nil
	if g.led == 0 || g.closing || g.broken {
		g.post(func(m *mail) { m.verified = append(m.verified, false) })
		return
	}
	if planted.On(planted.StaleReads) {
		g.endRound(true)
		g.poke() // those who asked meanwhile are next
		return
	}
	if g.known != nil {
		g.verifying.round = g.known.begin()
	}
	g.await(func() {
		ok := g.raft.VerifyLeader().Error() == nil
		g.post(func(m *mail) { m.verified = append(m.verified, ok) })
	})
}

// begin starts a round of verification.
func (k *contacts) begin() uint64 {
	w := k.round.Add(1)
	k.wants.Store(w)
	return w
}

// raftVerified notes raft's answer. No ends the round; until raft has answered it does not end.
func (g *Group[C, R]) raftVerified(ok bool) {
	if !ok {
		g.endRound(false)
		return
	}
	g.verifying.said = true
	if g.known != nil {
		g.known.came.Store(true) // what came until now is looked at once
	}
}

// checkRound ends the round that is under way if a majority has answered, or the leadership has ended. Each turn.
func (g *Group[C, R]) checkRound() {
	v := &g.verifying
	switch {
	case !v.said:
	case g.led != v.term:
		g.endRound(false)
	case g.known == nil, g.known.came.Swap(false) && g.confirmed(v.round, v.term):
		g.endRound(true)
	}
}

// endRound tells everybody who waits.
func (g *Group[C, R]) endRound(ok bool) {
	all := g.verifying.waiting
	g.verifying = verification{}
	if g.known != nil {
		g.known.wants.Store(0)
	}
	for _, f := range all {
		f(ok && g.led != 0)
	}
}

// confirmed reports whether a majority of the voters has said since the round began that it follows this leader in its term. The
// leader counts itself, as a voter that has heard of no later term. The newest configuration counts, committed or not, as it
// does in raft: its majorities and those of the one before have a voter in common.
func (c *core) confirmed(round, term uint64) bool {
	voters, yes := 0, 0
	for _, s := range c.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(s.ID) == c.host.cfg.NodeID {
			yes++
		} else if x, ok := c.known.of(s.ID, term); ok && x.round >= round {
			yes++
		}
	}
	return yes > voters/2 && c.raft.CurrentTerm() == term
}
