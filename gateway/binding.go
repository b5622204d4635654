package gateway

import (
	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// request is what message 3 asks for.
type request struct {
	kind     link.Kind // bind or register
	group    stanza.Group
	account  stanza.Account
	device   stanza.Device
	id       uint64
	interval uint32
	resumed  bool // by a ticket, which says the hash of the static key, and when that was proved
	hash     [wire.HashSize]byte
	proved   int64
	handle   string // folded; of a registration
	invite   []byte
	raw      []byte // the stanza
}

// claim is a registration with an invite, which is redeemed only if the directory would not have the registration without: a handle
// that the key owns already, or that is another's, costs none. In loop.claims until bound, at most until the handshake's deadline.
type claim struct {
	group    stanza.Group
	static   [wire.KeySize]byte
	id       uint64
	handle   string
	invite   string
	raw      []byte
	redeemed bool // or being redeemed
}

// parseRequest reads the payload of message 3: exactly one stanza, bind or register.
func (g *Gateway) parseRequest(payload []byte) (r request, reason stanza.Reason) {
	v, rest, err := stanza.Decode(payload)
	if err != nil || len(rest) != 0 {
		return r, stanza.ReasonBadStanza
	}
	if v.Has(stanza.AttrFrom) {
		return r, stanza.ReasonForbidden // as in a session
	}
	switch v.Tag {
	case stanza.TagBind:
		b, err := stanza.ParseBind(v)
		if err != nil {
			return r, stanza.ReasonBadStanza
		}
		return request{kind: link.KindBind, group: g.dirOf(b.Account), account: b.Account, device: b.Device, id: b.ID, interval: b.Interval}, 0
	case stanza.TagRegister:
		b, err := stanza.ParseRegister(v)
		if err != nil {
			return r, stanza.ReasonBadStanza
		}
		handle, err := stanza.FoldHandle(b.Handle)
		if err != nil {
			return r, stanza.ReasonBadHandle
		}
		group := stanza.DirGroup(stanza.HandleShard(handle, g.shards))
		return request{kind: link.KindRegister, group: group, id: b.ID, interval: b.Interval, handle: handle, invite: b.Invite, raw: v.Raw()}, 0
	}
	return r, stanza.ReasonBadStanza
}

// admit makes a session of a finished handshake and asks a router to bind it, unless there is a reason against the request already. gnet.Close:
// the connection is to be closed.
func (l *loop) admit(h *handshake, f *wire.Finish, r *request, reason stanza.Reason) gnet.Action {
	retryAfter := uint32(0)
	switch {
	case reason != 0:
	case h.conn.InboundBuffered() > 0:
		reason = stanza.ReasonEarlyData
	case l.g.draining.Load():
		reason, retryAfter = stanza.ReasonDraining, l.g.farewell()
	case r.kind == link.KindRegister && !l.g.sources.registrations.allow(h.source, l.g.tickNow()):
		reason, retryAfter = stanza.ReasonBusy, jitter(l.g.cfg.RetryAfter.D())
	}
	if reason != 0 {
		return l.turnAwaySealed(h, f, reason, retryAfter)
	}
	s, gen := l.newSession(h, f, r)
	if s == nil {
		return l.turnAwaySealed(h, f, stanza.ReasonWorkerFull, 0)
	}
	l.ask(s, gen, f.Static, r)
	return gnet.None
}

// newSession moves a connection from its handshake to a slot; nil when there is none.
func (l *loop) newSession(h *handshake, f *wire.Finish, r *request) (*session, uint32) {
	slot, gen, s, ok := l.slots.Alloc()
	if !ok {
		return nil, 0
	}
	s.rx, s.tx = f.RX, f.TX
	s.self = l.idx<<slotBits | slot
	s.state = stateBinding
	s.account, s.device = r.account, uint16(r.device)
	s.base = uint32(r.group)
	s.send, s.lookups, s.tokenTime = uint16(l.g.cfg.SendBurst), uint8(l.g.cfg.LookupBurst), uint16(l.tick)
	if r.resumed {
		s.rxNonce, s.flags = 1, flagResumed // its bind was a frame
		s.serial = link.Fence(r.proved)
	}
	s.lastSeen = l.sec16()
	s.setInterval(uint64(r.interval), l.g.cfg.DefaultPing.D())
	l.setConn(slot, h.conn)
	l.endEarly(h)
	h.conn.SetContext(s)
	forgetAddresses(h.conn)
	left := int64(l.g.handshakeTicks) - int64(l.tick-h.opened)
	l.idle.Arm(slot, gen, int(max(left/int64(ticksPerSecond), 1)))
	return s, gen
}

// ask sends the request to the leader of its group.
func (l *loop) ask(s *session, gen uint32, static [wire.KeySize]byte, r *request) {
	e := link.Envelope{Kind: r.kind, Group: r.group, Slot: s.self, Gen: gen, ID: r.id, Account: r.account, Device: r.device}
	if r.resumed {
		e.Flags, e.Payload = link.FlagResumed, append([]byte(nil), r.hash[:]...)
	} else {
		e.Payload = append(static[:len(static):len(static)], r.raw...)
	}
	if r.kind == link.KindRegister && r.invite != nil {
		l.claims[s.slot()] = &claim{group: r.group, static: static, id: r.id, handle: r.handle, invite: string(r.invite), raw: append([]byte(nil), r.raw...)}
	}
	l.askRouter(s, &e)
}

// askRouter sends a binding session's request; a session whose request cannot be sent is closed.
func (l *loop) askRouter(s *session, e *link.Envelope) {
	if r := l.g.routeOf(e.Group); r != nil {
		if stream := r.stream.Load(); stream != nil {
			s.written = uint32(stream.ID())
		}
	}
	if reason := l.g.sendHard(e); reason != 0 {
		l.closeRetry(s, reason)
	}
}

// redeem uses the invite of a session that may not register without; false if it has none, or has used it.
func (l *loop) redeem(s *session, gen uint32) bool {
	c := l.claims[s.slot()]
	if c == nil || c.redeemed || s.state != stateBinding {
		return false
	}
	c.redeemed = true
	payload := append(c.static[:len(c.static):len(c.static)], byte(len(c.handle)))
	payload = append(append(payload, c.handle...), c.invite...)
	l.askRouter(s, &link.Envelope{
		Kind: link.KindRedeem, Group: stanza.DirGroup(stanza.HandleShard(c.invite, l.g.shards)), Slot: s.self, Gen: gen, Payload: payload,
	})
	return true
}

// redeemed goes on with a registration whose invite was looked at.
func (l *loop) redeemed(s *session, e *link.Envelope) {
	c := l.claims[s.slot()]
	if c == nil || s.state != stateBinding {
		return
	}
	if e.Reason != 0 {
		l.closeSession(s, e.Reason, e.RetryAfter)
		return
	}
	l.askRouter(s, &link.Envelope{
		Kind: link.KindRegister, Flags: link.FlagInvited, Group: c.group, Slot: s.self, Gen: e.Gen, ID: c.id,
		Payload: append(c.static[:len(c.static):len(c.static)], c.raw...),
	})
}

// bound establishes the session: from here on the client may send.
func (l *loop) bound(s *session, e *link.Envelope) {
	if len(e.Payload) < wire.HashSize {
		l.g.metrics.drops.Inc(stanza.ReasonInternal)
		return
	}
	if s.state != stateBinding {
		s.serial = max(s.serial, e.Serial) // asked twice: the newer claim is the one that counts
		return
	}
	s.state = stateBound
	delete(l.claims, s.slot())
	proved := int64(s.serial)
	s.account, s.device, s.serial = e.Account, uint16(e.Device), e.Serial
	s.noted = uint16(e.ID >> noteShift)
	s.base, s.written = 0, 0
	s.lastSeen = l.sec16()
	l.g.metrics.sessions.Inc()
	if s.flags&flagResumed != 0 {
		l.g.metrics.resumed.Inc()
	} else {
		l.g.metrics.handshakesOK.Inc()
	}
	l.relayBound(s, [wire.HashSize]byte(e.Payload), proved, e.Payload[wire.HashSize:])
	if s.epoch != 0 { // a delivery overtook this
		l.sendExpect(s, 1)
	}
}

// turnAwaySealed ends a connection that has keys but no slot: gnet.Close says that it is to be closed.
func (l *loop) turnAwaySealed(h *handshake, f *wire.Finish, reason stanza.Reason, retryAfter uint32) gnet.Action {
	c := stanza.Close{Reason: reason, RetryAfter: retryAfter}
	l.endEarly(h)
	l.g.refused(reason, 0, 0)
	l.scratch = c.Append(append(l.scratch[:0], 0)) // flags, close
	l.out = l.sealer.AppendSealedFrame(l.out[:0], &f.TX, 0, l.scratch)
	if _, err := h.conn.Write(l.out); err != nil {
		return gnet.None // closed already
	}
	return gnet.Close
}

// handshakeClosed forgets a connection that has ended before message 3.
func (l *loop) handshakeClosed(h *handshake) {
	if h.gone {
		return
	}
	l.endEarly(h)
	if h.check {
		l.g.metrics.checks.Inc()
		return
	}
	l.g.refused(stanza.ReasonPeerClosed, 0, 0)
}
