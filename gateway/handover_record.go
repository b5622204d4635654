package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// recordVersion is the version of the hand-over: of records and of the messages around them. The process that gives says which one it
// writes, and the one that takes knows whether it can read that: a newer binary may keep reading older versions, and an older one
// refuses what it does not know. It has nothing to do with the layout of a slot.
const recordVersion = 1

// record is a session on its way to another process: what its slot and its connection hold, in units that mean the same everywhere.
// What is not here is not needed: timers are armed anew, and messages without an answer are asked for again.
type record struct {
	rx, tx           [wire.KeySize]byte
	rxNonce, txNonce uint32
	account          stanza.Account
	device           stanza.Device
	serial, epoch    link.Fence
	base, written    uint32
	unacked          uint16
	unanswered       uint8  // messages forwarded and not answered: their answers are lost
	noted            uint16 // as in the slot
	send             uint16 // tokens
	lookups          uint8  // tokens
	interval         uint16 // announced ping interval, seconds
	silent           uint16 // seconds since the last frame that opened
	stuck            uint8  // seconds since unacked became positive or went down
	warned           bool
	inbound          []byte // an unfinished frame
	outbound         []byte // sealed, and not taken by the socket yet
}

var errRecord = errors.New("gateway: bad hand-over record")

// maxOutbound bounds the bytes of a record: more than outbound_cap and a turn's excess can be.
const maxOutbound = 256 << 20

// appendRecord appends r: both keys, serial and epoch (8 bytes big-endian each), then uvarints: the other numbers in the order below, and
// both byte strings behind their lengths. Retains nothing; dst holds keys afterwards.
func appendRecord(dst []byte, r *record) []byte {
	dst = append(append(dst, r.rx[:]...), r.tx[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.serial))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.epoch))
	warned := uint64(0)
	if r.warned {
		warned = 1
	}
	for _, v := range [...]uint64{
		uint64(r.account), uint64(r.device), uint64(r.rxNonce), uint64(r.txNonce), uint64(r.base), uint64(r.written), uint64(r.unacked),
		uint64(r.unanswered), uint64(r.noted), uint64(r.send), uint64(r.lookups), uint64(r.interval), uint64(r.silent), uint64(r.stuck), warned,
	} {
		dst = binary.AppendUvarint(dst, v)
	}
	dst = append(binary.AppendUvarint(dst, uint64(len(r.inbound))), r.inbound...)
	return append(binary.AppendUvarint(dst, uint64(len(r.outbound))), r.outbound...)
}

// recordSize is more than a record takes besides its byte strings.
const recordSize = 2*wire.KeySize + 16 + 17*binary.MaxVarintLen64

// roomFor returns dst with room for r, and wipes what it was if that had none: it holds keys.
func roomFor(dst []byte, r *record) []byte {
	need := len(dst) + recordSize + len(r.inbound) + len(r.outbound)
	if need <= cap(dst) {
		return dst
	}
	grown := append(make([]byte, 0, max(need, 2*cap(dst), pageSessions*recordSize)), dst...)
	clear(dst)
	return grown
}

// decodeRecord reads one record from the start of b into r, all fields set, and returns the bytes behind it. Its byte strings are views into
// b. A record that it accepts is one that a session can be made of.
func decodeRecord(b []byte, r *record) (rest []byte, err error) {
	const fixed = 2*wire.KeySize + 16
	if len(b) < fixed {
		return nil, errRecord
	}
	*r = record{
		rx: [wire.KeySize]byte(b[:wire.KeySize]), tx: [wire.KeySize]byte(b[wire.KeySize:]),
		serial: link.Fence(binary.BigEndian.Uint64(b[fixed-16:])), epoch: link.Fence(binary.BigEndian.Uint64(b[fixed-8:])),
	}
	d := recordReader{b: b[fixed:]}
	r.account, r.device = stanza.Account(d.upTo(uint64(stanza.MaxAccount))), stanza.Device(d.upTo(uint64(stanza.MaxDevice)))
	r.rxNonce, r.txNonce = uint32(d.upTo(maxNonce)), uint32(d.upTo(maxNonce))
	r.base, r.written = uint32(d.upTo(1<<32-1)), uint32(d.upTo(1<<32-1))
	r.unacked, r.unanswered = uint16(d.upTo(1<<16-1)), uint8(d.upTo(1<<8-1))
	r.noted, r.send, r.lookups = uint16(d.upTo(1<<16-1)), uint16(d.upTo(1<<16-1)), uint8(d.upTo(1<<8-1))
	r.interval, r.silent, r.stuck = uint16(d.upTo(1<<16-1)), uint16(d.upTo(1<<16-1)), uint8(d.upTo(1<<8-1))
	r.warned = d.upTo(1) == 1
	r.inbound = d.bytes(wire.LenSize + wire.MaxBody)
	r.outbound = d.bytes(maxOutbound)
	switch {
	case d.bad:
		return nil, errRecord
	case r.account == 0 || r.device == 0 || r.serial == 0:
		return nil, fmt.Errorf("%w: of no device", errRecord)
	case r.base > r.written || uint32(r.unacked) > r.written:
		return nil, fmt.Errorf("%w: deliveries do not add up", errRecord)
	}
	return d.b, nil
}

type recordReader struct {
	b   []byte
	bad bool
}

// upTo reads a uvarint of at most limit.
func (d *recordReader) upTo(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if d.bad || n <= 0 || v > limit {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *recordReader) bytes(limit uint64) []byte {
	n := d.upTo(limit)
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}
