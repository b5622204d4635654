package router

import (
	"errors"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// message checks a message or read receipt and hands it to the leader of the recipient's queues. What passes costs no allocation:
// the account is decoded in place of the last one, the stanza is read in place, the envelope goes on with another kind and group.
func (m *dirShard) message(gw *gateway, e *link.Envelope) {
	v, rest, err := stanza.Decode(e.Payload)
	if err != nil || len(rest) != 0 {
		m.refuse(gw, e, stanza.ReasonInternal) // the gateway has checked it: one of us is broken
		return
	}
	switch v.Tag {
	case stanza.TagMessage:
		m.deliverMessage(gw, e, v)
	case stanza.TagRead:
		m.deliverRead(gw, e, v)
	default:
		m.refuse(gw, e, stanza.ReasonForbidden)
	}
}

func (m *dirShard) deliverMessage(gw *gateway, e *link.Envelope, v stanza.View) {
	msg, err := stanza.ParseMessageUp(v)
	if err != nil {
		m.refuse(gw, e, stanza.ReasonInternal)
		return
	}
	if msg.Account.Region() != m.region {
		if _, err := stanza.ValidCiphers(msg.Body); err != nil {
			m.refuse(gw, e, stanza.ReasonForbidden)
			return
		}
		m.deliverAbroad(gw, e, msg.Account)
		return
	}
	a := m.recipient(gw, e, msg.Account)
	if a == nil {
		return
	}
	except := stanza.Device(0)
	if msg.Account == e.Account {
		except = e.Device
		if len(a.devices) == 1 && a.devices[0].number == e.Device {
			m.refuse(gw, e, stanza.ReasonForbidden)
			return
		}
	}
	if current, err := a.takes(msg.Body, except); err != nil {
		m.refuse(gw, e, stanza.ReasonForbidden)
		return
	} else if !current || msg.Version != a.version {
		m.refuseStale(gw, e, a)
		return
	}
	if m.allowed(gw, e, msg.Account) {
		m.store(gw, e)
	}
}

// takes reports whether body has a ciphertext for exactly a's devices but except. The error says that body is malformed.
func (a *accountRecord) takes(body []byte, except stanza.Device) (bool, error) {
	next, current := 0, true
	last := stanza.Device(0)
	for n := 0; len(body) > 0; n++ {
		d, _, rest, err := stanza.NextCipher(body)
		if err != nil {
			return false, err
		}
		if d <= last || n >= stanza.MaxDevices {
			return false, stanza.ErrStanza
		}
		last, body = d, rest
		if next < len(a.devices) && a.devices[next].number == except {
			next++
		}
		if next >= len(a.devices) || a.devices[next].number != d {
			current = false
			continue
		}
		next++
	}
	if next < len(a.devices) && a.devices[next].number == except {
		next++
	}
	return current && next == len(a.devices), nil
}

func (m *dirShard) deliverRead(gw *gateway, e *link.Envelope, v stanza.View) {
	read, err := stanza.ParseReadUp(v)
	if err != nil {
		m.refuse(gw, e, stanza.ReasonInternal)
		return
	}
	if read.Account.Region() != m.region {
		m.deliverAbroad(gw, e, read.Account)
		return
	}
	a := m.recipient(gw, e, read.Account)
	if a == nil {
		return
	}
	if a.device(read.Device) == nil {
		m.refuse(gw, e, stanza.ReasonForbidden)
		return
	}
	if m.allowed(gw, e, read.Account) {
		m.store(gw, e)
	}
}

// recipient returns the account that e is for, nil when it has been answered. That there is no such account is final for the
// message, so it is said under verified leadership only.
func (m *dirShard) recipient(gw *gateway, e *link.Envelope, to stanza.Account) *accountRecord {
	if !m.mine(to) {
		m.refuse(gw, e, stanza.ReasonInternal)
		return nil
	}
	a, err := m.directory.account(to)
	if err != nil {
		m.refuse(gw, e, stanza.ReasonUnavailable) // the group is stopped
		return nil
	}
	if a == nil || len(a.devices) == 0 {
		p := asked(wantMessage, gw, e)
		p.about = to
		m.verify(p)
		return nil
	}
	return a
}

// finishUnknown answers a message whose recipient was not found. If it is there now, the client sends again.
func (m *dirShard) finishUnknown(p *pending) {
	reason := stanza.ReasonUnknownAccount
	if a, err := m.directory.account(p.about); err != nil {
		reason = stanza.ReasonUnavailable
	} else if a != nil && len(a.devices) > 0 {
		reason = stanza.ReasonRetry
	}
	m.refuse(p.gw, p.message(m.id), reason)
}

// allowed takes a token for (sender, recipient) unless the recipient has written to the sender before.
func (m *dirShard) allowed(gw *gateway, e *link.Envelope, to stanza.Account) bool {
	if to == e.Account || m.contacts.has(to, e.Account) {
		return true
	}
	wait, ok := m.strangers.take(uint64(e.Account), uint64(to), m.clock)
	if !ok {
		m.refuseFor(gw, e, stanza.ReasonBusy, uint32(wait/time.Millisecond))
	}
	return ok
}

// store hands e on to the queue's leader, which answers the gateway itself.
func (m *dirShard) store(gw *gateway, e *link.Envelope) {
	m.out = *e
	m.out.Kind = link.KindStore
	m.handOn(gw, e)
}

// handOn sends m.out, made of e, to the queue's leader, which answers gw itself, or refuses e.
func (m *dirShard) handOn(gw *gateway, e *link.Envelope) {
	if m.route.to == nil {
		m.refuse(gw, e, stanza.ReasonUnavailable)
		return
	}
	m.out.Group, m.out.Gateway = m.queue, gw.id
	switch err := m.route.to.Send(&m.out); {
	case err == nil:
		m.metrics.forwarded.Inc()
	case errors.Is(err, link.ErrNoCredit):
		m.refuse(gw, e, stanza.ReasonBusy)
	default:
		m.refuse(gw, e, stanza.ReasonUnavailable)
	}
}

// refuse answers a message. Where the reason asks for it the client is told to wait the configured time.
func (m *dirShard) refuse(gw *gateway, e *link.Envelope, reason stanza.Reason) {
	m.refuseFor(gw, e, reason, m.wait(reason))
}

// wait returns how long a client is told to wait after a refusal or close, in ms.
func (m *dirShard) wait(reason stanza.Reason) uint32 {
	switch {
	case reason == stanza.ReasonStorageFull:
		return uint32(m.cfg.FullRetryAfter.D().Milliseconds())
	case reason.Retry() == stanza.RetryLater:
		return m.retryAfter
	}
	return 0
}

func (m *dirShard) refuseFor(gw *gateway, e *link.Envelope, reason stanza.Reason, after uint32) {
	r := stanza.Refused{ID: e.ID, Reason: reason, RetryAfter: after}
	m.sendRefused(gw, e, &r)
}

// refuseStale sends the current device list along, so that the client can encrypt again and resend at once.
func (m *dirShard) refuseStale(gw *gateway, e *link.Envelope, a *accountRecord) {
	r := stanza.Refused{ID: e.ID, Reason: stanza.ReasonStaleDevices, Version: a.version, Devices: m.deviceList(a)}
	m.sendRefused(gw, e, &r)
}

func (m *dirShard) sendRefused(gw *gateway, e *link.Envelope, r *stanza.Refused) {
	m.metrics.refusals.Inc(r.Reason)
	m.metrics.lines.Write("message refused", r.Reason, e.Account, e.Device)
	m.stanza = r.Append(m.stanza[:0])
	m.send(gw.to, link.Envelope{Kind: link.KindRefused, Group: m.id, Slot: e.Slot, Gen: e.Gen, Account: e.Account, Device: e.Device,
		ID: e.ID, Charge: e.Charge, Reason: r.Reason, RetryAfter: r.RetryAfter, Payload: m.stanza})
}

// deviceList encodes a's devices; the list is the shard's, valid until the next call.
func (m *dirShard) deviceList(a *accountRecord) stanza.DeviceList {
	m.keys = m.keys[:0]
	for i := range a.devices {
		m.keys = append(m.keys, stanza.DeviceKey{Device: a.devices[i].number, Key: a.devices[i].key})
	}
	if m.devices == nil {
		m.devices = make([]byte, 0, 64)
	}
	m.devices = stanza.AppendDevices(m.devices[:0], m.keys)
	return stanza.DeviceList{List: m.devices}
}
