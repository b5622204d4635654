package gateway

import (
	"time"

	"linecard.example/internal/stanza"
)

// drain closes everything of this loop: connections in a handshake at once, sessions page by page. New connections are refused
// before they get this far.
func (l *loop) drain() {
	l.early.refuseAll(l, stanza.ReasonDraining, l.g.cfg.DrainRetryAfter.D())
	l.addSweep(&sweep{drain: true})
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
