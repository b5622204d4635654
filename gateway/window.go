package gateway

// chargeUnit is the unit in which a session counts the bytes of its unanswered messages: coarse enough for one byte of state.
// Every message is rounded up, which costs a client within its window at most one unit per id, half of what is enforced above it.
const chargeUnit = 4 << 10

func units(bytes uint32) int { return int((bytes + chargeUnit - 1) / chargeUnit) }

// fits reports whether a message of so many bytes stays within twice the window.
func (l *loop) fits(s *session, bytes uint32) bool {
	return int(s.inflight) < 2*l.g.cfg.WindowIDs && int(s.charged)+units(bytes) <= l.g.windowUnits
}

// charge counts a forwarded message as unanswered; fits was true.
func (l *loop) charge(s *session, bytes uint32) {
	if s.inflight == 0 {
		s.answered = l.sec8()
	}
	s.inflight++
	s.charged += uint8(units(bytes))
	l.armBusy(s)
}

// settle counts an answer. After a reset answers to what was given up may still come: the counts stop at zero, so the client
// gets a little more room for a moment, never less.
func (l *loop) settle(s *session, bytes uint32) {
	s.answered = l.sec8()
	if s.inflight > 0 {
		s.inflight--
	}
	s.charged -= uint8(min(units(bytes), int(s.charged)))
	if s.inflight == 0 {
		s.charged = 0
	}
	if int(s.inflight) <= l.g.cfg.WindowIDs {
		s.flags &^= flagWarned
	}
}

// giveUp forgets what is unanswered and tells the client to send it again: the link or the leader that had it may be gone.
func (l *loop) giveUp(s *session) {
	if s.inflight == 0 {
		return
	}
	s.inflight, s.charged = 0, 0
	s.flags &^= flagWarned
	l.scratch = appendRetryAll(l.scratch[:0])
	l.push(s, l.scratch)
}
