package router

import (
	"slices"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// sender is what the shard needs of a stream: link.Stream.
type sender interface {
	Send(e *link.Envelope) error
	SendSpare(e *link.Envelope) error
	IssuedFor(name string) bool
}

// peer is the other end of one stream.
type peer struct {
	to   sender
	role link.Role
	gw   *gateway // of role gateway only; nil once a newer run of the same worker is here

	border *border // of role border only

	helloOwed bool // the hello found no room
	keysOwed  bool // nor did the keys
}

// gateway is one run of a gateway worker. It outlives its stream by the grace time while it has bindings here.
type gateway struct {
	id        link.GatewayID
	index     uint32
	to        sender // nil while there is no stream
	downSince time.Time
	round     uint32 // counts its streams: bindings of an earlier round that it does not repeat are dead
	done      bool   // has re-sent its bindings to this leadership
	abroad    bool   // a border's
	bindings  int
	fresh     int // those of the current round
}

// gatewaySet gives gateways small numbers, which are used again when one is forgotten. Shard goroutine only.
type gatewaySet struct {
	byID  map[link.GatewayID]*gateway
	slots []*gateway
	free  []uint32
}

func (s *gatewaySet) at(index uint32) *gateway { return s.slots[index] }

func (s *gatewaySet) intern(id link.GatewayID) *gateway {
	if gw := s.byID[id]; gw != nil {
		return gw
	}
	gw := &gateway{id: id}
	if n := len(s.free); n > 0 {
		gw.index, s.free = s.free[n-1], s.free[:n-1]
		s.slots[gw.index] = gw
	} else {
		gw.index = uint32(len(s.slots))
		s.slots = append(s.slots, gw)
	}
	s.byID[id] = gw
	return gw
}

// forget gives gw's number back; it must have no bindings.
func (s *gatewaySet) forget(gw *gateway) {
	delete(s.byID, gw.id)
	s.slots[gw.index] = nil
	s.free = append(s.free, gw.index)
	gw.to = nil
}

// up takes a new stream in and says hello on it when this process leads.
func (m *dirShard) up(s sender, info link.Info) {
	p := &peer{to: s, role: info.Role}
	m.peers[s] = p
	if info.Role == link.RoleGateway {
		id := info.Gateway()
		m.replaceWorker(id)
		p.gw = m.gateways.intern(id)
		p.gw.to, p.gw.done = s, false
		p.gw.round++
		p.gw.fresh = 0
	}
	if info.Role == link.RoleBorder {
		p.border = &border{gateway: gateway{id: info.Gateway(), to: s, abroad: true}}
		m.borders = append(m.borders, p.border)
	}
	if m.leading {
		m.hello(p)
		m.tellKeys(p)
	}
}

// replaceWorker drops what earlier runs of the same worker had: a new incarnation means that the process was started anew. Other
// workers of the node are none of its business.
func (m *dirShard) replaceWorker(id link.GatewayID) {
	for old, gw := range m.gateways.byID {
		if id.Replaces(old) {
			m.dropGateway(gw)
			m.disown(gw)
		}
	}
}

// disown silences streams of a forgotten gateway that are not down yet: its number may be another's by now.
func (m *dirShard) disown(gw *gateway) {
	for _, p := range m.peers {
		if p.gw == gw {
			p.gw = nil
		}
	}
}

// down notes the end of a stream. A gateway's bindings stay for the grace time: most cuts are short.
func (m *dirShard) down(s sender) {
	p := m.peers[s]
	delete(m.peers, s)
	if m.route.to == s {
		m.route.to = nil
	}
	if p != nil && p.border != nil {
		p.border.to = nil // what waits for a commit or verified leadership looks there
		m.borders = slices.DeleteFunc(m.borders, func(b *border) bool { return b == p.border })
	}
	if p == nil || p.gw == nil || p.gw.to != s {
		return
	}
	p.gw.to, p.gw.downSince = nil, m.now
	if p.gw.bindings == 0 {
		m.gateways.forget(p.gw)
	}
}

// dropGateway forgets a gateway and its bindings.
func (m *dirShard) dropGateway(gw *gateway) {
	m.dropBindings(gw, func(binding) bool { return true })
	if m.gateways.byID[gw.id] == gw {
		m.gateways.forget(gw)
	}
}

func (m *dirShard) dropBindings(gw *gateway, drop func(binding) bool) {
	if gw.bindings == 0 {
		return
	}
	before := gw.bindings
	m.bindings.removeOf(gw, drop, m.detach)
	m.countBindings()
	if n := before - gw.bindings; n > 0 {
		m.log.Info("bindings dropped", "group", m.name, "node", gw.id.Node, "worker", gw.id.Worker(), "incarnation", gw.id.Incarnation, "bindings", n)
	}
}

// expireGateways drops a gateway whose stream is down for longer than the grace time; if there are others, the next ticks do. A machine
// that goes down takes a hundred of them along: each is a walk over all bindings, and has the queue's leader told of its sessions.
func (m *dirShard) expireGateways() {
	grace := m.cfg.GatewayGrace.D()
	for _, gw := range m.gateways.byID {
		if gw.to == nil && m.now.Sub(gw.downSince) >= grace {
			m.dropGateway(gw)
			return
		}
	}
}

// hello tells a peer that this process leads the group. A gateway answers with its bindings, and done.
func (m *dirShard) hello(p *peer) {
	switch p.role {
	case link.RoleRouter, link.RoleMedia, link.RoleRelay:
		return
	}
	p.helloOwed = !m.send(p.to, link.Envelope{Kind: link.KindHello, Group: m.id, Term: m.term})
}

// sendOwedHellos says hello where it found no room: a gateway that does not hear of a new leader leaves its sessions unbound.
func (m *dirShard) sendOwedHellos() {
	for _, p := range m.peers {
		if p.helloOwed {
			m.hello(p)
		}
	}
}

// helloFrom notes who leads the group's queues. It is noted by followers too: they may lead next. A lower term than the one known is of
// a leader that was replaced; with no leader left it is a group that lost its disk, whose terms begin again.
func (m *dirShard) helloFrom(p *peer, e *link.Envelope) {
	if p.role != link.RoleOffline || e.Group != m.queue || (e.Term < m.route.term && m.route.to != nil) {
		return
	}
	m.route = route{to: p.to, term: e.Term}
	if m.leading {
		m.resendAttachments()
		m.retryDrops()
	}
}

// rebindDone ends a gateway's re-sending: sessions that it did not repeat since its stream came up are gone. From a stream that was
// replaced it says nothing about that.
func (m *dirShard) rebindDone(p *peer, e *link.Envelope) {
	if p.gw.to != p.to || e.Term != m.term {
		return
	}
	gw := p.gw
	gw.done = true
	if gw.fresh < gw.bindings {
		m.dropBindings(gw, func(b binding) bool { return b.round != gw.round })
	}
}

// rebuilt reports whether the bindings of this leadership are complete as far as they ever will be: every gateway here has
// re-sent its own, or had its time to.
func (m *dirShard) rebuilt() bool {
	if m.now.Sub(m.leadAt) >= m.cfg.GatewayGrace.D() {
		return true
	}
	for _, gw := range m.gateways.byID {
		if !gw.done {
			return false
		}
	}
	return len(m.gateways.byID) > 0
}

// send copies e to a stream and counts what could not be sent, as a drop with its reason. It allocates nothing.
func (m *dirShard) send(to sender, e link.Envelope) bool {
	if to == nil {
		m.metrics.drops.Inc(stanza.ReasonLinkDown)
		return false
	}
	m.out = e
	if err := to.Send(&m.out); err != nil {
		m.metrics.drops.Inc(link.ReasonOf(err))
		return false
	}
	return true
}
