package gateway

import (
	"linecard.example/internal/stanza"
)

// armIdle starts the session's one standing timer. It comes due at least once a minute, which also keeps the session's short times
// from wrapping around.
func (l *loop) armIdle(s *session, gen uint32) {
	// The first look is spread over the minute, so that a storm of log-ins does not come due at once for ever.
	l.idle.Arm(s.slot(), gen, 1+int(s.slot()%checkEvery))
}

// checkIdle closes a session that has been silent for longer than its limit.
func (l *loop) checkIdle(slot, gen uint32) {
	s := l.slots.Get(slot, gen)
	if s == nil || s.state != stateBound {
		return
	}
	l.refill(s)
	left := s.idleLimit() - int(l.sec16()-s.lastSeen)
	if left <= 0 {
		l.closeSession(s, stanza.ReasonIdleTimeout, 0)
		return
	}
	l.idle.Arm(slot, gen, min(left, checkEvery))
}

// armBusy starts a timer for a session that has something unanswered, unless one runs.
func (l *loop) armBusy(s *session) {
	if s.flags&flagBusy == 0 {
		s.flags |= flagBusy
		l.busy.Arm(s.slot(), l.slots.Gen(s.slot()), busyInterval)
	}
}

// checkBusy looks after a session with a deadline: while it is binding, while anything is unanswered on either side, and while it
// lingers.
func (l *loop) checkBusy(slot, gen uint32) {
	s := l.slots.Get(slot, gen)
	if s == nil {
		return
	}
	switch s.state {
	case stateClosing:
		// Early when the timer was armed before the session was closed, or while the wheels were a second behind: what closes
		// sessions in advance runs before they have moved.
		if left := lingerSeconds - int(l.sec8()-s.progress); left > 0 {
			l.busy.Arm(slot, gen, left)
			return
		}
		l.closeConn(l.conn(slot))
		return
	case stateBinding:
		l.closeRetry(s, stanza.ReasonUnavailable)
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
