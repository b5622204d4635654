package link

import (
	"encoding/binary"
	"errors"
	"fmt"

	"linecard.example/internal/stanza"
)

// Fence orders claims across leaderships: term<<40 | counter. Bind serials and attachment epochs are fences; a bigger one is newer,
// 0 is none.
type Fence uint64

// MakeFence returns the fence of a counter (40 bits) within a term (24 bits); higher bits of either are cut off.
func MakeFence(term, counter uint64) Fence { return Fence(term<<40 | counter&(1<<40-1)) }

// Term returns the term part of f.
func (f Fence) Term() uint64 { return uint64(f >> 40) }

// GatewayID names one run of one gateway worker: the node it runs on and a number drawn at its start, see NewIncarnation.
type GatewayID struct{ Node, Incarnation uint64 }

// An incarnation is, from the top: 16 bits of worker number, 8 bits for the place in a line of processes that hand sessions over, 40
// random bits that name the line.
const (
	workerShift = 48
	lineShift   = 40
	lineMask    = 1<<lineShift - 1
)

// MaxHeirs is how many processes one may offer its sessions to: with the place wrapping around, each must still be seen to come after it.
const MaxHeirs = 100

// NewIncarnation returns the incarnation of one run of a worker: its number and the lower 40 bits of random. The number is part of
// it, and not a field beside it, so that whoever knows an id only from an envelope (offline does, when a router attaches a session
// before its gateway's stream is up) knows whom a new run replaces, and no envelope grows.
func NewIncarnation(worker uint16, random uint64) uint64 {
	return uint64(worker)<<workerShift | random&lineMask
}

// Worker returns the number of the worker on its node, 0 for a gateway without a supervisor.
func (id GatewayID) Worker() uint16 { return uint16(id.Incarnation >> workerShift) }

// Replaces reports whether id is another run of the same worker as old: the later one to come up ends the earlier one. Other
// workers of the node stand beside it, and so does a run of the same line: the two hand sessions over.
func (id GatewayID) Replaces(old GatewayID) bool {
	return id.Node == old.Node && id.Worker() == old.Worker() && (id.Incarnation^old.Incarnation)&lineMask != 0
}

// Successor returns the id of the nth process, from 1 to MaxHeirs, that is offered the sessions of id; worker is that process's number. No two
// may have the same n: one that took some sessions and died has left bindings under its id, to slots that the next one uses again.
func (id GatewayID) Successor(nth, worker uint16) GatewayID {
	place := uint8(id.Incarnation>>lineShift) + uint8(nth)
	id.Incarnation = uint64(worker)<<workerShift | uint64(place)<<lineShift | id.Incarnation&lineMask
	return id
}

// Succeeds reports whether id comes after old in one line, whatever their numbers. The place wraps around, and is compared so.
func (id GatewayID) Succeeds(old GatewayID) bool {
	ahead := int8(uint8(id.Incarnation>>lineShift) - uint8(old.Incarnation>>lineShift))
	return id.Node == old.Node && (id.Incarnation^old.Incarnation)&lineMask == 0 && ahead > 0
}

// Envelope is a routing header and the bytes behind it. Which fields a kind uses stands at the kind; the others are zero, and a
// zero field takes no room on the wire. Payload of a received envelope is immutable and may be kept, but keeps its whole batch
// (up to 256 KiB) in memory: copy what is to stay longer than a moment.
type Envelope struct {
	Kind       Kind
	Flags      uint8
	Group      stanza.Group
	Reason     stanza.Reason
	Term       uint64
	Gateway    GatewayID
	Slot, Gen  uint32
	Account    stanza.Account
	Device     stanza.Device
	ID         uint64
	Serial     Fence
	Epoch      Fence
	Charge     uint32 // bytes charged to the session's window
	RetryAfter uint32 // milliseconds
	Payload    []byte
}

// Limits of an envelope.
const (
	// MaxPayload is the largest payload, twice the largest frame of a client.
	MaxPayload = 128 << 10
	// EnvelopeCharge is what every charged envelope costs besides its payload: the room it takes in an inbox.
	EnvelopeCharge = 128
	// maxHeader: kind, mask, fixed fields and varints at their longest, length of the payload.
	maxHeader = 1 + 2 + 1 + 2 + 3 + 10 + 16 + 5 + 5 + 10 + 5 + 10 + 16 + 5 + 5 + 3
)

// ErrEnvelope is wrapped by every error of DecodeEnvelope.
var ErrEnvelope = errors.New("link: bad envelope")

var (
	errTruncated = fmt.Errorf("%w: truncated", ErrEnvelope)
	errKind      = fmt.Errorf("%w: unknown kind", ErrEnvelope)
	errCanonical = fmt.Errorf("%w: not canonical", ErrEnvelope)
	errRange     = fmt.Errorf("%w: value out of range", ErrEnvelope)
	errPayload   = fmt.Errorf("%w: payload too long", ErrEnvelope)
)

// Size returns the bytes that e takes from its group's credits on a link, 0 for a kind that is not charged. The receiver gives the
// same number back with Stream.Done, so take it before changing Kind or Payload.
func (e *Envelope) Size() int {
	if !e.Kind.charged() {
		return 0
	}
	return EnvelopeCharge + len(e.Payload)
}

// Bits of the mask that follows the kind: a field is there iff its bit is set, in this order, and is not zero.
const (
	hasFlags uint16 = 1 << iota
	hasGroup
	hasReason
	hasTerm
	hasNode
	hasIncarnation
	hasSlot
	hasGen
	hasAccount
	hasDevice
	hasID
	hasSerial
	hasEpoch
	hasCharge
	hasRetryAfter
	hasPayload
)

func (e *Envelope) mask() uint16 {
	m := bit(uint64(e.Flags), hasFlags) | bit(uint64(e.Group), hasGroup) | bit(uint64(e.Reason), hasReason) | bit(e.Term, hasTerm)
	m |= bit(e.Gateway.Node, hasNode) | bit(e.Gateway.Incarnation, hasIncarnation)
	m |= bit(uint64(e.Slot), hasSlot) | bit(uint64(e.Gen), hasGen) | bit(uint64(e.Account), hasAccount)
	m |= bit(uint64(e.Device), hasDevice) | bit(e.ID, hasID) | bit(uint64(e.Serial), hasSerial) | bit(uint64(e.Epoch), hasEpoch)
	m |= bit(uint64(e.Charge), hasCharge) | bit(uint64(e.RetryAfter), hasRetryAfter)
	return m | bit(uint64(len(e.Payload)), hasPayload)
}

func bit(v uint64, b uint16) uint16 {
	if v != 0 {
		return b
	}
	return 0
}

// AppendEnvelope appends e to dst and copies its payload. Layout: kind, 2 bytes of mask (big-endian), then the fields that are not
// zero: flags 1 byte, group 2, node, incarnation, serial and epoch 8 each (big-endian), all others minimal uvarints; the payload
// behind its length. Kind and len(e.Payload) <= MaxPayload are the caller's to keep (Stream.Send checks them).
func AppendEnvelope(dst []byte, e *Envelope) []byte {
	m := e.mask()
	dst = append(dst, byte(e.Kind), byte(m>>8), byte(m))
	if m&hasFlags != 0 {
		dst = append(dst, e.Flags)
	}
	if m&hasGroup != 0 {
		dst = binary.BigEndian.AppendUint16(dst, uint16(e.Group))
	}
	if m&hasReason != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Reason))
	}
	if m&hasTerm != 0 {
		dst = binary.AppendUvarint(dst, e.Term)
	}
	if m&hasNode != 0 {
		dst = binary.BigEndian.AppendUint64(dst, e.Gateway.Node)
	}
	if m&hasIncarnation != 0 {
		dst = binary.BigEndian.AppendUint64(dst, e.Gateway.Incarnation)
	}
	if m&hasSlot != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Slot))
	}
	if m&hasGen != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Gen))
	}
	return appendTail(dst, e, m)
}

func appendTail(dst []byte, e *Envelope, m uint16) []byte {
	if m&hasAccount != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Account))
	}
	if m&hasDevice != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Device))
	}
	if m&hasID != 0 {
		dst = binary.AppendUvarint(dst, e.ID)
	}
	if m&hasSerial != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(e.Serial))
	}
	if m&hasEpoch != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(e.Epoch))
	}
	if m&hasCharge != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Charge))
	}
	if m&hasRetryAfter != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.RetryAfter))
	}
	if m&hasPayload != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(e.Payload)))
		dst = append(dst, e.Payload...)
	}
	return dst
}

// DecodeEnvelope reads one envelope from the start of b into e, all fields set, and returns the bytes behind it. e.Payload is a
// view into b. Only what AppendEnvelope writes is accepted, so re-encoding gives the same bytes. Errors wrap ErrEnvelope; e is
// undefined then.
func DecodeEnvelope(b []byte, e *Envelope) (rest []byte, err error) {
	if len(b) < 3 {
		return nil, errTruncated
	}
	k := Kind(b[0])
	if k == 0 || k >= kindEnd {
		return nil, errKind
	}
	*e = Envelope{Kind: k}
	r := reader{b: b, i: 3}
	decodeFields(&r, e, uint16(b[1])<<8|uint16(b[2]))
	return b[r.i:], r.err
}

func decodeFields(r *reader, e *Envelope, m uint16) {
	if m&hasFlags != 0 {
		e.Flags = uint8(r.fixed(1))
	}
	if m&hasGroup != 0 {
		e.Group = stanza.Group(r.fixed(2))
	}
	if m&hasReason != 0 {
		e.Reason = stanza.Reason(r.varint(16))
	}
	if m&hasTerm != 0 {
		e.Term = r.varint(64)
	}
	if m&hasNode != 0 {
		e.Gateway.Node = r.fixed(8)
	}
	if m&hasIncarnation != 0 {
		e.Gateway.Incarnation = r.fixed(8)
	}
	if m&hasSlot != 0 {
		e.Slot = uint32(r.varint(32))
	}
	if m&hasGen != 0 {
		e.Gen = uint32(r.varint(32))
	}
	if m&hasAccount != 0 {
		e.Account = stanza.Account(r.varint(64))
	}
	if m&hasDevice != 0 {
		e.Device = stanza.Device(r.varint(32))
	}
	if m&hasID != 0 {
		e.ID = r.varint(64)
	}
	if m&hasSerial != 0 {
		e.Serial = Fence(r.fixed(8))
	}
	if m&hasEpoch != 0 {
		e.Epoch = Fence(r.fixed(8))
	}
	if m&hasCharge != 0 {
		e.Charge = uint32(r.varint(32))
	}
	if m&hasRetryAfter != 0 {
		e.RetryAfter = uint32(r.varint(32))
	}
	if m&hasPayload != 0 {
		e.Payload = r.payload()
	}
}
