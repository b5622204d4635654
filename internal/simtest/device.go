package simtest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"linecard.example/internal/history"
	"linecard.example/internal/link"
	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

// account is an account as the simulation knows it from outside.
type account struct {
	handle  string
	number  stanza.Account // 0: not registered yet
	devices []*device
}

// device is a model client by design/delivery.md. What it must not forget stays when its connection ends. Under World.mu.
type device struct {
	w      *World
	acc    *account
	label  string // account/number; empty: neither registered nor linked yet
	number stanza.Device
	key    [32]byte
	rnd    *rand.Rand
	judged bool // it was there before the first message: everything that is acked must reach it

	// Durable.
	counter uint64
	out     []*message
	seen    map[sender]uint64

	// Of a run.
	conn    *session // nil: none
	bound   bool
	tries   int
	streams map[string]*stream
	lists   map[*account]*deviceList
	asking  map[uint64]*question
	asked   uint64
	busy    bool   // will do something soon
	unacked uint64 // deliveries that the gateway has not been told of
}

type sender struct {
	account stanza.Account
	device  stanza.Device
}

// message is one that is not acked.
type message struct {
	id      uint64
	to      *account
	flying  bool // sent on this connection, not answered
	sent    time.Time
	resends int

	passedOver time.Time // a planted bug, and zero
}

// stream is what the device keeps about the messages to one account.
type stream struct {
	known bool      // the server remembers it: more than one may be under way
	pause time.Time // nothing is sent before
}

type deviceList struct {
	version uint64
	devices []stanza.Device
}

// question is a query under way.
type question struct {
	at    time.Time
	again func() // after an answer that decides nothing, or none
	then  func(stanza.Result)
	not   func(stanza.Reason)
}

// window is how many messages may be unanswered.
const window = 16

func newDevice(w *World, acc *account, n int) *device {
	d := &device{w: w, acc: acc, seen: map[sender]uint64{}, rnd: w.source(fmt.Sprintf("%s %d", acc.handle, n))}
	for i := range d.key {
		d.key[i] = byte(d.rnd.Uint32())
	}
	d.forget()
	acc.devices = append(acc.devices, d)
	return d
}

// forget is what a restart of the application leaves behind.
func (d *device) forget() {
	d.streams, d.lists, d.asking = map[string]*stream{}, map[*account]*deviceList{}, map[uint64]*question{}
	for _, m := range d.out {
		m.flying = false
	}
}

// named is what the directory has told the device that it is.
func (d *device) named(number stanza.Device) {
	if d.label == "" {
		d.number = number
		d.label = fmt.Sprintf("%s/%d", d.acc.handle, number)
	}
}

// stream names the messages to an account. Copies for the other devices of the own one are a stream that these alone receive.
func (d *device) stream(to *account) history.Stream {
	if to == d.acc {
		return history.Stream{From: d.label, To: "copies of " + d.label}
	}
	return history.Stream{From: d.label, To: to.handle}
}

func (d *device) sending(to *account) *stream {
	s := d.streams[to.handle]
	if s == nil {
		s = &stream{}
		d.streams[to.handle] = s
	}
	return s
}

// connect opens a connection to some gateway and asks to be bound, or to be registered.
func (d *device) connect() {
	if d.conn != nil || d.w.ended {
		return
	}
	g := d.w.anyGateway(d.rnd)
	if g == nil {
		d.later()
		return
	}
	d.bound = false
	d.conn = &session{w: d.w, d: d, gw: g, up: pipe{rnd: d.rnd}, down: pipe{rnd: d.rnd}}
	e := link.Envelope{Kind: link.KindBind, Group: d.w.dirOf(d.acc.number), Account: d.acc.number, Device: d.number, ID: d.counter, Payload: d.key[:]}
	if d.acc.number == 0 {
		r := stanza.Register{Handle: []byte(d.acc.handle)}
		e = link.Envelope{Kind: link.KindRegister, Group: d.w.handleDir(d.acc.handle), Payload: r.Append(append([]byte(nil), d.key[:]...))}
	}
	s := d.conn
	s.say(fromClient{env: e})
	d.w.after(handshakeLimit, func() {
		if d.conn == s && !d.bound {
			d.hangUp(true)
		}
	})
}

// Times of a client.
const (
	handshakeLimit = 5 * time.Second
	resendAfter    = 5 * time.Second
	queryLimit     = 5 * time.Second
)

// lost is the end of the connection, from whichever side.
func (d *device) lost() {
	d.conn, d.bound, d.unacked = nil, false, 0
	for _, m := range d.out {
		m.flying = false
	}
	d.later()
}

func (d *device) later() {
	d.tries++
	wait := min(100*time.Millisecond<<min(d.tries, 5), 2*time.Second)
	d.w.after(time.Duration(d.rnd.Int64N(int64(wait)))+time.Millisecond, d.connect)
}

// hangUp ends the connection from this side.
func (d *device) hangUp(quiet bool) {
	if s := d.conn; s != nil {
		s.leave(quiet)
		d.lost()
	}
}

// hear takes what arrives from the gateway.
func (d *device) hear(m toClient) {
	switch m.tag {
	case stanza.TagBound:
		d.bound, d.tries = true, 0
		d.acc.number = stanza.Account(m.id)
		d.named(m.device)
		d.w.note("%s: bound at %s", d.label, d.conn.gw.name)
		d.transmit()
	case stanza.TagClose:
		d.closed(m.reason)
	case stanza.TagRetry:
		for _, m := range d.out {
			m.flying = false
		}
		d.transmit()
	case stanza.TagAck:
		d.acked(m.id)
	case stanza.TagMessage:
		d.deliver(m.raw)
	case stanza.TagRefused:
		d.answer(m.raw)
	}
}

// closed is the server's end of the connection. A device that was registered or linked, and never unlinked, is what it says it is.
func (d *device) closed(reason stanza.Reason) {
	switch reason {
	case stanza.ReasonUnlinked, stanza.ReasonUnknownAccount, stanza.ReasonBadKey, stanza.ReasonHandleTaken:
		d.w.hist.Fault("%s of %s was told %v", d.label, d.acc.handle, reason)
	}
	d.w.note("%s: closed, %v", d.label, reason)
	d.lost()
}

// deliver takes a delivery and says that it is handled.
func (d *device) deliver(raw []byte) {
	v, _, err := stanza.Decode(raw)
	if err == nil && v.Tag == stanza.TagMessage {
		var m stanza.MessageDown
		if m, err = stanza.ParseMessageDown(v); err == nil {
			d.received(&m)
		}
	} else if err == nil {
		var r stanza.ReceiptDown
		if r, err = stanza.ParseReceiptDown(v); err == nil {
			d.receipt(&r)
		}
	}
	if err != nil {
		d.w.hist.Fault("%s got what is no delivery: %v", d.label, err)
	}
	if d.unacked++; d.unacked == 1 {
		s := d.conn
		d.w.after(time.Duration(d.rnd.Int64N(int64(30*time.Millisecond)))|1, func() { // a few go together
			if d.conn == s && d.unacked > 0 {
				s.say(fromClient{acked: d.unacked})
				d.unacked = 0
			}
		})
	}
}

// received is the client's id rule.
func (d *device) received(m *stanza.MessageDown) {
	from := d.w.deviceOf(m.From, m.FromDevice)
	if from == nil {
		d.w.hist.Fault("%s got a message from %d/%d, which is nobody", d.label, m.From, m.FromDevice)
		return
	}
	s := from.stream(d.acc)
	if want := bodyOf(from.label, m.ID); string(m.Body) != want {
		d.w.hist.Fault("%s got %q as id %d of %s", d.label, m.Body, m.ID, from.label)
	}
	k := sender{m.From, m.FromDevice}
	if m.ID > d.seen[k] || planted.On(planted.NoIDRule) {
		d.seen[k] = m.ID
		d.w.hist.Received(s, d.label, m.ID)
		d.w.note("%s: got %d of %s", d.label, m.ID, from.label)
	}
	d.w.hist.Confirmed(s, d.label, m.ID)
}

// receipt is the second tick.
func (d *device) receipt(r *stanza.ReceiptDown) {
	to := d.w.accountOf(r.From)
	if to == nil || r.Tag != stanza.TagDelivered {
		d.w.hist.Fault("%s got a receipt from %d, which is nobody", d.label, r.From)
		return
	}
	it := stanza.Packed(r.IDs)
	for id, ok := it.Next(); ok; id, ok = it.Next() {
		d.w.hist.Delivered(d.stream(to), id)
	}
}

func bodyOf(label string, id uint64) string { return fmt.Sprintf("%s:%d", label, id) }
