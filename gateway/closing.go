package gateway

import (
	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// lingerSeconds is how long a closed session's connection may take to end from the client's side. Closing a socket with unread
// bytes resets the connection, and some stacks then throw away a close stanza that the client has not read yet; a client that
// does not learn `displaced` would come back and displace in turn.
const lingerSeconds = 2

// closeSession ends a session with a close stanza behind everything already in its outbox. The session is dead to envelopes from here on;
// its slot is freed when the connection ends, by the client or lingerSeconds later. Nothing happens to a session that is closing.
func (l *loop) closeSession(s *session, reason stanza.Reason, retryAfter uint32) {
	if s.state == stateClosing {
		return
	}
	if reason == 0 {
		reason = stanza.ReasonInternal
	}
	if s.txNonce == maxNonce {
		l.abort(s, reason)
		return
	}
	c := stanza.Close{Reason: reason, RetryAfter: retryAfter}
	l.scratch = c.Append(l.scratch[:0])
	l.push(s, l.scratch)
	l.box(s).last = true
	l.leave(s, reason)
	s.progress = l.sec8()
	l.busy.Arm(s.slot(), l.slots.Gen(s.slot()), lingerSeconds)
}

// closeRetry is closeSession with the configured, jittered retry-after.
func (l *loop) closeRetry(s *session, reason stanza.Reason) {
	l.closeSession(s, reason, jitter(l.g.cfg.RetryAfter.D()))
}

// abort ends a session at once, without a stanza: there is no way to send one. The slot is free when it returns.
func (l *loop) abort(s *session, reason stanza.Reason) {
	l.leave(s, reason)
	l.closeConn(l.conn(s.slot()))
}

// leave takes a session out of the system: counted, logged, unbound.
func (l *loop) leave(s *session, reason stanza.Reason) {
	if s.state == stateClosing {
		return
	}
	if s.state == stateBound {
		l.g.metrics.sessions.Dec()
		l.g.metrics.closes.Inc(reason)
		l.g.lines.Write("session closed", reason, s.account, s.dev())
		l.forgive(s)
		l.sendUnbind(s)
	} else {
		l.g.refused(reason, s.account, s.dev())
	}
	s.state = stateClosing
	l.partials.drop(s)
	delete(l.claims, s.slot())
}

// refused counts and logs a connection that ends before its session is bound, for whatever reason. The account and device are those
// that it claims, 0 if it has not come so far.
func (g *Gateway) refused(reason stanza.Reason, a stanza.Account, d stanza.Device) {
	g.metrics.handshake(reason)
	g.lines.Write("connection refused", reason, a, d)
}

func (l *loop) sendUnbind(s *session) {
	l.env = link.Envelope{
		Kind: link.KindUnbind, Group: l.g.dirOf(s.account), Account: s.account, Device: s.dev(),
		Slot: s.self, Gen: l.slots.Gen(s.slot()), Serial: s.serial,
	}
	// Lost without harm: whatever still names this slot is answered gone.
	l.g.sendSoft(&l.env)
}

// written is called when a session's outbox was written: one that the socket did not take whole is watched, and a closing session that
// has nothing left to send closes its sending side, so that the client sees the end behind the close stanza.
func (l *loop) written(s *session, c gnet.Conn) {
	if c.OutboundBuffered() > 0 {
		l.noteSlow(s)
	} else if s.state == stateClosing {
		_ = unix.Shutdown(c.Fd(), unix.SHUT_WR) // the peer may be gone already; the timer ends it anyhow
	}
}

// connClosed frees the slot of a connection that has ended for whatever reason. No pointer to the session may be used afterwards.
func (l *loop) connClosed(s *session) {
	l.leave(s, stanza.ReasonPeerClosed)
	slot := s.slot()
	p := l.side[slot/peerChunk]
	p.conns[slot%peerChunk] = nil
	if b := p.boxes[slot%peerChunk]; b != 0 {
		l.boxes[b-1].live = false
		p.boxes[slot%peerChunk] = 0
	}
	if l.cur == s {
		l.cur = nil
	}
	l.slots.Release(slot) // zeroes the keys
}
