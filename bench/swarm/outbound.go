package swarm

import (
	"math"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
)

const (
	frameFill  = 32 << 10 // a frame is sealed when its stanzas reach this, as in gateway/client
	frameCount = 192      // messages of a frame
	outFill    = 256 << 10
)

// flush says what sessions have to say: one frame and one write for each, as far as it goes.
func (l *loop) flush() {
	for k := 0; k < len(l.dirty); k++ { // speak may append
		n := l.dirty[k]
		s := l.slots.At(n)
		s.clear(listed)
		if s.phase == bound {
			l.speak(n, s)
		}
	}
	if l.dirty = l.dirty[:0]; cap(l.dirty) > 4096 {
		l.dirty = nil
	}
}

// speak writes what a session has to say.
func (l *loop) speak(n uint32, s *session) {
	if _, blocked := l.unsent[n]; blocked {
		return // drain comes back to it
	}
	out := l.out[:0]
	for len(out) < outFill {
		plain := append(l.plain[:0], 0)
		if s.has(ackNow) {
			plain = l.appendAck(s, plain)
		}
		if s.flow != 0 {
			plain = l.appendMessages(n, s, plain)
		}
		if s.has(pingDue | pingNow) {
			plain = l.appendPing(n, s, plain)
		}
		l.plain = plain
		if len(plain) == 1 {
			break
		}
		if s.due > 0 {
			plain = l.appendAck(s, plain)
			l.plain = plain
		}
		if s.sealed == math.MaxUint32 {
			l.ended(n, s, cause{name: stanza.ReasonNonceExhausted.String(), retry: stanza.RetryNow})
			return
		}
		out = l.seal(s, out, plain)
	}
	l.out = out
	if len(out) > 0 {
		l.write(n, s, out)
	}
}

// appendAck says that what is due is handled.
func (l *loop) appendAck(s *session, plain []byte) []byte {
	ack := stanza.DeliveryAck{Count: uint32(s.due)}
	s.due = 0
	s.clear(ackNow)
	return ack.Append(plain)
}

func (l *loop) appendPing(n uint32, s *session, plain []byte) []byte {
	l.count.Pings++
	if s.has(pingDue) { // else the wheel has its entry for the next one
		s.set(pinged | pongCheck)
		l.arm(n, s, pongWait)
	}
	s.clear(pingDue | pingNow)
	return stanza.Ping{}.Append(plain)
}

func (l *loop) seal(s *session, out, plain []byte) []byte {
	out = l.sealer.AppendSealedFrame(out, &s.tx, uint64(s.sealed), plain)
	s.sealed++
	return out
}

// write hands b to the socket; what does not fit waits for room.
func (l *loop) write(n uint32, s *session, b []byte) {
	if _, blocked := l.unsent[n]; blocked {
		l.unsent[n] = append(l.unsent[n], b...)
		return
	}
	k, err := unix.Write(int(s.fd), b)
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		return // the descriptor is readable now, and reading tells why: the server may have said it before it closed
	}
	k = max(k, 0)
	l.count.BytesOut += uint64(k)
	if k == len(b) {
		return
	}
	l.unsent[n] = append([]byte(nil), b[k:]...)
	if err := l.poll.set(int(s.fd), !s.has(deaf), true); err != nil {
		l.ended(n, s, lostNetwork("poll"))
	}
}

// drain writes what waited for room.
func (l *loop) drain(n uint32, s *session) {
	b, blocked := l.unsent[n]
	if !blocked {
		return
	}
	k, err := unix.Write(int(s.fd), b)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil {
		l.ended(n, s, lostNetwork("reset"))
		return
	}
	l.count.BytesOut += uint64(k)
	if k < len(b) {
		l.unsent[n] = b[k:]
		return
	}
	delete(l.unsent, n)
	if err := l.poll.set(int(s.fd), !s.has(deaf), false); err != nil {
		l.ended(n, s, lostNetwork("poll"))
		return
	}
	l.markDirty(n, s)
}
