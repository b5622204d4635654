package offline

import (
	"linecard.example/internal/link"
	"linecard.example/internal/planted"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// answerStore answers a message whose outcome is known, or known to be unknown.
func (m *group) answerStore(p *proposal, o shard.Outcome, r *result) {
	switch {
	case o == shard.Rejected:
		m.refuse(p, stanza.ReasonUnavailable, r)
	case o != shard.Committed && planted.On(planted.UnknownIsFailure):
		m.refuse(p, stanza.ReasonForbidden, r)
	case o != shard.Committed:
		m.refuse(p, stanza.ReasonRetry, r)
	case r.verdict == refused:
		m.refuse(p, r.reason, r)
		if r.reason == stanza.ReasonQueueFull {
			m.unlinkIdle(p.account, r.full)
		}
	case r.verdict == duplicate:
		m.count.duplicates.Inc()
		m.ackStore(p)
	default:
		m.count.admitted.Inc()
		if r.reason != 0 {
			m.count.dropped.Inc(r.reason) // a read receipt without a place
		}
		m.ackStore(p)
	}
}

func (m *group) ackStore(p *proposal) {
	m.env = link.Envelope{Kind: link.KindAck, Group: m.id, Slot: p.slot, Gen: p.gen, ID: p.id, Charge: p.charge, Flags: p.flags}
	m.answer(p.gw)
}

// refuse sends a refusal with its ready stanza.
func (m *group) refuse(p *proposal, reason stanza.Reason, r *result) {
	m.count.refused.Inc(reason)
	m.count.lines.Write("queue refused a message", reason, p.account, 0)
	s := stanza.Refused{ID: p.id, Reason: reason}
	switch reason {
	case stanza.ReasonGap:
		s.Last, s.HasLast = r.last, true
	case stanza.ReasonQueueFull:
		s.RetryAfter = uint32(m.cfg.FullRetryAfter.D().Milliseconds())
		var numbers [stanza.MaxDevices]uint64
		for i, d := range r.full {
			numbers[i] = uint64(d)
		}
		s.Full = stanza.AppendPacked(nil, numbers[:len(r.full)])
	case stanza.ReasonStorageFull:
		s.RetryAfter = uint32(m.cfg.FullRetryAfter.D().Milliseconds())
	case stanza.ReasonBusy, stanza.ReasonUnavailable, stanza.ReasonRetry, stanza.ReasonInternal:
		s.RetryAfter = uint32(m.cfg.RetryAfter.D().Milliseconds())
	}
	m.out = s.Append(m.out[:0])
	m.env = link.Envelope{
		Kind: link.KindRefused, Group: m.id, Slot: p.slot, Gen: p.gen, ID: p.id, Charge: p.charge,
		Reason: reason, RetryAfter: s.RetryAfter, Payload: m.out,
	}
	m.answer(p.gw)
}

// answer sends m.env to a gateway. An answer that cannot go, false, is dropped: the client's resend gets another.
func (m *group) answer(gw *gateway) bool {
	s := gw.stream.Load()
	if s == nil {
		m.count.dropped.Inc(stanza.ReasonLinkDown)
		return false
	}
	if err := s.Send(&m.env); err != nil {
		m.count.dropped.Inc(link.ReasonOf(err))
		return false
	}
	return true
}

// Bounds of asking for the unlinking of idle devices.
const (
	idleAgain = 3600_000 // ms
	idleKnown = 4096
)

// unlinkIdle asks the directory to unlink devices whose full queue nobody reads.
func (m *group) unlinkIdle(a stanza.Account, full []stanza.Device) {
	for _, d := range full {
		q := m.find(keyOf(a, d))
		if q == nil || q.att != nil || q.head == q.next || m.wall-m.idle[q.key] < idleAgain {
			continue
		}
		var r record
		if !m.read(q, q.head, &r) {
			return
		}
		if r.stamp > m.raft.Stamp()-m.cfg.IdleUnlink.D().Milliseconds() {
			continue
		}
		dir := stanza.DirGroup(m.id.Shard())
		s := m.peers.leader(dir)
		if s == nil {
			continue
		}
		m.env = link.Envelope{Kind: link.KindUnlinkIdle, Group: dir, Account: a, Device: d}
		if s.Send(&m.env) != nil {
			continue
		}
		if len(m.idle) >= idleKnown {
			clear(m.idle)
		}
		m.idle[q.key] = m.wall
	}
}
