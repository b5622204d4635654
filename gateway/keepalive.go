package gateway

import (
	"linecard.example/internal/stanza"
)

// checkIdle is what a session's one standing timer does, first at the deadline of its handshake and then at least once a minute, which
// also keeps its short times from wrapping around. It closes a session that is not bound in time, or has been silent for longer than
// its limit.
func (l *loop) checkIdle(slot, gen uint32) {
	s := l.slots.Get(slot, gen)
	switch {
	case s == nil || s.state == stateClosing:
		return
	case s.state == stateBinding:
		l.closeRetry(s, stanza.ReasonUnavailable)
		return
	}
	l.refill(s)
	left := s.idleLimit() - int(l.sec16()-s.lastSeen)
	if left <= 0 {
		l.closeSession(s, stanza.ReasonIdleTimeout, 0)
		return
	}
	// Not all at the same distance: what was bound in one second would come due in one second for ever.
	l.idle.Arm(slot, gen, min(left, checkEvery-int(slot%checkSpread)))
}

// armBusy starts a timer for a session that has something unanswered, unless one runs.
func (l *loop) armBusy(s *session) {
	if s.flags&flagBusy == 0 {
		s.flags |= flagBusy
		l.busy.Arm(s.slot(), l.slots.Gen(s.slot()), busyInterval)
	}
}

// checkBusy looks after a session with a deadline: while anything is unanswered on either side, and while it lingers.
func (l *loop) checkBusy(slot, gen uint32) {
	s := l.slots.Get(slot, gen)
	if s == nil {
		return
	}
	if s.state == stateClosing {
		// Early when the timer was armed before the session was closed, or while the wheels were a second behind: what closes
		// sessions in advance runs before they have moved.
		if left := lingerSeconds - int(l.sec8()-s.progress); left > 0 {
			l.busy.Arm(slot, gen, left)
			return
		}
		l.closeConn(l.conn(slot))
		return
	}
	s.flags &^= flagBusy
	if s.unacked > 0 && l.sec8()-s.progress >= l.g.ackSeconds {
		l.closeSession(s, stanza.ReasonUnresponsive, 0)
		return
	}
	if s.inflight > 0 && (l.sec8()-s.answered >= l.g.answerSeconds || l.adrift(s)) {
		l.giveUp(s)
	}
	if s.unacked > 0 || s.inflight > 0 {
		l.armBusy(s)
	}
}
