package simtest

import (
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

// gateway is one run of a model gateway: what design/delivery.md and the gateway's own code say of routes, bindings and deliveries, without
// sockets and handshakes. It keeps no copies and acks nothing by itself. Everything in it is under World.mu.
type gateway struct {
	w        *World
	name     string
	ep       *link.Endpoint
	dead     bool
	routes   map[stanza.Group]*route
	sessions map[uint32]*session
	slots    uint32
}

// route says which stream leads to the leader of a group.
type route struct {
	to   *link.Stream // nil: unknown
	term uint64       // highest heard of
}

func newGateway(w *World, number int, run uint64) *gateway {
	g := &gateway{w: w, name: gatewayName(number), routes: map[stanza.Group]*route{}, sessions: map[uint32]*session{}}
	for n := range w.plan.shards {
		g.routes[stanza.DirGroup(n)], g.routes[stanza.QueueGroup(n)] = &route{}, &route{}
	}
	info := link.Info{Role: link.RoleGateway, Node: gatewayNode(number), Incarnation: link.NewIncarnation(0, run), Shards: w.plan.shards, Cluster: cluster}
	g.ep = link.NewEndpoint(info, g, link.Options{})
	g.ep.Travel(w.weather.road(g.name, w.nameOf), w.jitter)
	return g
}

// Up implements link.Handler: leaders say hello by themselves.
func (g *gateway) Up(*link.Stream) {}

// Down implements link.Handler: the groups led by that peer have no leader, and what was on the way to it may be lost.
func (g *gateway) Down(s *link.Stream, _ error) {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	lost := false
	for _, r := range g.routes {
		if r.to == s {
			r.to, lost = nil, true
		}
	}
	if lost {
		g.reset(s)
	}
}

// reset gives up what is unanswered: bound sessions are told to send again, those that were being bound by the lost stream are closed.
func (g *gateway) reset(lost *link.Stream) {
	for _, s := range g.inOrder() {
		switch {
		case s.bound:
			s.tell(toClient{tag: stanza.TagRetry})
		case lost != nil && s.asked == lost:
			g.close(s, stanza.ReasonUnavailable)
		}
	}
}

// inOrder returns the sessions by slot, so that nothing depends on a map's order.
func (g *gateway) inOrder() (all []*session) {
	for slot := uint32(1); slot <= g.slots; slot++ {
		if s := g.sessions[slot]; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// Receive implements link.Handler.
func (g *gateway) Receive(from *link.Stream, batch []link.Envelope) {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	for i := range batch {
		e := batch[i]
		if !g.dead {
			g.receive(from, &e)
		}
		from.Done(batch[i].Group, batch[i].Size())
	}
}

func (g *gateway) receive(from *link.Stream, e *link.Envelope) {
	switch e.Kind {
	case link.KindHello:
		g.hello(from, e)
		return
	case link.KindTicketKeys:
		return
	case link.KindNotLeader:
		if r := g.routes[e.Group]; r != nil && r.to == from {
			r.to = nil
		}
	}
	s := g.sessions[e.Slot]
	if s == nil || e.Gen != 1 {
		g.gone(from, e)
		return
	}
	switch e.Kind {
	case link.KindBound:
		g.bound(s, e)
	case link.KindClose:
		g.close(s, e.Reason)
	case link.KindDeliver:
		g.deliver(s, e)
	case link.KindAck:
		s.tell(toClient{tag: stanza.TagAck, id: e.ID})
	case link.KindRefused, link.KindResult:
		if s.bound {
			s.tell(toClient{tag: stanza.TagRefused, raw: e.Payload, id: e.ID})
		}
	case link.KindNotLeader:
		g.notLeader(s, e)
	}
}

// hello is gateway.hello: a higher term than the one known is a new leader, a lower one a leader that was replaced.
func (g *gateway) hello(from *link.Stream, e *link.Envelope) {
	r := g.routes[e.Group]
	before, old := r.term, r.to
	if e.Term < before && old != nil {
		return
	}
	r.term, r.to = e.Term, from
	g.w.note("%s: %v led by %s in term %d", g.name, e.Group, g.w.nameOf(from.Peer()), e.Term)
	if before != 0 && (e.Term != before || old == nil && e.Group.IsQueue()) {
		if old == from {
			old = nil
		}
		g.reset(old)
	}
	if e.Group.IsQueue() {
		return
	}
	for _, s := range g.inOrder() {
		if s.bound && g.w.dirOf(s.account) == e.Group {
			_ = from.Send(&link.Envelope{Kind: link.KindRebind, Group: e.Group, Account: s.account, Device: s.device, Slot: s.slot, Gen: 1,
				Serial: s.serial, Epoch: s.epoch, ID: s.expects()})
		}
	}
	_ = from.Send(&link.Envelope{Kind: link.KindRebindDone, Group: e.Group, Term: e.Term})
}

// gone answers for a session that is no more.
func (g *gateway) gone(to *link.Stream, e *link.Envelope) {
	switch e.Kind {
	case link.KindDeliver, link.KindBound, link.KindClose:
		_ = to.Send(&link.Envelope{Kind: link.KindGone, Group: e.Group, Account: e.Account, Device: e.Device, Slot: e.Slot, Gen: e.Gen})
	}
}

func (g *gateway) bound(s *session, e *link.Envelope) {
	if s.bound {
		s.serial = max(s.serial, e.Serial)
		return
	}
	s.bound = true
	s.account, s.device, s.serial = e.Account, e.Device, e.Serial
	s.base, s.written = 0, 0
	s.tell(toClient{tag: stanza.TagBound, id: uint64(e.Account), device: e.Device})
	if s.epoch != 0 { // a delivery overtook this
		g.toQueue(link.KindExpect, s, 1)
	}
}

// deliver is loop.deliver: only the next one of the attachment is written; a newer epoch begins behind what was written.
func (g *gateway) deliver(s *session, e *link.Envelope) {
	if g.routes[e.Group].to == nil || e.Epoch < s.epoch {
		return
	}
	if !s.bound {
		s.epoch = e.Epoch
		return
	}
	if e.Epoch > s.epoch {
		s.epoch, s.base = e.Epoch, s.written
	}
	next := s.expects()
	if planted.On(planted.OutOfTurn) {
		next = e.ID
	}
	switch {
	case e.ID < next:
		if acked := s.written - s.unacked; acked > s.base && e.ID <= acked-s.base {
			g.toQueue(link.KindDeliveryAck, s, acked-s.base)
		}
	case e.ID > next:
		g.toQueue(link.KindExpect, s, next)
	default:
		s.written++
		s.unacked++
		s.tell(toClient{tag: stanza.TagMessage, raw: e.Payload})
	}
}

func (g *gateway) notLeader(s *session, e *link.Envelope) {
	switch {
	case !s.bound:
		g.close(s, stanza.ReasonUnavailable)
	case e.Charge > 0:
		g.refuse(s, e.ID, stanza.ReasonUnavailable)
	case e.ID > 0 && !e.Group.IsQueue():
		qe := stanza.QueryError{ID: e.ID, Reason: stanza.ReasonUnavailable}
		s.tell(toClient{tag: stanza.TagRefused, raw: qe.Append(nil), id: e.ID})
	}
}

func (g *gateway) refuse(s *session, id uint64, reason stanza.Reason) {
	r := stanza.Refused{ID: id, Reason: reason, RetryAfter: 1000}
	s.tell(toClient{tag: stanza.TagRefused, raw: r.Append(nil), id: id})
}

// close ends a session from this side.
func (g *gateway) close(s *session, reason stanza.Reason) {
	s.tell(toClient{tag: stanza.TagClose, reason: reason})
	g.forget(s)
}

// forget unbinds a session that has ended.
func (g *gateway) forget(s *session) {
	if g.sessions[s.slot] != s {
		return
	}
	delete(g.sessions, s.slot)
	if s.bound {
		g.send(&link.Envelope{Kind: link.KindUnbind, Group: g.w.dirOf(s.account), Account: s.account, Device: s.device, Slot: s.slot, Gen: 1, Serial: s.serial})
	}
}

// toQueue sends what concerns the session's attachment to the leader of its queue.
func (g *gateway) toQueue(kind link.Kind, s *session, number uint64) {
	g.send(&link.Envelope{Kind: kind, Group: g.w.queueOf(s.account), Account: s.account, Device: s.device, Slot: s.slot, Gen: 1, Epoch: s.epoch, ID: number})
}

// send sends e to the leader of its group; zero, or the reason why it is not on its way.
func (g *gateway) send(e *link.Envelope) stanza.Reason {
	r := g.routes[e.Group]
	if r.to == nil {
		return stanza.ReasonUnavailable
	}
	if err := r.to.Send(e); err != nil {
		if link.ReasonOf(err) == stanza.ReasonNoCredit {
			return stanza.ReasonBusy
		}
		return stanza.ReasonUnavailable
	}
	return 0
}

// fromClient is what a client sends.
type fromClient struct {
	env   link.Envelope // bind, register, message, query
	acked uint64        // deliveries handled
	end   bool          // the connection is closed
}

// hear takes what arrives from a session's client.
func (g *gateway) hear(s *session, m fromClient) {
	if g.dead || s.gw != g {
		return
	}
	if m.end {
		g.forget(s)
		s.dead = true
		return
	}
	if s.slot == 0 { // its first
		g.slots++
		s.slot = g.slots
		g.sessions[s.slot] = s
		s.account, s.device = m.env.Account, m.env.Device
		if r := g.routes[m.env.Group]; r != nil {
			s.asked = r.to
		}
	} else if g.sessions[s.slot] != s {
		return
	}
	if m.acked > 0 {
		s.unacked -= min(m.acked, s.unacked)
		if acked := s.written - s.unacked; acked > s.base {
			g.toQueue(link.KindDeliveryAck, s, acked-s.base)
		}
		return
	}
	m.env.Slot, m.env.Gen = s.slot, 1
	reason := g.send(&m.env)
	switch {
	case reason == 0:
	case !s.bound:
		g.close(s, reason)
	case m.env.Kind == link.KindMessage:
		g.refuse(s, m.env.ID, reason)
	default:
		qe := stanza.QueryError{ID: m.env.ID, Reason: reason}
		s.tell(toClient{tag: stanza.TagRefused, raw: qe.Append(nil), id: m.env.ID})
	}
}

// crash ends this run: its sessions are cut off, its links break.
func (g *gateway) crash() {
	g.w.mu.Lock()
	g.dead = true
	for _, s := range g.inOrder() {
		s.cut()
	}
	g.w.mu.Unlock()
	g.w.weather.kill(g.name)
	g.ep.Break()
	g.w.disconnect(g.name)
	g.w.note("%s: crashed", g.name)
}

// linger is how long a gateway takes to notice that a client has vanished.
const linger = 3 * time.Second
