package offline

import (
	"slices"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// Probes for what was pushed and not acked: after 1, 2, 4, 8, 16 s, or later when everybody's acks are late.
const (
	firstResend  = 1000 // ms
	lastResend   = 16000
	maxStep      = 4
	ackTimeShare = 16 // of an ack in the mean of the group
	ackTimes     = 4  // means that an ack may take
)

// patience is how long what was pushed may be unacknowledged before the gateway is asked, in ms. Acks that are late are mostly late for all,
// because a machine has too much to do. Asking after a second then made 1.4 probes for each delivery, and it had more to do. A lost delivery
// is rare: what a broken stream loses is asked for when it is up again. As TCP does it, RFC 6298, but for the whole group, and without
// leaving out what was sent again: a gateway drops that, so an ack is nearly always of what was sent first.
func (m *group) patience(step uint8) int64 {
	return min(max(firstResend, ackTimes*m.ackTime)<<step, lastResend)
}

// noteAckTime takes the time of one ack, in ms, into the mean. That of one device alone, however slow, changes little.
func (m *group) noteAckTime(t int64) {
	m.ackTime += (min(t, lastResend/ackTimes) - m.ackTime) / ackTimeShare
}

// handleExpect resends from the number that the gateway wants to write next. A gateway asks once for each delivery that it dropped, so
// only the first of a row of equal questions counts, until the resend timer has run.
func (m *group) handleExpect(env *link.Envelope) {
	if a := m.of(env); a != nil {
		m.expect(a, env.ID)
	}
}

func (m *group) expect(a *attachment, next uint64) {
	n := max(next, a.acked+1)
	i := n - a.acked - 1
	if i >= uint64(len(a.sent)) || a.expected == n {
		return
	}
	a.expected = n
	if a.sent[i].seq < a.q.head {
		m.unresponsive(a) // it is gone: the numbers cannot be made whole, a new session can
		return
	}
	m.resend(a, int(i), len(a.sent))
}

// probe asks the gateway where it is, by sending the first and the last of what is unacked again. Most of the time the device is only
// slow, and the gateway drops both. If the first was acked it repeats that ack; if it misses the last, or anything before it, it says
// what it expects, and gets that and no more. The whole window instead, of every slow device again and again, fills links: it was
// seen to take all credit from the answers to quick ones.
func (m *group) probe(a *attachment) {
	n := len(a.sent)
	held := a.q.front != nil
	m.single = true
	m.resend(a, 0, min(1, n))
	m.resend(a, max(1, n-1), n)
	m.single = false
	if !held {
		m.dropFront(a.q) // read for this, and of no use to a device that takes nothing
	}
}

// A device that leaves what was pushed unacknowledged for some seconds does not take it, and may go on like that until it is unresponsive.
// Meanwhile its queue is in tables, but for the youngest entries, whatever the cache has room for: many such devices at
// once would fill it, and each is to cost little more than its attachment.
const (
	slowStep = 2        // probes without an answer: 3 s
	slowMost = 24 << 10 // bytes in memory from which on it is worth it
	slowKeep = 8 << 10
)

// weigh notes a slow device's queue to leave memory.
func (m *group) weigh(a *attachment) {
	if a.step >= slowStep && !a.slow && a.q.resident > slowMost {
		a.slow = true
		m.slow = append(m.slow, a)
	}
}

// shed writes the queues of slow devices ahead and forgets them, aheadPerTick bytes at a time. Ticks only.
func (m *group) shed() {
	if len(m.slow) == 0 {
		return
	}
	w, done := aheadWriter{s: m.state}, 0
	for _, a := range m.slow {
		if w.total+w.bytes >= aheadPerTick {
			break
		}
		done++
		a.slow = false
		if q := a.q; q != nil && q.att == a && q.resident > slowMost {
			w.run(q)
			m.evict(q, slowKeep)
		}
	}
	w.commit()
	m.count.aheadBytes.Add(float64(w.total))
	left := copy(m.slow, m.slow[done:])
	clear(m.slow[left:])
	m.slow = m.slow[:left]
}

// resend sends what is unacked from index i up to end again. What left the queue meanwhile, because an ack of the device's last
// session was committed or because it expired, is not needed for that: the gateway has written it, or else asks for it.
func (m *group) resend(a *attachment, i, end int) {
	s := a.gw.stream.Load()
	if s == nil {
		return
	}
	for ; i < end; i++ {
		seq := a.sent[i].seq
		if seq < a.q.head {
			continue
		}
		if !m.encodeDown(a.q, seq) {
			return
		}
		if m.deliver(s, a, a.acked+uint64(i)+1) != nil {
			return // the timer tries again
		}
		m.count.resent.Inc()
	}
}

// unresponsive has the session closed. It stays attached until that is on its way: a session that nobody closes, and nobody pushes
// to, would never get anything.
func (m *group) unresponsive(a *attachment) {
	if m.close(a.gw, a.slot, a.gen, stanza.ReasonUnresponsive) {
		m.detach(a.q)
		return
	}
	a.due = m.now + firstResend
}

// checkAttachments resends what is due, gives up sessions without progress, and lets those sleep that have nothing to do.
func (m *group) checkAttachments() {
	for {
		a, ok := m.timers.due(m.now)
		if !ok {
			return
		}
		if a.armed > m.now {
			continue // it was due earlier, and is armed anew
		}
		a.armed = 0
		switch {
		case a.q == nil: // released
		case a.q.att != a:
			m.release(a)
		case len(a.sent) == 0:
			m.rest(a)
		default:
			m.checkAttachment(a)
			if a.q.att == a {
				m.arm(a)
			} else {
				m.release(a)
			}
		}
	}
}

// checkAttachment looks at an attachment with unacked deliveries, and leaves its next time in due.
func (m *group) checkAttachment(a *attachment) {
	if a.due > m.now {
		return
	}
	if a.gw.stream.Load() == nil {
		// Not the device's fault: time stands still until the gateway is back.
		a.progress, a.due = m.now, m.now+firstResend
		return
	}
	limit := m.cfg.Unresponsive.D().Milliseconds()
	if m.now-a.progress >= limit {
		m.unresponsive(a)
		return
	}
	a.expected = 0
	a.step = min(a.step+1, maxStep)
	a.due = min(m.now+m.patience(a.step), a.progress+limit)
	m.probe(a)
	m.weigh(a)
}

// arm makes sure that a comes out of the timers when it is due. An entry that is too late stays, and is passed over: there is one
// for each backoff that an ack ended, for as long as that would have lasted.
func (m *group) arm(a *attachment) {
	if a.armed == 0 || a.due < a.armed {
		a.armed = a.due
		m.timers.arm(a.due, a)
	}
}

// gatewayUp resumes the attachments of a gateway whose stream is up: what was on the way may be lost. Those of earlier runs of the same
// gateway are dropped with it. One that is asleep had nothing on its way.
func (m *group) gatewayUp(s *link.Stream) {
	id := s.Peer().Gateway()
	m.attached -= m.asleep.removeReplaced(id)
	for gw, list := range m.awake {
		switch {
		case id.Replaces(gw.id):
			for _, a := range slices.Clone(list) {
				m.detach(a.q)
			}
			delete(m.awake, gw)
		case gw.stream.Load() == s:
			for _, a := range list {
				a.progress, a.step, a.expected = m.now, 0, 0
				a.due = m.now + firstResend
				m.probe(a)
				m.touch(a.q)
			}
		}
	}
}
