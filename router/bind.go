package router

import (
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// noteUnchanged in place of the id noted before: this bind raised nothing, the record has it.
const noteUnchanged = ^uint64(0)

// bind starts to bind a session to a device. The serial is taken now, in the order of arrival: of two binds that wait for
// different things the later one must win, however they end. Every answer follows a commit or verified leadership, because a
// leader that was replaced would tell a device that was just linked never to come again.
func (m *dirShard) bind(gw *gateway, e *link.Envelope) {
	p := asked(wantBind, gw, e)
	p.serial = m.nextSerial()
	if !p.identity(e) {
		m.closeAsked(p, stanza.ReasonInternal)
		return
	}
	_, own, reason := m.checkBind(p)
	if reason == 0 && own.noted < p.id {
		m.propose(&command{op: opNote, account: p.account, device: p.device, id: p.id}, p)
		return
	}
	m.verify(p)
}

// identity takes the static key off a bind, or its hash when the session was resumed; false when it is not all there.
func (p *pending) identity(e *link.Envelope) bool {
	if p.resumed = e.Flags&link.FlagResumed != 0; p.resumed {
		return copy(p.hash[:], e.Payload) == len(p.hash)
	}
	return copy(p.key[:], e.Payload) == len(p.key)
}

// owns reports whether p comes from the device with this key.
func (p *pending) owns(key *[keySize]byte) bool {
	if p.resumed {
		return p.hash == wire.StaticHash(*key)
	}
	return p.key == *key
}

// nextSerial issues a serial, of a bind or an attachment: bigger than all of earlier terms, and than those of this term before it.
func (m *dirShard) nextSerial() link.Fence {
	m.serials++
	return link.MakeFence(m.term, m.serials)
}

// checkBind finds the device that p wants to be; reason is why it may not.
func (m *dirShard) checkBind(p *pending) (a *accountRecord, own *deviceRecord, reason stanza.Reason) {
	if !m.mine(p.account) {
		return nil, nil, stanza.ReasonInternal
	}
	if p.account.Region() != m.region {
		return nil, nil, stanza.ReasonForeignRegion
	}
	a, err := m.directory.account(p.account)
	switch {
	case err != nil:
		return nil, nil, stanza.ReasonUnavailable // the group is stopped
	case a == nil:
		return nil, nil, stanza.ReasonUnknownAccount
	}
	if own = a.device(p.device); own == nil {
		return nil, nil, stanza.ReasonUnlinked
	}
	if !p.owns(&own.key) {
		return nil, nil, stanza.ReasonBadKey
	}
	return a, own, 0
}

// mine reports whether a lives in this shard; 0, no account, lives nowhere but is looked up like any other.
func (m *dirShard) mine(a stanza.Account) bool {
	return a == 0 || stanza.ShardOf(a, m.shards) == m.id.Shard()
}

// finishBind binds p's session. It checks anew: the device may have been unlinked meanwhile.
func (m *dirShard) finishBind(p *pending, noted uint64) {
	a, own, reason := m.checkBind(p)
	if reason != 0 {
		m.closeAsked(p, reason)
		return
	}
	if noted == noteUnchanged {
		noted = own.noted
	}
	k := keyOf(p.account, p.device)
	old, bound := m.bindings.get(k)
	if bound && old.serial > p.serial {
		m.closeAsked(p, stanza.ReasonDisplaced)
		return
	}
	if p.gw.to == nil || !m.sendBound(p, a, own, noted) {
		return // the client's next try finds everything as before
	}
	if bound && !old.same(p.gw.index, p.slot, p.gen) {
		m.closeSession(k, old, stanza.ReasonDisplaced)
	}
	m.bindings.set(k, binding{serial: p.serial, gateway: p.gw.index, slot: p.slot, gen: p.gen})
	m.metrics.bindOK.Inc()
	m.countBindings()
	m.attach(k, 0, 0)
}

// sendBound sends the envelope with the key's hash, which the gateway seals into the session's ticket, and the ready stanza. It goes
// before the attachment, so that it reaches the gateway before deliveries do.
func (m *dirShard) sendBound(p *pending, a *accountRecord, own *deviceRecord, noted uint64) bool {
	bound := stanza.Bound{Account: p.account, Device: p.device, Version: a.version, Time: m.group.Stamp(),
		WindowIDs: uint32(m.cfg.WindowIDs), WindowBytes: uint32(m.cfg.WindowBytes), ID: noted}
	hash := wire.StaticHash(own.key)
	m.stanza = bound.Append(append(m.stanza[:0], hash[:]...))
	return m.send(p.gw.to, link.Envelope{Kind: link.KindBound, Group: m.id, Slot: p.slot, Gen: p.gen, Account: p.account,
		Device: p.device, Serial: p.serial, ID: noted, Payload: m.stanza})
}

// rebind takes in a session that was bound under an earlier leader, or before a stream was cut. The gateway vouches for its key; it
// keeps its serial, and of several claims the highest wins.
func (m *dirShard) rebind(gw *gateway, e *link.Envelope) {
	p := asked(wantRebind, gw, e)
	p.serial, p.epoch = e.Serial, e.Epoch
	if a, err := m.directory.account(p.account); err == nil && a != nil && a.device(p.device) != nil && m.mine(p.account) {
		m.claim(p)
		return
	}
	m.verify(p) // before a session is told that its device is gone
}

// finishRebind ends a re-bind whose device was not found at first.
func (m *dirShard) finishRebind(p *pending) {
	a, err := m.directory.account(p.account)
	switch {
	case err != nil:
		m.closeAsked(p, stanza.ReasonUnavailable)
	case !m.mine(p.account):
		m.closeAsked(p, stanza.ReasonInternal)
	case a == nil:
		m.closeAsked(p, stanza.ReasonUnknownAccount)
	case a.device(p.device) == nil:
		m.closeAsked(p, stanza.ReasonUnlinked)
	default:
		m.claim(p)
	}
}

// claim settles a re-bind against what the device has now.
func (m *dirShard) claim(p *pending) {
	k := keyOf(p.account, p.device)
	old, bound := m.bindings.get(k)
	same := bound && old.same(p.gw.index, p.slot, p.gen)
	other := bound && !same
	switch {
	case p.gw.to == nil:
		return
	case other && old.serial == p.serial && m.gateways.at(old.gateway).id.Succeeds(p.gw.id):
		return // said before the hand-over, and overtaken by what the new process says
	case other && m.movedFrom(&old, p):
		m.metrics.moved.Inc()
	case other && old.serial >= p.serial:
		m.closeAsked(p, stanza.ReasonDisplaced)
		return
	case other:
		m.closeSession(k, old, stanza.ReasonDisplaced)
	case same:
		p.serial = max(p.serial, old.serial)
	}
	m.bindings.set(k, binding{serial: p.serial, gateway: p.gw.index, slot: p.slot, gen: p.gen})
	m.metrics.rebound.Inc()
	m.countBindings()
	m.attach(k, p.epoch, p.id)
}

// movedFrom reports whether p is the session of b under another name. A serial is given out once, so that two claims with the same one
// are of one session: it was handed over to the next process of its gateway's line, or taken back in by the same one.
func (m *dirShard) movedFrom(b *binding, p *pending) bool {
	was := m.gateways.at(b.gateway)
	return b.serial == p.serial && (p.gw == was || p.gw.id.Succeeds(was.id))
}

// unbind forgets a session that ended, if the device is bound to exactly this one.
func (m *dirShard) unbind(gw *gateway, e *link.Envelope) {
	k := keyOf(e.Account, e.Device)
	b, ok := m.bindings.get(k)
	if !ok || !b.same(gw.index, e.Slot, e.Gen) {
		return
	}
	m.bindings.remove(k)
	m.countBindings()
	m.detach(k, b)
}

// note makes the highest id that a device has used durable. Nobody waits for it: the next one covers a lost one.
func (m *dirShard) note(e *link.Envelope) {
	a, err := m.directory.account(e.Account)
	if err != nil || a == nil {
		return
	}
	if own := a.device(e.Device); own == nil || own.noted >= e.ID {
		return
	}
	m.propose(&command{op: opNote, account: e.Account, device: e.Device, id: e.ID}, nil)
}

// owedClose is a close that found no credit. It is kept, because a session that lost its device and does not hear of it would wait
// for deliveries forever.
type owedClose struct {
	device    deviceKey
	gateway   link.GatewayID
	slot, gen uint32
	reason    stanza.Reason
	after     uint32
}

const maxOwedCloses = 4096

// closeSession closes a bound session, which is about to lose its binding.
func (m *dirShard) closeSession(k deviceKey, b binding, reason stanza.Reason) {
	gw := m.gateways.at(b.gateway)
	m.close(gw, owedClose{device: k, gateway: gw.id, slot: b.slot, gen: b.gen, reason: reason})
}

// closeAsked ends a session that asked to be bound and may not be.
func (m *dirShard) closeAsked(p *pending, reason stanza.Reason) {
	after := m.wait(reason)
	m.close(p.gw, owedClose{device: keyOf(p.account, p.device), gateway: p.gw.id, slot: p.slot, gen: p.gen, reason: reason, after: after})
}

// close sends a close now, or later when there is no credit. A gateway without a stream needs none: when it comes back it re-binds
// what it has, and the session loses then.
func (m *dirShard) close(gw *gateway, o owedClose) {
	if gw.to != nil && !m.sendClose(gw, &o) && len(m.closes) < maxOwedCloses {
		m.closes = append(m.closes, o)
	}
}

func (m *dirShard) sendClose(gw *gateway, o *owedClose) bool {
	return m.send(gw.to, link.Envelope{Kind: link.KindClose, Group: m.id, Slot: o.slot, Gen: o.gen, Account: o.device.account(),
		Device: o.device.device(), Reason: o.reason, RetryAfter: o.after})
}

func (m *dirShard) sendOwedCloses() {
	kept := m.closes[:0]
	for i := range m.closes {
		o := &m.closes[i]
		gw := m.gateways.byID[o.gateway]
		if gw != nil && gw.to != nil && !m.sendClose(gw, o) {
			kept = append(kept, *o)
		}
	}
	if m.closes = kept; len(kept) == 0 {
		m.closes = nil
	}
}

func (m *dirShard) countBindings() { m.metrics.bindings.Set(float64(m.bindings.len())) }

// clientKey splits a static key off a payload.
func clientKey(payload []byte) (key [keySize]byte, rest []byte, ok bool) {
	if len(payload) < keySize {
		return key, nil, false
	}
	return [keySize]byte(payload[:keySize]), payload[keySize:], true
}
