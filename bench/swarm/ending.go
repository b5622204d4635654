package swarm

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
)

// The schedule of gateway/client (reconnect.go), with its state in the slot.
const (
	backoffUnit = time.Second
	backoffMost = 5 * time.Minute
	maxRetry    = 10 * time.Minute
	steadyAfter = 10 * time.Second
	quickNow    = 8
)

// cause is why a connection ended.
type cause struct {
	name  string // a reason of the protocol, or what the network did
	retry stanza.Retry
	after time.Duration
}

func lostNetwork(name string) cause { return cause{name: name, retry: stanza.RetryBackoff} }

// ended closes a session's connection, or its attempt at one, counts why, and decides when it comes back.
func (l *loop) ended(n uint32, s *session, c cause) {
	lived := time.Duration(0)
	if s.phase == bound {
		lived = time.Duration(uint32(l.now()/int64(time.Millisecond))-s.since) * time.Millisecond
		l.count.Lost[c.name]++
	} else {
		if c.retry != stanza.RetryNow && c.retry != stanza.RetryLater && (s.phase == resuming || s.phase == finishing && s.has(byTicket)) {
			l.tickets.forget(n) // gateway/client gives it a second chance when nothing was said
		}
		l.count.Failed[c.name]++
		if l.watch != nil && s.has(watched) {
			l.watch.closes[c.name]++
		}
	}
	l.drop(n, s)
	if lived >= steadyAfter {
		s.losses, s.nows = 0, 0
	}
	if c.retry == stanza.RetryNever {
		s.phase = stopped
		l.stoppedOfWatch(s)
		return
	}
	wait := l.backoff(s, c)
	if wait == 0 {
		l.enqueue(n, s)
		return
	}
	s.phase = waiting
	l.arm(n, s, wait)
}

// backoff returns how long to wait, by the reason.
func (l *loop) backoff(s *session, c cause) time.Duration {
	if c.retry == stanza.RetryNow && s.nows < quickNow {
		s.nows++
		return 0
	}
	lost := s.losses
	s.losses = uint8(min(int(s.losses)+1, math.MaxUint8))
	if c.retry == stanza.RetryLater && c.after > 0 {
		return time.Duration(float64(min(c.after, maxRetry)) * (0.5 + l.jitter()))
	}
	if lost == 0 {
		return 0
	}
	most := float64(backoffUnit) * math.Exp2(float64(min(lost-1, 20)))
	return time.Duration(min(most, float64(backoffMost)) * l.jitter())
}

// drop closes the descriptor and forgets what the connection had; the caller sets the phase.
func (l *loop) drop(n uint32, s *session) {
	if s.fd >= 0 && s.connected() {
		if int(s.fd) < len(l.owner) {
			l.owner[s.fd] = 0
		}
		unix.Close(int(s.fd))
	}
	s.fd = -1
	s.gen++
	clear(s.rx[:])
	clear(s.tx[:])
	s.due = 0
	s.clear(pinged | pingDue | pingNow | pongCheck | deaf | ackNow | ackLater)
	delete(l.hellos, n)
	delete(l.partial, n)
	delete(l.unsent, n)
	if s.flow != 0 {
		l.flowDown(n, s)
	}
}

// hangup ends sessions for good.
func (l *loop) hangup(r Range) error {
	if err := l.check(r); err != nil {
		return err
	}
	for n := range l.slotsOf(r) {
		s := l.slots.At(n)
		l.drop(n, s)
		s.phase = off
		if s.has(watched) {
			l.stoppedOfWatch(s)
		}
	}
	return nil
}

// slow stops reading, or reads again.
func (l *loop) slow(o Slow) error {
	if err := l.check(o.Range); err != nil {
		return err
	}
	for n := range l.slotsOf(o.Range) {
		s := l.slots.At(n)
		if s.phase != bound || s.has(deaf) != o.Off {
			continue
		}
		if o.Off {
			s.clear(deaf | pinged)
		} else {
			s.set(deaf)
		}
		_, blocked := l.unsent[n]
		if err := l.poll.set(int(s.fd), o.Off, blocked); err != nil {
			l.ended(n, s, lostNetwork("poll"))
		}
	}
	return nil
}

// pongWait is how long a ping waits for its pong.
const pongWait = 15 * time.Second

// pingOrGiveUp is the wheel's: a ping is due, or its pong should be there. A session has one entry in the wheel for both.
func (l *loop) pingOrGiveUp(n uint32, s *session) {
	switch {
	case s.has(deaf): // who does not read sees no pong
		s.clear(pinged | pongCheck)
		l.arm(n, s, l.cfg.Ping)
	case s.has(pongCheck) && s.has(pinged):
		l.ended(n, s, lostNetwork("no_pong"))
	case s.has(pongCheck):
		s.clear(pongCheck)
		l.arm(n, s, l.cfg.Ping-pongWait)
	default:
		s.set(pingDue)
		l.markDirty(n, s)
	}
}
