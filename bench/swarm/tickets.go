package swarm

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// ticketStride is what each session has in the table: a length, the PSK and the ticket. A ticket of the present version takes 153; a longer
// one is not kept.
const ticketStride = 160

// tickets is a table of resume tickets in mapped memory, one row for each session, backed by the kernel when it is written. They are
// kept as they came: only the gateways can make them again. nil keeps none. Loop only.
type tickets struct {
	rows []byte
	used uint64
}

func newTickets(sessions int) (*tickets, error) {
	rows, err := unix.Mmap(-1, 0, sessions*ticketStride, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("swarm: a table of %d tickets: %w", sessions, err)
	}
	return &tickets{rows: rows}, nil
}

func (t *tickets) row(n uint32) []byte { return t.rows[int(n)*ticketStride:][:ticketStride] }

// put keeps the value of a ticket attribute.
func (t *tickets) put(n uint32, value []byte) {
	if t == nil || len(value) > ticketStride-2 {
		return
	}
	r := t.row(n)
	if binary.LittleEndian.Uint16(r) == 0 {
		t.used++
	}
	binary.LittleEndian.PutUint16(r, uint16(len(value)))
	copy(r[2:], value)
}

// get returns a session's ticket, valid until the next put.
func (t *tickets) get(n uint32) (ticket []byte, psk [wire.KeySize]byte, ok bool) {
	if t == nil {
		return nil, psk, false
	}
	r := t.row(n)
	size := binary.LittleEndian.Uint16(r)
	if size == 0 {
		return nil, psk, false
	}
	psk, ticket, ok = wire.SplitTicketValue(r[2 : 2+size])
	return ticket, psk, ok
}

// forget drops a session's ticket: it was used, or is no good.
func (t *tickets) forget(n uint32) {
	if t == nil {
		return
	}
	if r := t.row(n); binary.LittleEndian.Uint16(r) != 0 {
		binary.LittleEndian.PutUint16(r, 0)
		t.used--
	}
}

func (t *tickets) size() uint64 {
	if t == nil {
		return 0
	}
	return t.used * ticketStride
}

func (t *tickets) close() error {
	if t == nil {
		return nil
	}
	return unix.Munmap(t.rows)
}

// keepTicket takes the ticket out of bound; the one before was for this session.
func (l *loop) keepTicket(n uint32, v stanza.View) {
	l.tickets.forget(n)
	if value, ok := v.Bytes(stanza.AttrTicket); ok {
		l.tickets.put(n, value)
	}
}
