package gateway

import (
	"time"

	"linecard.example/internal/stanza"
)

// drain closes everything of this loop: connections in a handshake at once, sessions page by page. New connections are refused
// before they get this far.
func (l *loop) drain() {
	l.evict()
	l.addSweep(&sweep{drain: true})
}

// evict refuses the connections in a handshake.
func (l *loop) evict() {
	reason, wait := l.g.parting()
	l.early.refuseAll(l, reason, wait)
}

// Leave makes the end of Run a departure from siblings that go on, in a rolling restart: strangers are refused worker_full, which sends
// them to another worker at once, and sessions come back after about RetryAfter. Call it before Run's context ends. Safe for
// concurrent use.
func (g *Gateway) Leave() { g.leaving.Store(true) }

// parting is what connections without a session are told while the gateway drains.
func (g *Gateway) parting() (stanza.Reason, time.Duration) {
	if g.leaving.Load() {
		return stanza.ReasonWorkerFull, 0
	}
	return stanza.ReasonDraining, g.cfg.DrainRetryAfter.D()
}

// farewell is the retry-after that sessions are told while the gateway drains, jittered.
func (g *Gateway) farewell() uint32 {
	if g.leaving.Load() {
		return jitter(g.cfg.RetryAfter.D())
	}
	return jitter(g.cfg.DrainRetryAfter.D())
}

// shutdown ends the gateway in order: refuse, close with a jittered retry-after, flush, stop the engine. Clients that do not read are
// left behind after DrainTimeout.
func (g *Gateway) shutdown() {
	g.draining.Store(true)
	g.log.Info("draining", "connections", g.open.Load())
	for _, l := range g.loops {
		l.post(notice{drain: true})
	}
	deadline := time.NewTimer(g.cfg.DrainTimeout.D())
	defer deadline.Stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for g.open.Load() > 0 {
		select {
		case <-deadline.C:
			g.log.Info("connections left at the end of draining", "connections", g.open.Load())
			return
		case <-poll.C:
		}
	}
}
