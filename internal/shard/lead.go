package shard

import (
	"context"
	"log/slog"
)

// leadership handles what raft says. Leading begins only when the lead pack of this leadership is applied here: then everything
// of earlier terms is, and the pack's entry names the term.
func (g *Group[C, R]) leadership(lead bool) {
	if g.broken || g.closing {
		return
	}
	if !lead {
		g.leads = false
		g.unlead()
		return
	}
	g.leads = true
	g.ensureLead()
}

// ensureLead proposes a lead pack if one is wanted and none is in flight, also again when raft refused the last one.
func (g *Group[C, R]) ensureLead() {
	if !g.leads || g.led != 0 || g.leadSeq != 0 {
		return
	}
	t := g.props.push(g.host.cfg.Monotonic())
	t.lead, t.full = true, true
	g.send()
}

// lead announces a leadership.
func (g *Group[C, R]) lead(term uint64) {
	if !g.leads {
		return // lost in the meantime
	}
	g.stamps.lead(g.lastStamp)
	g.led = term
	g.term.Store(term)
	now := g.host.cfg.Monotonic()
	g.rec.start(now)
	g.yields.start(now)
	g.watchDisk(now) // before the first message comes
	g.metrics.leader.Set(1)
	g.metrics.term.Set(float64(term))
	g.logLead("leading", "term", term, "applied", g.at)
	g.m.Lead(term)
}

// logLead notes a change of leadership: an event where there are others, the course of things where a group is alone.
func (g *Group[C, R]) logLead(what string, args ...any) {
	level := slog.LevelInfo
	if g.alone() {
		level = slog.LevelDebug
	}
	g.log.Log(context.Background(), level, what, args...)
}

// unlead ends the leadership, or the attempt at one: what was not submitted is rejected, what was submitted gets raft's answer.
func (g *Group[C, R]) unlead() {
	g.leadSeq = 0
	g.props.rejectWaiting()
	if g.led == 0 {
		return
	}
	g.logLead("following", "term", g.led, "applied", g.at)
	g.led = 0
	g.term.Store(0)
	g.metrics.leader.Set(0)
	g.stopLeadingPeers()
	g.m.Follow()
}

// send seals waiting packs and passes them to the submitter, as many as may be in flight. A pack with room left goes at once
// only while less than half of them are: beyond that, waiting for company costs no time, since raft is busy anyway.
func (g *Group[C, R]) send() {
	cfg := &g.host.cfg
	if g.handing.holds() && g.led != 0 {
		return // see handing; the lead pack of the next leadership goes out
	}
	for g.props.inFlight < cfg.PacksInFlight {
		t := g.props.waiting()
		if t == nil {
			return
		}
		now := cfg.Monotonic()
		if !t.full {
			if g.props.inFlight > 0 && 2*g.props.inFlight >= cfg.PacksInFlight {
				return
			}
			if wait := t.since + cfg.LazyWait - now; t.lazy && wait > 0 {
				g.lazyTimer.Reset(wait)
				return
			}
		}
		g.props.submit(t, now)
		h := pack{lead: t.lead, nonce: g.nonce, seq: t.seq, count: len(t.ctxs)}
		if t.lead {
			g.leadSeq = t.seq
		} else {
			h.stamp = g.stamps.now()
			g.metrics.packs.Observe(float64(h.count))
		}
		h.putHeader(t.buf)
		g.submit <- submission{seq: t.seq, data: t.buf}
	}
}

// take removes the pack with the number seq, which was committed, from the queue, after delivering those before it: they were
// submitted earlier and are not before it in the log, so they never will be. Nil: its outcome was reported as unknown.
func (g *Group[C, R]) take(seq uint64) *proposal[C] {
	t := g.props.find(seq)
	if t == nil {
		return nil
	}
	for f := g.props.first(); f != t; f = g.props.first() {
		g.props.resolve(f, Rejected)
		g.settle(g.props.pop())
	}
	g.props.resolve(t, Committed)
	return g.props.pop()
}

// failed notes raft's answer to a pack that it did not commit.
func (g *Group[C, R]) failed(f failure) {
	if t := g.props.find(f.seq); t != nil {
		g.props.resolve(t, f.out)
	}
	if f.seq == g.leadSeq {
		g.leadSeq = 0 // the next tick tries again
	}
}

// deliver hands out the outcomes that are known, in order.
func (g *Group[C, R]) deliver() {
	for f := g.props.first(); f != nil && f.done; f = g.props.first() {
		g.settle(g.props.pop())
	}
}

// settle delivers the outcome of a pack that was not committed.
func (g *Group[C, R]) settle(t *proposal[C]) {
	var zero R
	for _, ctx := range t.ctxs {
		g.m.Done(ctx, t.out, zero)
	}
	if t.out == Rejected {
		g.metrics.rejected.Add(float64(len(t.ctxs)))
	} else {
		g.metrics.unknown.Add(float64(len(t.ctxs)))
	}
	g.props.recycle(t)
}

// settleAll ends every proposal: unknown if it was submitted, else rejected.
func (g *Group[C, R]) settleAll() {
	for f := g.props.first(); f != nil; f = g.props.first() {
		if f.seq == 0 {
			g.props.resolve(f, Rejected)
		} else {
			g.props.resolve(f, Unknown)
		}
		g.settle(g.props.pop())
	}
}
