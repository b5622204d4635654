package router

import (
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// receive handles one envelope from a stream. e is not changed; its payload may be kept.
func (m *dirShard) receive(from sender, e *link.Envelope) {
	p := m.peers[from]
	if p == nil || e.Account > stanza.MaxAccount || e.Device > stanza.MaxDevice || e.ID > stanza.MaxID {
		m.metrics.drops.Inc(stanza.ReasonInternal) // a peer that is broken; keys are packed from these numbers
		return
	}
	if e.Kind == link.KindHello {
		m.helloFrom(p, e)
		return
	}
	if e.Kind == link.KindNotLeader {
		m.queueNotLed(p, e)
		return
	}
	if e.Kind == link.KindRegions {
		m.regionsOf(p, e.ID)
		return
	}
	if !m.leading {
		m.answerNotLeader(p, e)
		return
	}
	if p.gw != nil {
		m.fromGateway(p, e)
	} else if p.border != nil {
		m.fromBorder(p, e)
	} else if p.role == link.RoleOffline {
		m.fromOffline(e)
	} else if p.role == link.RoleOperator {
		m.fromOperator(p, e)
	}
}

func (m *dirShard) fromGateway(p *peer, e *link.Envelope) {
	switch e.Kind {
	case link.KindMessage:
		m.message(p.gw, e)
	case link.KindBind:
		m.bind(p.gw, e)
	case link.KindRebind:
		m.rebind(p.gw, e)
	case link.KindRebindDone:
		m.rebindDone(p, e)
	case link.KindUnbind, link.KindGone:
		m.unbind(p.gw, e)
	case link.KindRegister:
		m.register(p.gw, e)
	case link.KindRedeem:
		m.redeem(p.gw, e)
	case link.KindQuery:
		m.query(p.gw, e)
	case link.KindNote:
		m.note(e)
	case link.KindContact:
		m.contacts.add(e.Account, stanza.Account(e.ID))
	}
}

func (m *dirShard) fromOffline(e *link.Envelope) {
	switch e.Kind {
	case link.KindQueueDropped:
		m.queueDropped(e)
	case link.KindUnlinkIdle:
		m.unlinkIdle(e)
	}
}

// answerNotLeader answers what somebody waits for; the rest is sent again to the leader that says hello.
func (m *dirShard) answerNotLeader(p *peer, e *link.Envelope) {
	if wantsAnswer(e.Kind) {
		m.send(p.to, *notLeader(m.id, m.term, e))
	}
}

// wantsAnswer reports whether the sender of such an envelope waits for an answer.
func wantsAnswer(k link.Kind) bool {
	switch k {
	case link.KindMessage, link.KindForward, link.KindBind, link.KindRegister, link.KindRedeem, link.KindQuery, link.KindAnnounce, link.KindLeave:
		return true
	}
	return false
}

// notLeader is the answer to e that this process does not lead g.
func notLeader(g stanza.Group, term uint64, e *link.Envelope) *link.Envelope {
	return &link.Envelope{Kind: link.KindNotLeader, Group: g, Term: term, Slot: e.Slot, Gen: e.Gen, Account: e.Account, Device: e.Device,
		ID: e.ID, Charge: e.Charge}
}

// queueNotLed hears that an offline does not lead queue/N (any more). A message that it was sent comes back with its header, so that
// the sender's gateway can be told.
func (m *dirShard) queueNotLed(p *peer, e *link.Envelope) {
	if p.role != link.RoleOffline {
		return
	}
	if m.route.to == p.to {
		m.route.to = nil
	}
	gw := m.gateways.byID[e.Gateway]
	for _, b := range m.borders {
		if b.id == e.Gateway {
			gw = &b.gateway
		}
	}
	if gw != nil && e.ID != 0 {
		m.refuse(gw, e, stanza.ReasonUnavailable)
	}
}
