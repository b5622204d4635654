package router

import (
	"errors"

	"linecard.example/internal/link"
	"linecard.example/internal/planted"
)

const (
	attachPage = 1024  // attachments sent in one turn
	maxOwed    = 65536 // attaches and detaches that wait for credit; beyond it all attachments are sent anew
)

// route is the stream to the leader of queue/N as last heard, and its term.
type route struct {
	to   sender
	term uint64
}

// attachments is what the queue's leader is still to be told. Shard goroutine only.
type attachments struct {
	owed   []owedAttach // in order; a full list turns into resend
	resend bool         // all bindings are sent again, those behind mark are left
	mark   uint64
	again  bool // owed overflowed: begin anew
	done   bool // attach_done is due
	paused bool // no credit: wait for the next tick
}

// owedAttach is an attach (the device's binding is read when it is sent) or a detach (which names the session that ended).
type owedAttach struct {
	device deviceKey
	detach bool
	gone   binding
	id     link.GatewayID // of a detach: its gateway may be forgotten by now
}

// attach tells the queue's leader which session has the device now, and which attachment that is to go on, at which number. An attach
// that has to wait loses the latter two: the session is then attached anew, and its device sees repeats.
func (m *dirShard) attach(k deviceKey, epoch link.Fence, next uint64) {
	if m.route.to == nil {
		return // its hello will ask for everything
	}
	if len(m.attaches.owed) > 0 || !m.sendAttach(k, epoch, next) {
		m.owe(owedAttach{device: k})
	}
}

// detach tells it that a session has ended. Losing one is harmless: the gateway answers what is pushed with gone.
func (m *dirShard) detach(k deviceKey, b binding) {
	if m.route.to == nil {
		return
	}
	o := owedAttach{device: k, detach: true, gone: b, id: m.gateways.at(b.gateway).id}
	if len(m.attaches.owed) > 0 || !m.sendDetach(&o) {
		m.owe(o)
	}
}

func (m *dirShard) owe(o owedAttach) {
	a := &m.attaches
	if len(a.owed) >= maxOwed {
		a.owed, a.again = nil, true
	}
	a.owed = append(a.owed, o)
}

// sendAttach sends the device's binding as it is now. Its serial is issued at this moment and not the binding's: what the leader of
// the directory says last must win over an attachment that an earlier leader left behind, even when the session that is bound now
// is the older one, because the newer one ended while nobody led.
func (m *dirShard) sendAttach(k deviceKey, epoch link.Fence, next uint64) bool {
	b, ok := m.bindings.get(k)
	if !ok {
		return true
	}
	return m.toQueue(link.Envelope{Kind: link.KindAttach, Group: m.queue, Gateway: m.gateways.at(b.gateway).id,
		Account: k.account(), Device: k.device(), Slot: b.slot, Gen: b.gen, Serial: m.nextSerial(), Epoch: epoch, ID: next})
}

func (m *dirShard) sendDetach(o *owedAttach) bool {
	return m.toQueue(link.Envelope{Kind: link.KindDetach, Group: m.queue, Gateway: o.id,
		Account: o.device.account(), Device: o.device.device(), Slot: o.gone.slot, Gen: o.gone.gen, Serial: o.gone.serial})
}

// toQueue sends e to the queue's leader. False: there is no credit now, keep it. A stream that is down needs nothing kept, for
// the next hello asks for everything. It leaves credit for messages, which are refused when there is none: a new leader is told of a
// hundred thousand attachments.
func (m *dirShard) toQueue(e link.Envelope) bool {
	if m.attaches.paused {
		return false
	}
	m.out = e
	if err := m.route.to.SendSpare(&m.out); errors.Is(err, link.ErrNoCredit) {
		m.attaches.paused = true
		return false
	}
	return true
}

// resendAttachments starts to send every attachment: a queue's leader has said hello.
func (m *dirShard) resendAttachments() {
	m.attaches = attachments{resend: !planted.On(planted.AttachmentLost), done: true}
}

// pushAttachments sends the next page of what is due. It stops without credit until the next tick.
func (m *dirShard) pushAttachments() {
	a := &m.attaches
	if m.route.to == nil || a.paused {
		return
	}
	room := attachPage
	for ; room > 0 && len(a.owed) > 0; room-- {
		if !m.sendOwed(&a.owed[0]) {
			return
		}
		if a.owed = a.owed[1:]; len(a.owed) == 0 {
			a.owed = nil
		}
	}
	if a.again && len(a.owed) == 0 {
		a.again, a.resend, a.mark = false, true, 0
	}
	if a.resend && room > 0 {
		sent := true
		a.mark = m.bindings.table.Scan(a.mark, room, func(k uint64, _ *binding) bool {
			room--
			sent = m.sendAttach(deviceKey(k), 0, 0)
			return sent
		})
		if !sent {
			return
		}
		a.resend = a.mark != 0
	}
	if a.resend || room == 0 {
		m.group.Wake()
		return
	}
	if a.done && m.rebuilt() && m.toQueue(link.Envelope{Kind: link.KindAttachDone, Group: m.queue, Term: m.route.term}) {
		a.done = false
	}
}

func (m *dirShard) sendOwed(o *owedAttach) bool {
	if o.detach {
		return m.sendDetach(o)
	}
	return m.sendAttach(o.device, 0, 0)
}
