package gateway

import (
	"math"

	"linecard.example/internal/link"
	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

// receive handles one envelope for a session of this loop. The payload may be used until the credits are given back.
func (l *loop) receive(from *link.Stream, e *link.Envelope) {
	s := l.live(e.Slot, e.Gen)
	if s == nil {
		l.g.gone(from, e)
		return
	}
	switch e.Kind {
	case link.KindDeliver:
		l.deliver(s, e)
	case link.KindAck:
		if e.ID == 0 {
			l.g.metrics.drops.Inc(stanza.ReasonInternal) // of no message
		} else if s.state == stateBound {
			l.settle(s, e.Charge)
			l.pushAck(s, e.ID)
		}
	case link.KindRefused:
		if s.state == stateBound {
			l.settle(s, e.Charge)
			l.relay(s, e.Payload, stanza.TagRefused)
			if e.Reason == stanza.ReasonUnavailable || e.Reason == stanza.ReasonRetry {
				l.owe(s)
			}
		}
	case link.KindResult:
		if s.state == stateBound {
			l.relayAnswer(s, e.Payload)
		}
	case link.KindBound:
		l.bound(s, e)
	case link.KindRedeemed:
		l.redeemed(s, e)
	case link.KindClose:
		if e.Reason != stanza.ReasonRegistrationClosed || !l.redeem(s, e.Gen) {
			l.closeSession(s, e.Reason, e.RetryAfter)
		}
	case link.KindNotLeader:
		l.notLeader(s, e)
	default:
		l.g.metrics.drops.Inc(stanza.ReasonInternal) // nothing that a gateway is sent
	}
}

// gone answers an envelope whose session is no more, so that its sender forgets it. Answers to what the session sent need none: no
// binding or attachment stands behind them.
func (g *Gateway) gone(to *link.Stream, e *link.Envelope) {
	g.metrics.drops.Inc(stanza.ReasonGone)
	if g.giving.Load() {
		return // it may live in another process, and must not be detached before that one has said so
	}
	switch e.Kind {
	case link.KindDeliver, link.KindBound, link.KindClose:
		g.sendTo(to, &link.Envelope{
			Kind: link.KindGone, Group: e.Group, Account: e.Account, Device: e.Device, Slot: e.Slot, Gen: e.Gen,
		})
	}
}

// relay writes a stanza that a daemon encoded, after a look at its tag.
func (l *loop) relay(s *session, raw []byte, tag stanza.Tag) {
	if len(raw) < 2 || len(raw) > stanza.MaxStanza || stanza.Tag(raw[0]&tagMask) != tag {
		l.g.metrics.drops.Inc(stanza.ReasonInternal)
		return
	}
	l.push(s, raw)
}

func (l *loop) relayAnswer(s *session, raw []byte) {
	tag := stanza.TagResult
	if len(raw) > 0 && stanza.Tag(raw[0]&tagMask) == stanza.TagError {
		tag = stanza.TagError
	}
	l.relay(s, raw, tag)
}

// deliver writes a delivery if it is the next one of its attachment. A session's deliveries are numbered 1, 2, 3... for its whole
// life; the number in an attachment is that minus base. A newer epoch begins behind what was written.
func (l *loop) deliver(s *session, e *link.Envelope) {
	if r := l.g.routeOf(e.Group); r == nil || r.stream.Load() == nil {
		l.g.metrics.drops.Inc(stanza.ReasonLinkDown) // its leader is unknown: it will come again
		return
	}
	switch {
	case e.Epoch < s.epoch:
		l.g.metrics.drops.Inc(stanza.ReasonStaleEpoch)
		return
	case s.state == stateBinding:
		s.epoch = e.Epoch // overtook the router's bound, which then asks for the first one
		l.g.metrics.drops.Inc(stanza.ReasonOutOfTurn)
		return
	case e.Epoch > s.epoch:
		s.epoch, s.base = e.Epoch, s.written
	}
	next := s.expects()
	if planted.On(planted.OutOfTurn) {
		next = e.ID
	}
	switch {
	case e.ID < next:
		l.g.metrics.drops.Inc(stanza.ReasonOutOfTurn)
		if acked := s.written - uint32(s.unacked); acked > s.base && e.ID <= uint64(acked-s.base) {
			l.sendDeliveryAck(s) // the ack of it was lost
		}
	case l.holds(s):
		l.g.metrics.heldBack.Inc()
	case e.ID > next:
		l.g.metrics.drops.Inc(stanza.ReasonOutOfTurn)
		l.sendExpect(s, next)
	default:
		l.write(s, e.Payload)
	}
}

// write gives the session the next delivery.
func (l *loop) write(s *session, raw []byte) {
	if len(raw) < 2 || len(raw) > stanza.MaxStanza || !stanza.Tag(raw[0]&tagMask).Delivery() {
		l.g.metrics.drops.Inc(stanza.ReasonInternal)
		l.closeSession(s, stanza.ReasonInternal, 0) // it would come again for ever
		return
	}
	if s.unacked == math.MaxUint16 {
		l.closeSession(s, stanza.ReasonUnresponsive, 0)
		return
	}
	if s.written == math.MaxUint32 {
		l.closeSession(s, stanza.ReasonNonceExhausted, 0)
		return
	}
	if s.unacked == 0 {
		s.progress = l.sec8()
	}
	s.unacked++
	s.written++
	l.push(s, raw)
	l.armBusy(s)
}

// acknowledged counts deliveries that the client has handled.
func (l *loop) acknowledged(s *session, count uint32) error {
	if count > uint32(s.unacked) {
		return l.end(s, stanza.ReasonBadStanza) // more than it was given
	}
	s.unacked -= uint16(count)
	s.progress = l.sec8()
	l.ackDue = true
	return nil
}

// sendDeliveryAck tells offline how far the client is, cumulatively. Deliveries of earlier attachments are none of the present
// one's business: at or below base there is nothing to tell.
func (l *loop) sendDeliveryAck(s *session) {
	acked := s.written - uint32(s.unacked)
	if acked <= s.base {
		return
	}
	l.sendQueue(link.KindDeliveryAck, s, uint64(acked-s.base))
}

// expectation is the last expect that was sent: a batch that misses its first delivery asks once, not once for each.
type expectation struct {
	turn  uint64
	self  uint32
	epoch link.Fence
	next  uint64
}

func (l *loop) sendExpect(s *session, next uint64) {
	x := expectation{turn: l.turns, self: s.self, epoch: s.epoch, next: next}
	if x == l.expected {
		return
	}
	l.expected = x
	l.sendQueue(link.KindExpect, s, next)
}

// sendQueue sends what concerns the session's attachment to the leader of its queue; lost when there is none: offline sends again.
func (l *loop) sendQueue(kind link.Kind, s *session, number uint64) {
	l.env = link.Envelope{
		Kind: kind, Group: l.g.queueOf(s.account), Account: s.account, Device: s.dev(), Slot: s.self, Gen: l.slots.Gen(s.slot()),
		Epoch: s.epoch, ID: number,
	}
	l.g.sendSoft(&l.env)
}

// notLeader passes on that an envelope went to a process that does not lead its group any more. What the envelope was shows in
// what came back: messages carry a charge, queries a number; what went to a queue has none that waits for it.
func (l *loop) notLeader(s *session, e *link.Envelope) {
	retryAfter := jitter(l.g.cfg.RetryAfter.D())
	switch {
	case s.state == stateBinding:
		l.closeSession(s, stanza.ReasonUnavailable, retryAfter)
	case e.Charge > 0:
		l.settle(s, e.Charge)
		l.refuse(s, e.ID, stanza.ReasonUnavailable, retryAfter)
		l.owe(s)
	case e.ID > 0 && !e.Group.IsQueue():
		l.queryError(s, e.ID, stanza.ReasonUnavailable, retryAfter)
	}
}
