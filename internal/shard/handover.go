package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

var (
	errNobody = errors.New("shard: no other voter is near enough to lead")
	errLost   = errors.New("shard: the leadership ended")
)

// phase is how far a hand-over is.
type phase uint8

const (
	handIdle     phase = iota
	handAsking         // the next leader is asked how far it is; everything goes on
	handDraining       // nothing is submitted, what is in flight is waited for
	handSent           // raft has it
	handDone           // raft says that it is done; the notice that this process follows is still on its way
)

// handing is a hand-over of the leadership. Before raft gets it the shard goroutine submits nothing more and waits for what is in
// flight, so that nobody is told "unknown" because of it; what is proposed meanwhile waits in the queue. Then raft passes the leadership
// on, which takes two messages; what waited is rejected then, and may be proposed to the new leader at once. Shard goroutine only.
type handing struct {
	at    phase
	to    string
	term  uint64 // of the leadership
	begun time.Duration
	done  []chan<- error // each gets the end
}

// holds reports whether nothing is to be submitted.
func (d *handing) holds() bool { return d.at >= handDraining }

// waits reports whether another goroutine works for the hand-over.
func (d *handing) waits() bool { return d.at == handAsking || d.at == handSent }

// handTo begins to hand the leadership to node. done, which may be nil and has room for one, gets the end. One that is under way goes on.
func (g *Group[C, R]) handTo(node string, done chan<- error) {
	d := &g.handing
	if done != nil {
		d.done = append(d.done, done)
	}
	if d.at != handIdle {
		return
	}
	d.at, d.to, d.term, d.begun = handAsking, node, g.led, g.host.cfg.Monotonic()
	g.wg.Go(func() {
		err := g.caughtUp(node, true)
		g.post(func(m *mail) { m.heard = append(m.heard, err) })
	})
}

// heirAnswered goes on when the next leader is known to be fit.
func (g *Group[C, R]) heirAnswered(err error) {
	d := &g.handing
	if g.led != d.term {
		err = errLost
	}
	if err != nil {
		g.tookStep(stepped{step{do: handOver, node: d.to}, err})
		return
	}
	d.at, d.begun = handDraining, g.host.cfg.Monotonic()
}

// continueHandOver passes the leadership on when nothing is in flight, or has been for longer than an election takes. Each turn.
func (g *Group[C, R]) continueHandOver() {
	d, cfg := &g.handing, &g.host.cfg
	if d.at != handDraining || g.props.inFlight > 0 && cfg.Monotonic()-d.begun < cfg.Heartbeat {
		return
	}
	d.at = handSent
	to := d.to
	g.await(func() {
		err := g.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to)).Error()
		g.post(func(m *mail) { m.stepped = append(m.stepped, stepped{step{do: handOver, node: to}, err}) })
	})
}

// handedOver notes how raft's part of a hand-over ended.
func (g *Group[C, R]) handedOver(err error) {
	if err != nil {
		g.yields.spurn(g.handing.to, g.voters-1)
	}
	if err == nil && g.led != 0 && g.led == g.handing.term {
		g.handing.at = handDone
		return
	}
	g.endHandOver(err)
}

// endHandOver ends a hand-over: what waited for it goes on, if this process still leads.
func (g *Group[C, R]) endHandOver(err error) {
	d := &g.handing
	took := g.host.cfg.Monotonic() - d.begun
	switch {
	case errors.Is(err, errLowHeir): // for as long as its disk is low
		g.log.Debug("leadership not handed over", "to", d.to, "error", err)
	case err != nil:
		g.metrics.transferFailed.Inc()
		g.log.Warn("leadership not handed over", "to", d.to, "took", took, "error", err)
	default:
		g.metrics.transferOK.Inc()
		g.log.Info("leadership handed over", "to", d.to, "took", took)
	}
	for _, done := range d.done {
		done <- err
	}
	*d = handing{}
}

// stopLeadingPeers ends what only a leader does, with the leadership.
func (g *Group[C, R]) stopLeadingPeers() {
	clear(g.alive)
	g.waits.Store(nil)
	g.metrics.reachable.Set(0)
	g.metrics.lag.Set(0)
	switch g.handing.at {
	case handDraining:
		g.endHandOver(errLost)
	case handDone:
		g.endHandOver(nil)
	}
}

// handAway hands the leadership to whoever is fit, the preferred ones first, and waits for it. Nothing to do is a success.
func (g *Group[C, R]) handAway(ctx context.Context) error {
	done := make(chan error, 1)
	if err := g.Call(ctx, func() { g.beginHandAway(done) }); err != nil {
		return err
	}
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("shard: handing over %s: %w", g.id, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-g.dead:
		return errClosed
	}
}

func (g *Group[C, R]) beginHandAway(done chan<- error) {
	if g.led == 0 || g.known == nil {
		done <- nil
		return
	}
	v := g.view(g.host.cfg.Monotonic())
	if v.voters() < 2 {
		done <- nil
		return
	}
	to := v.heir()
	if to == "" {
		done <- errNobody
		return
	}
	g.rec.next = g.host.cfg.Monotonic() + maxBackoff // the process is about to end: no change begins behind it
	g.handTo(to, done)
}

// heir returns the voter that should lead next; empty: nobody is fit. Those that could not take over lately come last.
func (v view) heir() string {
	if id := v.firstFit(func(id string) bool { return !v.spurned[id] }); id != "" {
		return id
	}
	return v.firstFit(func(string) bool { return true })
}

func (v view) firstFit(ok func(id string) bool) string {
	fit := func(id string) bool {
		r := v.find(id)
		return r != nil && r.id != v.self && r.voter && r.near && ok(id)
	}
	for _, id := range v.want {
		if fit(id) {
			return id
		}
	}
	for _, r := range v.have {
		if fit(r.id) {
			return r.id
		}
	}
	return ""
}

// HandOver hands the leadership of every group that this process leads to another voter, before a planned end of the process: clients
// wait for a hand-over a few milliseconds, and for an election after the end of a leader a second. It returns when all are handed
// over or it failed, with the failures; the groups go on either way. Groups of one voter have nobody to hand over to, which is no failure.
func (h *Host) HandOver(ctx context.Context) error {
	all := h.open()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, g := range all {
		wg.Go(func() { errs[i] = g.handAway(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
