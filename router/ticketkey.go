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
// storm after a restart is of all of them. Keys of grants are worked out from them (wire.TicketKey.GrantKey), so that there is one set to
// keep, to rotate and to back up; mediads are told the public halves of all. So are relay secrets (wire.TicketKey.RelaySecret), of which turnds are
// told the newest.
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

// rotated ends the attempt to make a key: gateways, mediads and turnds hear of it, or the next tick tries again.
func (m *dirShard) rotated(committed bool) {
	m.rotating = false
	if !committed || !m.leading {
		return
	}
	m.log.Info("ticket key made", "group", m.name, "id", m.directory.tickets.newest())
	for _, p := range m.peers {
		m.tellKeys(p)
	}
}

// tellKeys sends a gateway the keys, a mediad what belongs to them and is not secret, and a turnd secrets that belong to them and are
// its own. Without credit they are owed: a gateway that lacks the newest one cannot open the tickets that others seal.
func (m *dirShard) tellKeys(p *peer) {
	keys := m.directory.tickets.keys
	kind := link.KindTicketKeys
	switch {
	case len(keys) == 0:
		p.keysOwed = false
		return
	case p.gw != nil:
		m.stanza = wire.AppendTicketKeys(m.stanza[:0], keys)
	case p.role == link.RoleMedia:
		kind = link.KindGrantKeys
		m.stanza = wire.AppendGrantPublics(m.stanza[:0], grantPublics(keys))
	case p.role == link.RoleRelay:
		kind = link.KindRelaySecrets
		m.stanza = wire.AppendRelaySecrets(m.stanza[:0], wire.RelaySecrets(keys))
	default:
		p.keysOwed = false
		return
	}
	p.keysOwed = !m.send(p.to, link.Envelope{Kind: kind, Group: m.id, Term: m.term, Payload: m.stanza})
}

// grantPublics returns the public grant keys of keys. Each takes a multiplication on the curve, some 20 us; mediads are few, and come seldom.
func grantPublics(keys []wire.TicketKey) []wire.GrantPublic {
	publics := make([]wire.GrantPublic, len(keys))
	for i := range keys {
		g := keys[i].GrantKey()
		publics[i] = g.Public()
	}
	return publics
}

func (m *dirShard) tellOwedKeys() {
	for _, p := range m.peers {
		if p.keysOwed {
			m.tellKeys(p)
		}
	}
}
