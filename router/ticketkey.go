package router

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// The keys of resumption tickets are facts of the cluster: dir/0 keeps them and its leader tells every gateway. The newest seals, all
// open. A key seals for one rotation and opens for seven more: a ticket is given when a session begins, sessions last for days, and the
// storm after a restart is of all of them.
const ticketKeys = wire.MaxTicketKeys

// ticketRecord is what the tables hold of them: version byte, when the newest was made (ms since 1970), the keys.
type ticketRecord struct {
	made int64 // 0: none yet
	keys []wire.TicketKey
}

// newest returns the id of the newest key, 0 when there is none.
func (r *ticketRecord) newest() uint32 {
	if len(r.keys) == 0 {
		return 0
	}
	return r.keys[0].ID
}

func (r *ticketRecord) append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, recordVersion), uint64(r.made))
	return wire.AppendTicketKeys(dst, r.keys)
}

func decodeTickets(b []byte) (t ticketRecord, err error) {
	if len(b) == 0 || b[0] != recordVersion {
		return t, fmt.Errorf("%w: ticket keys", errRecord)
	}
	r := reader{b: b[1:]}
	t.made = int64(r.uint(maxStamp))
	if t.keys, err = wire.ParseTicketKeys(r.b); r.bad || err != nil {
		return ticketRecord{}, fmt.Errorf("%w: ticket keys", errRecord)
	}
	return t, nil
}

func (d *directory) loadTickets() error {
	v, ok, err := d.records.Get([]byte{prefixTickets})
	if err == nil && ok {
		d.tickets, err = decodeTickets(v)
	}
	if err != nil {
		return fmt.Errorf("directory: ticket keys: %w", err)
	}
	return nil
}

// applyTicketKey makes the command's key the newest one, if it is the one that follows: of two that were proposed for the same
// turn, by a leader and the one after it, the first counts.
func (d *directory) applyTicketKey(stamp int64, c *command) result {
	if c.id != uint64(d.tickets.newest())+1 {
		return result{}
	}
	old := d.tickets.keys[:min(len(d.tickets.keys), ticketKeys-1)]
	keys := append([]wire.TicketKey{{ID: uint32(c.id), Key: c.key}}, old...)
	d.tickets = ticketRecord{made: stamp, keys: keys}
	d.records.Set([]byte{prefixTickets}, d.tickets.append(nil))
	return result{}
}

// tickTickets has the leader of dir/0 make a key when there is none, or the newest has sealed for a whole rotation. The key is drawn
// here and not in apply, which every replica runs.
func (m *dirShard) tickTickets() {
	if m.id != stanza.DirGroup(0) {
		return
	}
	t := &m.directory.tickets
	age := m.group.Stamp() - t.made
	m.metrics.ticketKeyAge.Set(float64(age) / 1000)
	if m.rotating || len(t.keys) > 0 && age < m.cfg.TicketRotation.D().Milliseconds() {
		return
	}
	c := command{op: opTicketKey, id: uint64(t.newest()) + 1}
	rand.Read(c.key[:]) // never fails
	m.rotating = true
	m.propose(&c, &pending{want: wantTicketKey})
}

// rotated ends the attempt to make a key: the gateways hear of it, or the next tick tries again.
func (m *dirShard) rotated(committed bool) {
	m.rotating = false
	if !committed || !m.leading {
		return
	}
	m.log.Info("ticket key made", "group", m.name, "id", m.directory.tickets.newest())
	for _, p := range m.peers {
		m.tellTickets(p)
	}
}

// tellTickets sends a gateway the keys. Without credit they are owed: a gateway that lacks the newest one cannot open the tickets that
// others seal.
func (m *dirShard) tellTickets(p *peer) {
	if p.gw == nil || len(m.directory.tickets.keys) == 0 {
		p.ticketsOwed = false
		return
	}
	m.stanza = wire.AppendTicketKeys(m.stanza[:0], m.directory.tickets.keys)
	p.ticketsOwed = !m.send(p.to, link.Envelope{Kind: link.KindTicketKeys, Group: m.id, Term: m.term, Payload: m.stanza})
}

func (m *dirShard) tellOwedTickets() {
	for _, p := range m.peers {
		if p.ticketsOwed {
			m.tellTickets(p)
		}
	}
}
