package shard

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// run is the shard goroutine: the only one that touches the machine and the group's soft state.
func (g *Group[C, R]) run(loaded chan<- error) {
	defer close(g.dead)
	g.turn()
	err := g.m.Load(g.tables, g.flushed)
	loaded <- err
	if err != nil {
		return
	}
	tick := time.NewTicker(g.host.cfg.Tick)
	defer tick.Stop()
	defer g.lazyTimer.Stop()
	failing, halted := g.host.failing, g.halt.done
	applies := g.applies
	for {
		select {
		case logs := <-applies:
			g.apply(logs)
			if g.broken {
				applies = nil // the FSM waits until the group or its raft is closed: nothing is skipped
				break
			}
			select {
			case g.applied <- struct{}{}:
			case <-g.halt.done:
			}
		case req := <-g.flushes:
			req.done <- g.flush(req.index)
		case req := <-g.restores:
			req.done <- g.restore(req.p)
		case lead := <-g.notify:
			g.leadership(lead)
		case <-g.wake:
		case <-tick.C:
			g.ensureLead()
			g.reconcile()
			g.m.Tick(g.host.cfg.Clock())
		case <-g.lazyTimer.C:
		case <-failing:
			failing, applies = nil, nil
			g.stop()
		case <-halted:
			halted, applies = nil, nil
			g.stop()
		case <-g.quit:
			g.finish()
			return
		}
		g.takeMail()
		g.m.Turn()
		g.afterTurn()
		g.m.EndTurn()
		g.turn()
	}
}

// turn notes that the shard goroutine is alive.
func (g *Group[C, R]) turn() { g.turned.Store(g.host.cfg.Clock().UnixNano()) }

// afterTurn does what entries, mail and the machine's turn made necessary.
func (g *Group[C, R]) afterTurn() {
	g.deliver()
	g.send()
	g.continueHandOver()
	g.startVerify()
	g.checkFlush()
	g.endPatience()
	g.publish()
	if g.halt.down.Load() && g.started && !g.ended {
		g.ended = true // an engine without a machine would only hold elections
		g.wg.Go(func() { _ = g.shutdown().Error() })
	}
	if g.closing && !g.settled && (g.broken || g.quiet()) {
		g.settled = true
		close(g.idle)
	}
}

// quiet reports whether nothing is under way that raft has to answer.
func (g *Group[C, R]) quiet() bool {
	return g.props.inFlight == 0 && g.verifying.waiting == nil && !g.rec.busy && !g.handing.waits()
}

// takeMail handles what other goroutines left.
func (g *Group[C, R]) takeMail() {
	g.mailMu.Lock()
	m := g.mail
	g.mail = mail{}
	g.mailMu.Unlock()
	for _, f := range m.failed {
		g.failed(f)
	}
	for _, ok := range m.verified {
		g.raftVerified(ok)
	}
	g.checkRound()
	if m.wants {
		g.wish(m.want)
	}
	for _, err := range m.heard {
		g.heirAnswered(err)
	}
	for _, d := range m.stepped {
		g.tookStep(d)
	}
	g.started = g.started || m.started
	if m.snapped {
		g.snapping = false
	}
	if m.closing && !g.closing {
		g.closing = true
		g.leads = false
		g.unlead()
	}
	for _, k := range m.calls {
		if k.taken.CompareAndSwap(false, true) {
			k.f()
			close(k.done)
		}
	}
}

// apply folds committed entries into the machine.
func (g *Group[C, R]) apply(logs []*raft.Log) {
	if g.halted() {
		g.stop()
		return
	}
	for _, l := range logs {
		if l.Index <= g.at {
			continue // covered by F at open
		}
		if l.Type == raft.LogCommand {
			p, err := decodePack(l.Data)
			if err != nil {
				g.stopGroup(fmt.Errorf("shard: entry %d of %s: %w", l.Index, g.id, err))
				g.stop()
				return
			}
			if g.applyPack(&p, l); g.halted() {
				g.stop() // the machine, or something else, gave up: nothing more is folded, flushed or answered as committed
				return
			}
		}
		g.at = l.Index
		g.logBytes += int64(len(l.Data))
		g.logCount++
		g.trail.note(l.Index, len(l.Data), g.host.cfg.TrailingBytes)
	}
}

func (g *Group[C, R]) applyPack(p *pack, l *raft.Log) {
	g.lastStamp = max(g.lastStamp, p.stamp)
	var own *proposal[C]
	if p.nonce == g.nonce {
		own = g.take(p.seq)
	}
	e := Entry{Index: l.Index, Stamp: g.lastStamp}
	rest := p.body
	for i := range p.count {
		e.Seq = i
		e.Cmd, rest, _ = nextCommand(rest) // checked by decodePack
		r := g.m.Apply(e)
		if g.halted() {
			g.loseRest(own, i)
			return
		}
		if own != nil {
			g.m.Done(own.ctxs[i], Committed, r)
		}
	}
	if own == nil {
		return
	}
	if !own.lead {
		g.metrics.latency.Observe((g.host.cfg.Monotonic() - own.since).Seconds())
	}
	g.props.recycle(own)
	if p.lead && p.seq == g.leadSeq {
		g.leadSeq = 0
		g.lead(l.Term)
	}
}

// loseRest answers the commands of an own pack from the i-th on when the host failed within it.
func (g *Group[C, R]) loseRest(own *proposal[C], i int) {
	if own == nil {
		return
	}
	own.ctxs, own.out = own.ctxs[i:], Unknown
	g.settle(own)
}

// checkFlush flushes a machine that holds much, and takes a snapshot when the log has grown enough.
func (g *Group[C, R]) checkFlush() {
	if g.broken {
		return
	}
	cfg := &g.host.cfg
	if g.m.Dirty() > cfg.FlushBytes {
		_ = g.flush(0) // reported by the host
	}
	if !g.snapping && !g.closing && g.started && (g.logBytes > cfg.SnapshotBytes || g.logCount >= cfg.SnapshotCount) {
		g.snapping = true
		g.logBytes, g.logCount = 0, 0
		keep := g.trail.cut(cfg.TrailingBytes)
		g.wg.Go(func() {
			err := g.snapshot()
			if err == nil && keep > 0 {
				err = g.cutLog(keep)
			}
			if err != nil && !errors.Is(err, errClosed) {
				g.log.Warn("snapshot failed", "error", err)
			}
			g.post(func(m *mail) { m.snapped = true })
		})
	}
}

// flush writes the machine's changes and F in one batch. least is an index that is known to be applied, though the machine may
// have seen none that high: raft's own entries are not handed to it.
func (g *Group[C, R]) flush(least uint64) error {
	if g.broken || g.halted() {
		return errClosed
	}
	g.at = max(g.at, least)
	if g.at == g.flushed && g.m.Dirty() == 0 {
		return nil
	}
	b := g.tables.Ahead()
	b.flush = true
	if err := g.m.Flush(b); err != nil {
		b.b.Close()
		err = fmt.Errorf("shard: flushing %s: %w", g.id, err)
		g.stopGroup(err) // the machine counts as flushed what is not in the tables
		g.stop()
		return err
	}
	b.setApplied(g.at, g.lastStamp)
	if err := b.commit(); err != nil {
		err = fmt.Errorf("shard: flushing %s: %w", g.id, err)
		g.host.Fail(err)
		g.stop()
		return err
	}
	g.flushed = g.at
	g.metrics.flushes.Inc()
	return nil
}

// stop ends the group's service after a failure of its own or of the host.
func (g *Group[C, R]) stop() {
	if g.broken {
		return
	}
	g.broken, g.leads = true, false
	g.unlead()
	g.settleAll()
}

// finish delivers every context that is left and flushes; the raft engine has stopped.
func (g *Group[C, R]) finish() {
	g.closing, g.leads = true, false
	g.unlead()
	g.takeMail()
	g.settleAll()
	g.endRound(false)
	for _, f := range g.verifies {
		f(false)
	}
	g.verifies = nil
	_ = g.flush(0)
	g.publish()
}

const publishEvery = time.Second

// publish lets other goroutines and the metrics see where the group is.
func (g *Group[C, R]) publish() {
	g.appliedAt.Store(g.at)
	g.flushedAt.Store(g.flushed)
	now := g.host.cfg.Monotonic()
	if now-g.published < publishEvery && g.published != 0 {
		return
	}
	g.published = now
	last, _ := g.store.LastIndex()
	g.metrics.applied.Set(float64(g.at))
	g.metrics.last.Set(float64(last))
	g.metrics.pending.Set(float64(g.props.pending))
	g.metrics.inFlight.Set(float64(g.props.inFlight))
	if g.started {
		g.metrics.term.Set(float64(g.raft.CurrentTerm()))
		g.showPeers(last)
	}
}
