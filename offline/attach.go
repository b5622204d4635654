package offline

import (
	"linecard.example/internal/link"
	"linecard.example/internal/planted"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// attachment is a device's session as this leader knows it. It lives as long as the leadership, the session, or until a newer
// one: nothing in it is durable, and a client sees the loss of it as repeats that it knows by their ids.
type attachment struct {
	q         *queue
	gw        *gateway
	slot, gen uint32
	serial    link.Fence
	epoch     link.Fence

	cursor   uint64 // the sequence to push next
	acked    uint64 // attachment numbers up to here are acked
	sent     []sent // numbers from acked+1: pushed and not acked
	bytes    int    // of sent
	ackTo    uint64 // the sequence up to which the device has everything
	proposed uint64 // ackTo of the last proposal

	progress int64  // ms: when something was acked, or pushed into an empty window
	due      int64  // ms: when sent goes again
	expected uint64 // the number that was last resent because the gateway expected it
	armed    int64  // ms: when the group's timers bring it up, 0: not
	place    uint32 // in the group's awake of gw
	step     uint8  // of the resends' backoff
	acking   bool   // in the group's acking
	blocked  bool   // in the group's blocked: the link had no credit
	slow     bool   // in the group's slow
}

type sent struct {
	seq  uint64
	size uint32
}

func (a *attachment) is(env *link.Envelope) bool { return a.slot == env.Slot && a.gen == env.Gen }

// handleAttach attaches a session to its queue. The same session again keeps its epoch, also when it comes under another name because
// it was handed over to another process; a newer serial replaces it, an older one is late.
func (m *group) handleAttach(env *link.Envelope) {
	if env.Account == 0 || env.Device == 0 {
		return
	}
	k := keyOf(env.Account, env.Device)
	_, cached := m.queues[k]
	q := m.find(k)
	if m.broken != nil {
		return
	}
	gw := m.peers.gateway(env.Gateway)
	if q != nil && q.tomb != 0 {
		m.close(gw, env.Slot, env.Gen, stanza.ReasonUnlinked)
		return
	}
	if q != nil && q.att != nil {
		if !m.reattach(q.att, gw, env) {
			return
		}
		m.detach(q)
	} else if s := m.asleep.get(k); s != nil {
		if !m.reattachSleeper(k, s, gw, env) {
			return
		}
		m.forgetSleeper(k)
	}
	m.attached++
	m.epochs++
	epoch := link.MakeFence(m.term, m.epochs)
	if q == nil || q.entries() == 0 {
		m.asleep.put(k, gw, sleeper{serial: env.Serial, epoch: epoch, slot: env.Slot, gen: env.Gen})
		if q != nil && !cached {
			m.forgetQueue(q) // a leader is told of all devices at once
		}
		return
	}
	a := m.newAttachment()
	*a = attachment{q: q, gw: gw, slot: env.Slot, gen: env.Gen, serial: env.Serial, epoch: epoch, cursor: q.head}
	m.rouse(a)
	m.touch(q)
}

// reattach settles an attach against the attachment that there is; true: it is to be replaced.
func (m *group) reattach(a *attachment, gw *gateway, env *link.Envelope) bool {
	switch {
	case a.gw == gw && a.is(env):
		a.serial = max(a.serial, env.Serial)
		m.touch(a.q)
	case env.Serial < a.serial:
	case env.Epoch != 0 && env.Epoch == a.epoch:
		m.move(a, gw, env)
	default:
		return true
	}
	return false
}

// reattachSleeper is reattach for one that is asleep. A move has nothing to send again then.
func (m *group) reattachSleeper(k queueKey, s *sleeper, gw *gateway, env *link.Envelope) bool {
	switch {
	case m.asleep.at(s) == gw && s.is(env):
		s.serial = max(s.serial, env.Serial)
	case env.Serial < s.serial:
	case env.Epoch != 0 && env.Epoch == s.epoch:
		moved := *s
		moved.slot, moved.gen, moved.serial = env.Slot, env.Gen, env.Serial
		m.asleep.remove(k)
		m.asleep.put(k, gw, moved)
	default:
		return true
	}
	return false
}

// move goes on with an attachment under the session's new name. What went to the old one and was not written there comes again from the
// number that the session expects; what was written does not.
func (m *group) move(a *attachment, gw *gateway, env *link.Envelope) {
	m.awake.remove(a)
	a.gw, a.slot, a.gen, a.serial = gw, env.Slot, env.Gen, env.Serial
	m.awake.add(a)
	a.progress, a.step, a.expected = m.now, 0, 0
	a.due = m.now + m.patience(0)
	if len(a.sent) > 0 {
		m.arm(a)
	}
	m.expect(a, env.ID)
	m.touch(a.q)
}

func (m *group) handleDetach(env *link.Envelope) {
	k := keyOf(env.Account, env.Device)
	if q := m.queues[k]; q != nil && q.att != nil {
		if q.att.gw.id == env.Gateway && q.att.is(env) {
			m.detach(q)
		}
	} else if s := m.asleep.get(k); s != nil && m.asleep.at(s).id == env.Gateway && s.is(env) {
		m.forgetSleeper(k)
	}
}

// handleGone forgets a session that its gateway does not have any more.
func (m *group) handleGone(it *link.Item) {
	k := keyOf(it.Env.Account, it.Env.Device)
	if q := m.queues[k]; q != nil && q.att != nil {
		if q.att.is(&it.Env) && q.att.gw.stream.Load() == it.From {
			m.detach(q)
		}
	} else if s := m.asleep.get(k); s != nil && s.is(&it.Env) && m.asleep.at(s).stream.Load() == it.From {
		m.forgetSleeper(k)
	}
}

func (m *group) detach(q *queue) {
	m.awake.remove(q.att)
	q.att = nil
	m.dropFront(q)
	m.attached--
}

func (m *group) forgetSleeper(k queueKey) {
	m.asleep.remove(k)
	m.attached--
}

// closeDropped closes the session of a device whose queue was dropped.
func (m *group) closeDropped(q *queue) {
	if a := q.att; a != nil {
		m.close(a.gw, a.slot, a.gen, stanza.ReasonUnlinked)
		m.detach(q)
	} else if s := m.asleep.get(q.key); s != nil {
		m.close(m.asleep.at(s), s.slot, s.gen, stanza.ReasonUnlinked)
		m.forgetSleeper(q.key)
	}
}

// close tells a gateway to close a session; false if there is no way to.
func (m *group) close(gw *gateway, slot, gen uint32, reason stanza.Reason) bool {
	m.env = link.Envelope{Kind: link.KindClose, Group: m.id, Slot: slot, Gen: gen, Reason: reason}
	return m.answer(gw)
}

// of returns the attachment that an envelope of a gateway is about, nil if it was replaced, or is asleep: then it has nothing on its way
// that could be acked, or sent again.
func (m *group) of(env *link.Envelope) *attachment {
	k := keyOf(env.Account, env.Device)
	if q := m.queues[k]; q != nil && q.att != nil {
		if a := q.att; a.is(env) && (a.epoch == env.Epoch || planted.On(planted.OldAck)) {
			return a
		}
	} else if s := m.asleep.get(k); s != nil && s.is(env) && s.epoch == env.Epoch {
		if env.ID > uint64(s.acked) && env.Kind == link.KindDeliveryAck {
			m.count.dropped.Inc(stanza.ReasonOutOfTurn)
		}
		return nil
	}
	m.count.dropped.Inc(stanza.ReasonStaleEpoch)
	return nil
}

// handleDeliveryAck moves the window and notes what to propose. The window moves before the ack is committed: if it never is, the
// entries come again under another epoch.
func (m *group) handleDeliveryAck(env *link.Envelope) {
	a := m.of(env)
	if a == nil || env.ID <= a.acked {
		return
	}
	n := env.ID - a.acked
	if n > uint64(len(a.sent)) {
		m.count.dropped.Inc(stanza.ReasonOutOfTurn)
		return
	}
	for _, s := range a.sent[:n] {
		a.bytes -= int(s.size)
	}
	a.ackTo = a.sent[n-1].seq
	a.acked = env.ID
	a.sent = a.sent[:copy(a.sent, a.sent[n:])]
	m.noteAckTime(m.now - a.progress)
	a.progress, a.step, a.expected = m.now, 0, 0
	a.due = m.now + m.patience(0)
	if len(a.sent) == 0 {
		m.giveRoom(a)
	} else {
		m.arm(a)
	}
	m.noteAck(a)
	m.touch(a.q)
}

func (m *group) noteAck(a *attachment) {
	if !a.acking {
		a.acking = true
		m.acking = append(m.acking, a)
	}
}

// proposeAcks proposes one ack for each attachment that has something new; what is not taken waits for the next turn. An attachment
// that has ended since counts too: its device has the messages all the same.
func (m *group) proposeAcks() {
	left := m.acking[:0]
	for _, a := range m.acking {
		q := a.q
		a.acking = false
		if a.ackTo < q.head || a.ackTo <= a.proposed {
			continue
		}
		c := command{op: opAck, account: q.key.account(), device: q.key.device(), upTo: a.ackTo}
		m.cmdOut = appendCommand(m.cmdOut[:0], &c)
		if !m.raft.ProposeLazy(m.cmdOut, proposal{purpose: forAck, account: c.account, device: c.device}) {
			a.acking = true
			left = append(left, a)
			continue
		}
		a.proposed = a.ackTo
	}
	clear(m.acking[len(left):])
	m.acking = left
}

// ackDone takes up an ack that was not committed.
func (m *group) ackDone(p *proposal, o shard.Outcome, r result) {
	m.count.acked.Add(float64(r.count))
	if o == shard.Committed || !m.leading {
		return
	}
	if q := m.queues[keyOf(p.account, p.device)]; q != nil && q.att != nil {
		q.att.proposed = 0
		m.noteAck(q.att)
	}
}
