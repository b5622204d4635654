package swarm

import (
	"linecard.example/internal/wire"
)

// phase is where a session is.
type phase uint8

const (
	off        phase = iota // never opened, or hung up
	queued                  // wants to connect as soon as there is room among the handshakes
	waiting                 // for the time of its next attempt
	connecting              // TCP
	greeting                // message 1 is out
	resuming                // the ticket is out
	finishing               // message 3, or the bind behind a resumption, is out
	bound
	stopped // the server said never again
)

// The flags of a session.
const (
	watched   uint16 = 1 << iota // an Open or a Cut waits for it
	pinged                       // a pong is due
	pingDue                      // to be said
	pingNow                      // to be said beside the schedule
	pongCheck                    // its wheel entry looks for the pong, not for the next ping
	deaf                         // it does not read: Slow
	anew                         // this attempt registers
	byXX                         // this attempt does not use the ticket
	byTicket                     // this session was resumed
	listed                       // in the dirty list
	ackNow                       // what is due waits for nothing
	ackLater                     // in the list of late acks
	far                          // its connections have what those of a phone far away have
)

// session is the whole of an idle session, in a slot of mapped memory; its number is that of the slot. What it has beside: 8 bytes of the
// slab, a wheel entry of 16 for its next ping, and 4 of the table from descriptors to sessions. Loop only.
type session struct {
	rx, tx  [wire.KeySize]byte
	account uint64 // 0: never bound
	top     uint64 // highest message id used
	opened  uint32 // frames received
	sealed  uint32 // frames sent
	fd      int32
	gen     uint32 // changes when a timer armed for it is no longer meant
	began   uint32 // microseconds of the engine's clock, wrapping: when this attempt began
	since   uint32 // milliseconds of the engine's clock: when it was bound
	flow    uint32 // 1 + its place in Engine.flows; 0: no traffic
	device  uint16
	due     uint16 // deliveries that are not acked yet
	flags   uint16
	phase   phase
	losses  uint8 // attempts and connections lost in a row, as in gateway/client
	nows    uint8 // "at once" in a row
}

func (s *session) has(flag uint16) bool { return s.flags&flag != 0 }
func (s *session) set(flag uint16)      { s.flags |= flag }
func (s *session) clear(flag uint16)    { s.flags &^= flag }

// connected says that the session has a descriptor.
func (s *session) connected() bool { return s.phase >= connecting && s.phase <= bound }
