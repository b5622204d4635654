package gateway

// chargeUnit is the unit in which a session counts the bytes of its unanswered messages: coarse enough for one byte of state.
// Every message is rounded up, which costs a client within its window at most one unit per id, half of what is enforced above it.
const chargeUnit = 4 << 10

func units(bytes uint32) int { return int((bytes + chargeUnit - 1) / chargeUnit) }

// fits reports whether a message of so many bytes stays within twice the window.
func (l *loop) fits(s *session, bytes uint32) bool {
	return int(s.inflight) < 2*l.g.cfg.WindowIDs && int(s.charged)+units(bytes) <= l.g.windowUnits
}

// stalled is how many seconds without an answer make resends the likely reason for a full window: less than the 5 s after which clients
// send again, and nothing that a session with answers comes near.
const stalled = 3

// room is fits for a session that may be waiting for answers: what its client resends meanwhile, by itself and when it is told to, is
// counted each time, and three of that are more than twice the window. Then the count begins anew.
func (l *loop) room(s *session, bytes uint32) bool {
	if !l.fits(s, bytes) && s.inflight > 0 && l.sec8()-s.answered >= stalled {
		l.forgive(s)
	}
	return l.fits(s, bytes)
}

// charge counts a forwarded message as unanswered; room was true.
func (l *loop) charge(s *session, bytes uint32) {
	if s.inflight == 0 {
		s.answered = l.sec8()
	}
	s.inflight++
	l.unanswered++
	s.charged += uint8(units(bytes))
	l.armBusy(s)
}

// settle counts an answer. After a reset answers to what was given up may still come: the counts stop at zero, so the client
// gets a little more room for a moment, never less.
func (l *loop) settle(s *session, bytes uint32) {
	s.answered = l.sec8()
	if s.inflight > 0 {
		s.inflight--
		l.unanswered--
	}
	s.charged -= uint8(min(units(bytes), int(s.charged)))
	if s.inflight == 0 {
		s.charged = 0
	}
	if int(s.inflight) <= l.g.cfg.WindowIDs {
		s.flags &^= flagWarned
	}
}

// giveUp forgets what is unanswered and tells the client to send it again, and with it what was refused for want of a leader: the link or
// the leader that had it may be gone, and another one there.
func (l *loop) giveUp(s *session) {
	if s.inflight == 0 && s.flags&flagOwed == 0 {
		return
	}
	l.forgive(s)
	s.flags &^= flagOwed
	l.scratch = appendRetryAll(l.scratch[:0])
	l.push(s, l.scratch)
}

// forgive forgets what is unanswered.
func (l *loop) forgive(s *session) {
	l.unanswered -= int(s.inflight)
	s.inflight, s.charged = 0, 0
	s.flags &^= flagWarned
}

// adrift reports whether more is counted as unanswered than the client can have by its own count. A message whose answer was lost is
// counted again when it comes again, and answered once: each leaves one behind, and while other answers keep coming no timeout clears
// them, until a client that did nothing wrong would be refused window and closed. Offline drops answers that it has no credit for.
func (l *loop) adrift(s *session) bool {
	return int(s.inflight) > l.g.cfg.WindowIDs || int(s.charged) > l.g.windowUnits/2+l.g.cfg.WindowIDs
}

// tellUnanswered brings the gauge up to date.
func (l *loop) tellUnanswered() {
	if l.unanswered != l.told {
		l.g.metrics.unanswered.Add(float64(l.unanswered - l.told))
		l.told = l.unanswered
	}
}
