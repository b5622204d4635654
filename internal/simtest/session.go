package simtest

import (
	"math/rand/v2"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// session is a connection of a device to a gateway: both ends of it, and the two ways between them. Under World.mu.
type session struct {
	w  *World
	d  *device
	gw *gateway

	// The gateway's end.
	slot    uint32 // 0: nothing has arrived yet
	asked   *link.Stream
	bound   bool
	account stanza.Account
	device  stanza.Device
	serial  link.Fence
	epoch   link.Fence
	base    uint64 // deliveries written before the present attachment
	written uint64
	unacked uint64

	dead bool // nothing moves on it any more
	up   pipe
	down pipe
}

// toClient is what a gateway sends to a client.
type toClient struct {
	tag    stanza.Tag // what it is; refused stands for all answers, message for all deliveries
	raw    []byte
	id     uint64
	device stanza.Device
	reason stanza.Reason
}

// pipe is one way of a connection: in order, with a delay of its own for everything.
type pipe struct {
	rnd  *rand.Rand
	last time.Time // when the last of what is under way arrives
}

// pass has f called, under World.mu, when what is sent now arrives.
func (p *pipe) pass(w *World, f func()) {
	at := time.Now().Add(time.Duration(p.rnd.Int64N(int64(4*time.Millisecond))) | 1)
	if !at.After(p.last) {
		at = p.last.Add(1)
	}
	p.last = at
	time.AfterFunc(time.Until(at), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		f()
	})
}

func (s *session) expects() uint64 { return s.written - s.base + 1 }

// tell sends something to the client.
func (s *session) tell(m toClient) {
	s.down.pass(s.w, func() {
		if !s.dead && s.d.conn == s {
			s.d.hear(m)
		}
	})
}

// say sends something to the gateway.
func (s *session) say(m fromClient) {
	s.up.pass(s.w, func() {
		if !s.dead {
			s.gw.hear(s, m)
		}
	})
}

// cut breaks the connection at once, at both ends: the gateway's process died.
func (s *session) cut() {
	s.dead = true
	if s.d.conn == s {
		s.d.lost()
	}
}

// leave is the client's end of a connection that it gives up: the gateway hears of it at once, or when it misses it.
func (s *session) leave(quiet bool) {
	if !quiet {
		s.say(fromClient{end: true})
		return
	}
	time.AfterFunc(linger, func() {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		if !s.dead {
			s.gw.hear(s, fromClient{end: true})
		}
	})
}
