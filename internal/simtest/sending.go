package simtest

import (
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

// write numbers a message and tries to send it. The outbox is bounded, as an application's would be.
func (d *device) write(to *account) {
	if len(d.out) >= 4*window || d.label == "" || to.number == 0 {
		return
	}
	d.counter++
	d.out = append(d.out, &message{id: d.counter, to: to})
	d.w.hist.Sent(d.stream(to), d.counter)
	d.transmit()
}

// transmit sends what may be sent: in the order of ids, within the window, of a stream that the server may not know one message alone.
func (d *device) transmit() {
	if !d.bound {
		return
	}
	flying := 0
	for _, m := range d.out {
		if m.flying {
			flying++
		}
	}
	before := map[*account]*message{} // the last unacked of the stream
	held := map[*account]bool{}
	now := time.Now()
	for _, m := range d.out {
		if now.Before(m.passedOver) {
			continue
		}
		s, last := d.sending(m.to), before[m.to]
		before[m.to] = m
		if m.flying || held[m.to] {
			continue
		}
		if flying >= window || now.Before(s.pause) || (!s.known && last != nil) {
			held[m.to] = true
			continue
		}
		after := uint64(0)
		if last != nil {
			after = last.id
		}
		d.send(m, after)
		flying++
	}
}

func (d *device) send(m *message, after uint64) {
	l := d.list(m.to)
	var body []byte
	for _, n := range l.devices {
		body = stanza.AppendCipher(body, n, []byte(bodyOf(d.label, m.id)))
	}
	up := stanza.MessageUp{ID: m.id, After: after, Account: m.to.number, Version: l.version, Body: body}
	raw := up.Append(nil)
	m.flying, m.sent = true, time.Now()
	d.conn.say(fromClient{env: link.Envelope{Kind: link.KindMessage, Group: d.w.dirOf(m.to.number), Account: d.acc.number, Device: d.number,
		ID: m.id, Charge: uint32(len(raw)), Payload: raw}})
}

// list is what the device believes of an account's devices; a refusal corrects it.
func (d *device) list(a *account) *deviceList {
	l := d.lists[a]
	if l == nil {
		l = &deviceList{version: 1, devices: []stanza.Device{1}}
		d.lists[a] = l
	}
	return l
}

func (d *device) acked(id uint64) {
	for i, m := range d.out {
		if m.id == id {
			d.out = append(d.out[:i:i], d.out[i+1:]...)
			d.sending(m.to).known = true
			d.w.hist.Acked(d.stream(m.to), id)
			d.w.note("%s: %d acked", d.label, id)
			break
		}
	}
	d.transmit()
}

// again has everything unacked of a stream sent once more, in order, after a pause: what was refused goes before what is behind it.
func (d *device) again(to *account, pause time.Duration) {
	for _, m := range d.out {
		if m.to == to {
			m.flying = false
		}
	}
	s := d.sending(to)
	s.pause = time.Now().Add(pause)
	d.w.after(pause+1, d.transmit)
}

// answer takes a refusal, or the answer to a query.
func (d *device) answer(raw []byte) {
	v, _, err := stanza.Decode(raw)
	switch {
	case err != nil:
	case v.Tag == stanza.TagRefused:
		var r stanza.Refused
		if r, err = stanza.ParseRefused(v); err == nil {
			d.refused(&r)
		}
	case v.Tag == stanza.TagResult:
		var r stanza.Result
		if r, err = stanza.ParseResult(v); err == nil {
			d.answered(r.ID, func(q *question) { q.then(r) })
		}
	default:
		var r stanza.QueryError
		if r, err = stanza.ParseQueryError(v); err == nil {
			d.answered(r.ID, func(q *question) { d.failed(q, &r) })
		}
	}
	if err != nil {
		d.w.hist.Fault("%s got what is no answer: %v", d.label, err)
	}
}

func (d *device) refused(r *stanza.Refused) {
	var m *message
	at := 0
	for i, x := range d.out {
		if x.id == r.ID {
			m, at = x, i
		}
	}
	if m == nil {
		return // acked in the meantime
	}
	d.w.note("%s: %d refused, %v", d.label, r.ID, r.Reason)
	switch {
	case r.Reason.Final():
		d.out = append(d.out[:at:at], d.out[at+1:]...)
		d.w.hist.Failed(d.stream(m.to), m.id)
		d.again(m.to, 0)
	case r.Reason == stanza.ReasonStaleDevices:
		d.learn(m.to, r)
		d.again(m.to, 0)
	default:
		pause := max(time.Duration(r.RetryAfter)*time.Millisecond/2, 50*time.Millisecond)
		if planted.On(planted.LaterIDFirst) {
			m.flying, m.passedOver = false, time.Now().Add(pause)
			d.w.after(pause+1, d.transmit)
			return
		}
		d.again(m.to, pause)
	}
}

func (d *device) learn(to *account, r *stanza.Refused) {
	keys, err := r.Devices.Keys(nil)
	if err != nil || r.Version == 0 {
		d.w.hist.Fault("%s was told of devices of %s: version %d, %v", d.label, to.handle, r.Version, err)
		return
	}
	l := &deviceList{version: r.Version}
	for _, k := range keys {
		if to != d.acc || k.Device != d.number {
			l.devices = append(l.devices, k.Device)
		}
	}
	d.lists[to] = l
}

// ask sends a query until it is decided. It must mean the same when it comes twice.
func (d *device) ask(group stanza.Group, q stanza.Query, then func(stanza.Result), not func(stanza.Reason)) {
	again := func() { d.w.after(200*time.Millisecond, func() { d.ask(group, q, then, not) }) }
	if d.w.ended {
		return
	}
	if !d.bound {
		again()
		return
	}
	d.asked++
	q.ID = d.asked
	x := &question{at: time.Now(), again: again, then: then, not: not}
	d.asking[q.ID] = x
	d.conn.say(fromClient{env: link.Envelope{Kind: link.KindQuery, Group: group, Account: d.acc.number, Device: d.number, ID: q.ID, Payload: q.Append(nil)}})
	d.w.after(queryLimit, func() { d.answered(q.ID, func(q *question) { q.again() }) })
}

func (d *device) answered(id uint64, f func(*question)) {
	if q := d.asking[id]; q != nil {
		delete(d.asking, id)
		f(q)
	}
}

func (d *device) failed(q *question, r *stanza.QueryError) {
	switch r.Reason {
	case stanza.ReasonUnavailable, stanza.ReasonBusy, stanza.ReasonRetry:
		q.again()
	default:
		q.not(r.Reason)
	}
}

// look is a client's timer: what has had no answer for long goes again.
func (d *device) look() {
	now := time.Now()
	for _, m := range d.out {
		if m.flying && now.Sub(m.sent) > resendAfter<<min(m.resends, 2) {
			m.resends++
			d.again(m.to, 0)
		}
	}
	if !d.w.ended {
		d.w.after(time.Second, d.look)
	}
}
