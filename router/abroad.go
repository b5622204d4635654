package router

import (
	"errors"
	"strconv"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// Accounts of other regions have their directory there. What is said to them goes to the queue that this shard has for them; what is
// asked about them goes to a border. What comes from there comes through a border, too, which has checked for whom its region speaks.

// border is a border's stream and the regions that can be reached through it, a bit each.
type border struct {
	gateway // answers to what comes from there go like those to a gateway; it binds no session
	reach   uint64
}

// knows reports whether this region has a link to r by its configuration, up or not.
func (m *dirShard) knows(r stanza.Region) bool { return m.regions&(1<<r) != 0 }

// borderTo returns a stream to a border that reaches r, nil if there is none now.
func (m *dirShard) borderTo(r stanza.Region) sender {
	for _, b := range m.borders {
		if b.reach&(1<<r) != 0 {
			return b.to
		}
	}
	return nil
}

// deliverAbroad hands a message or read receipt for an account of another region to this region's queue for it. Its home checks the
// device list: it may be hours until it gets there.
func (m *dirShard) deliverAbroad(gw *gateway, e *link.Envelope, to stanza.Account) {
	switch {
	case !m.mine(to):
		m.refuse(gw, e, stanza.ReasonInternal)
	case !m.knows(to.Region()):
		m.refuse(gw, e, stanza.ReasonForeignRegion)
	case m.allowed(gw, e, to):
		m.store(gw, e)
	}
}

// fromBorder handles what comes from another region, and answers to what went there.
func (m *dirShard) fromBorder(p *peer, e *link.Envelope) {
	switch e.Kind {
	case link.KindForward:
		m.forwarded(p.border, e)
	case link.KindQuery:
		m.query(&p.border.gateway, e)
	case link.KindResult:
		gw := m.gateways.byID[e.Gateway]
		if gw == nil {
			m.metrics.drops.Inc(stanza.ReasonGone)
			return
		}
		m.send(gw.to, *e)
	}
}

// forwarded checks a message or read receipt from another region and hands it on to the recipient's queue, like message. It was acked
// to its sender: for another device list it is not refused but goes to those devices that are in both, and the sender is told.
func (m *dirShard) forwarded(b *border, e *link.Envelope) {
	gw := &b.gateway
	v, rest, err := stanza.Decode(e.Payload)
	to, reason := stanza.Account(0), stanza.ReasonForbidden
	var msg stanza.MessageUp
	var read stanza.ReadUp
	if err == nil && len(rest) == 0 {
		switch v.Tag {
		case stanza.TagMessage:
			if msg, err = stanza.ParseMessageUp(v); err == nil {
				to, reason = msg.Account, 0
			}
		case stanza.TagRead:
			if read, err = stanza.ParseReadUp(v); err == nil {
				to, reason = read.Account, 0
			}
		}
	}
	if reason != 0 || to.Region() != m.region || e.Account.Region() == m.region {
		m.refuse(gw, e, stanza.ReasonForbidden)
		return
	}
	a := m.recipient(gw, e, to)
	if a == nil {
		return
	}
	stale, sent := false, e.Payload
	if v.Tag == stanza.TagRead {
		if a.device(read.Device) == nil {
			m.refuse(gw, e, stanza.ReasonForbidden)
			return
		}
	} else if stale, sent, reason = m.fit(a, &msg, e.Payload); reason != 0 {
		m.refuse(gw, e, reason)
		return
	}
	if !m.allowed(gw, e, to) {
		return
	}
	m.pass(gw, e, sent, stale)
}

// fit makes a message one for a's devices. stale says that it was not, and then sent is another stanza; reason, that none is left.
func (m *dirShard) fit(a *accountRecord, msg *stanza.MessageUp, whole []byte) (stale bool, sent []byte, reason stanza.Reason) {
	current, err := a.takes(msg.Body, 0)
	switch {
	case err != nil:
		return false, nil, stanza.ReasonForbidden
	case current && msg.Version == a.version:
		return false, whole, 0
	}
	kept := make([]byte, 0, len(msg.Body))
	for body := msg.Body; len(body) > 0; {
		d, cipher, rest, err := stanza.NextCipher(body)
		if err != nil {
			return false, nil, stanza.ReasonForbidden
		}
		if a.device(d) != nil {
			kept = stanza.AppendCipher(kept, d, cipher)
		}
		body = rest
	}
	if len(kept) == 0 {
		return true, nil, stanza.ReasonStaleDevices
	}
	fitting := *msg
	fitting.Version, fitting.Body = a.version, kept
	return true, fitting.Append(nil), 0
}

// pass hands e on to the queue's leader, which answers the border itself.
func (m *dirShard) pass(gw *gateway, e *link.Envelope, sent []byte, stale bool) {
	m.out = *e
	m.out.Payload, m.out.Flags = sent, 0
	if stale {
		m.out.Flags = link.FlagStale
	}
	m.handOn(gw, e)
}

// queryAbroad sends a question about another region there. The border answers when nobody else does.
func (m *dirShard) queryAbroad(p *pending, e *link.Envelope, r stanza.Region) {
	if p.gw.abroad {
		m.queryError(p, stanza.ReasonForbidden, 0) // it comes from there: nothing goes through a region
		return
	}
	if !m.knows(r) {
		m.queryError(p, stanza.ReasonForeignRegion, 0)
		return
	}
	if !m.mayAsk(p) {
		return
	}
	to := m.borderTo(r)
	if to == nil {
		m.queryError(p, stanza.ReasonUnavailable, m.retryAfter)
		return
	}
	out := *e
	out.Group, out.Gateway = m.id, p.gw.id
	switch err := to.Send(&out); {
	case errors.Is(err, link.ErrNoCredit):
		m.queryError(p, stanza.ReasonBusy, m.retryAfter)
	case err != nil:
		m.queryError(p, stanza.ReasonUnavailable, m.retryAfter)
	}
}

// regionsOf notes what a border reaches.
func (m *dirShard) regionsOf(p *peer, reach uint64) {
	if p.border != nil {
		p.border.reach = reach
	}
}

// suffix is what a name of r has behind it.
func suffix(r stanza.Region) string { return "@" + strconv.Itoa(int(r)) }
