package gateway

import (
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// session is one authenticated device on one connection: the whole state of an established client, kept in a slab outside the
// heap. It must stay free of pointers and within 128 bytes (tests check both). Loop only.
//
// Times are the low bits of the loop's coarse clock and are compared modulo their width; the keepalive looks at every session
// at least once a minute, and at busy ones every few seconds, so that none is ever older than its width.
type session struct {
	rx, tx [32]byte // session keys: what we open, what we seal

	account stanza.Account // while binding: as claimed, 0 for a registration
	serial  link.Fence     // of the binding; while binding by a ticket: when the static key was proved, unix seconds
	epoch   link.Fence     // of the attachment whose deliveries are accepted

	rxNonce, txNonce uint32
	base             uint32 // wire number of the last delivery before this epoch; while binding: the group asked
	written          uint32 // wire number of the last delivery; while binding: low bits of the id of the stream asked
	self             uint32 // loop<<24 | slot: the name that envelopes carry

	lastSeen  uint16 // seconds: the last frame that opened
	device    uint16
	noted     uint16 // low bits of (highest id noted at the directory) / noteEvery
	send      uint16 // tokens: messages
	tokenTime uint16 // ticks: the last refill of both kinds of tokens
	unacked   uint16 // deliveries written and not acknowledged

	lookups  uint8 // tokens: queries
	state    state
	inflight uint8 // messages forwarded and not answered
	charged  uint8 // their bytes, in units of chargeUnit
	progress uint8 // seconds: unacked became positive or went down
	answered uint8 // seconds: inflight became positive or an answer came
	interval uint8 // announced ping interval, in units of pingUnit
	flags    uint8
}

// state is where a session is in its life. The zero state is a free slot.
type state uint8

const (
	stateBinding state = iota + 1 // the router was asked; the client must be silent
	stateBound
	stateClosing // everything is over but the last bytes; no envelope finds it any more
)

// Flags of a session.
const (
	flagWarned  uint8 = 1 << iota // a message was refused for the window; the next one closes
	flagBusy                      // a timer of the busy wheel is armed
	flagPartial                   // the loop tracks an unfinished frame
	flagSlow                      // the loop tracks bytes that the socket did not take
	flagResumed                   // it came by a ticket
	flagHeld                      // deliveries were left to the queue: they are asked for when the socket has taken what was written
	flagOwed                      // a message was refused because nobody led where it went: the client is told when somebody does
)

const (
	slotBits  = 24
	slotMask  = 1<<slotBits - 1
	maxLoops  = 255
	noteEvery = 1024 // ids between two notes to the directory
	noteShift = 10

	pingUnit = 15 * time.Second
	minPing  = time.Minute
	maxPing  = 15 * time.Minute
)

func (s *session) slot() uint32       { return s.self & slotMask }
func (s *session) dev() stanza.Device { return stanza.Device(s.device) }

// expects is the number that the next delivery has in its attachment.
func (s *session) expects() uint64 { return uint64(s.written-s.base) + 1 }

// setInterval notes the client's announced ping interval: seconds as announced, 0 for none.
func (s *session) setInterval(seconds uint64, fallback time.Duration) {
	d := fallback
	if seconds != 0 {
		d = maxPing
		if seconds < uint64(maxPing/time.Second) {
			d = time.Duration(seconds) * time.Second
		}
	}
	d = min(max(d, minPing), maxPing)
	s.interval = uint8((d + pingUnit - 1) / pingUnit)
}

// idleLimit is how long the session may be silent, in seconds: one and a half announced intervals and 30 s.
func (s *session) idleLimit() int {
	ping := int(s.interval) * int(pingUnit/time.Second)
	return ping + ping/2 + 30
}
