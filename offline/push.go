package offline

import (
	"linecard.example/internal/link"
	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

// pushReady pushes from every queue that something happened to.
func (m *group) pushReady() {
	for i := 0; i < len(m.ready); i++ {
		q := m.ready[i]
		q.ready = false
		m.push(q)
	}
	clear(m.ready)
	m.ready = m.ready[:0]
}

// push sends deliveries from the cursor while the window has room. It is the only way out of a queue.
func (m *group) push(q *queue) {
	a := q.att
	if a == nil || a.blocked {
		return
	}
	s := a.gw.stream.Load()
	if s == nil {
		return // the stream's return is an event
	}
	m.weigh(a)
	a.cursor = max(a.cursor, q.head) // expiry may have overtaken it
	if a.cursor < q.next && planted.On(planted.PushPastCursor) {
		a.cursor = q.next - 1
	}
	for a.cursor < q.next && len(a.sent) < m.cfg.WindowEntries {
		if !m.encodeDown(q, a.cursor) {
			return
		}
		if size := len(m.out); len(a.sent) > 0 && a.bytes+size > m.cfg.WindowBytes.Int() {
			return
		}
		if err := m.deliver(s, a, a.acked+uint64(len(a.sent))+1); err != nil {
			a.blocked = true // it stays in the queue
			m.blocked = append(m.blocked, a)
			return
		}
		m.pushed(a)
	}
}

// pushed books the delivery in m.out.
func (m *group) pushed(a *attachment) {
	if len(a.sent) == 0 {
		a.progress, a.step, a.expected = m.now, 0, 0
		a.due = m.now + m.patience(0)
	}
	m.arm(a)
	if a.sent == nil {
		m.takeRoom(a)
	}
	a.sent = append(a.sent, sent{seq: a.cursor, size: uint32(len(m.out))})
	a.bytes += len(m.out)
	a.cursor++
	m.count.pushed.Inc()
	m.count.pushedBytes.Add(float64(len(m.out)))
}

// encodeDown puts the stanza of an entry into m.out; false if it cannot be read: the state is broken.
func (m *group) encodeDown(q *queue, seq uint64) bool {
	var r record
	if !m.read(q, seq, &r) {
		return false
	}
	switch r.kind {
	case recordMessage:
		s := stanza.MessageDown{ID: r.id, From: r.from, FromDevice: r.fromDevice, SentAt: r.stamp, Body: r.body}
		m.out = s.Append(m.out[:0])
	case recordUndelivered:
		s := stanza.Undelivered{From: r.from, IDs: r.body, Reason: r.why}
		m.out = s.Append(m.out[:0])
	default:
		s := stanza.ReceiptDown{Tag: stanza.TagDelivered, From: r.from, IDs: r.body}
		if r.kind == recordRead {
			s.Tag = stanza.TagRead
		}
		m.out = s.Append(m.out[:0])
	}
	return true
}

// deliver sends m.out under an attachment number. It leaves credit for answers: deliveries stay in the queue when there is none, answers
// are lost, and each costs its client seconds until it is told to send again. Account and Device are for a gateway that has to answer gone.
func (m *group) deliver(s *link.Stream, a *attachment, number uint64) error {
	m.env = link.Envelope{
		Kind: link.KindDeliver, Group: m.id, Slot: a.slot, Gen: a.gen, Epoch: a.epoch, ID: number,
		Account: a.q.key.account(), Device: a.q.key.device(), Payload: m.out,
	}
	return s.SendSpare(&m.env)
}

// maxRooms bounds the windows that are kept for reuse.
const maxRooms = 1024

// giveRoom takes an empty window's memory back: a device that has everything holds none.
func (m *group) giveRoom(a *attachment) {
	if len(m.rooms) < maxRooms {
		m.rooms = append(m.rooms, a.sent)
	}
	a.sent = nil
}

func (m *group) takeRoom(a *attachment) {
	if n := len(m.rooms); n > 0 {
		a.sent = m.rooms[n-1]
		m.rooms = m.rooms[:n-1]
	}
}
