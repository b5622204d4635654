package swarm

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// read takes what has arrived, at most readSize: what is left makes the descriptor ready again.
func (l *loop) read(n uint32, s *session) {
	k, err := unix.Read(int(s.fd), l.in)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		l.ended(n, s, lostNetwork("reset"))
		return
	case k == 0:
		l.ended(n, s, lostNetwork("eof"))
		return
	}
	l.count.BytesIn += uint64(k)
	data, kept := l.in[:k], l.partial[n]
	if kept != nil {
		data = append(kept, data...)
	}
	gen := s.gen
	for {
		body, ok := wire.FrameLen(data)
		if !ok || len(data) < wire.LenSize+body {
			break
		}
		l.frame(n, s, data[wire.LenSize:wire.LenSize+body])
		if s.gen != gen {
			return // it ended within that frame
		}
		data = data[wire.LenSize+body:]
	}
	switch {
	case len(data) > 0:
		l.partial[n] = append(kept[:0:0], data...)
	case kept != nil:
		delete(l.partial, n)
	}
}

// frame handles one body.
func (l *loop) frame(n uint32, s *session, body []byte) {
	if s.phase == greeting || s.phase == resuming {
		l.handshake(n, s, body)
		return
	}
	if s.opened == 0 {
		if _, _, err := wire.ParseRefused(body); err == nil { // instead of its first sealed frame a server may refuse
			l.refusedFrame(n, s, body)
			return
		}
	}
	plain, err := l.sealer.Open(body[:0], &s.rx, uint64(s.opened), body)
	if err != nil {
		l.ended(n, s, lostNetwork("decrypt_failed"))
		return
	}
	s.opened++
	l.current = n
	if err := stanza.DecodeFrame(plain, l.each); err != nil && !errors.Is(err, errOver) {
		name := "malformed"
		if errors.Is(err, errForeign) {
			name = "foreign"
		}
		l.ended(n, s, lostNetwork(name))
	}
}

// errOver stops the decoding of a frame whose session ended within it.
var errOver = errors.New("swarm: session over")

// stanza handles one stanza of the current session.
func (l *loop) stanza(v stanza.View) error {
	n := l.current
	s := l.slots.At(n)
	if v.Tag == stanza.TagClose {
		c, err := stanza.ParseClose(v)
		if err != nil {
			return err
		}
		l.ended(n, s, cause{name: c.Reason.String(), retry: c.Reason.Retry(), after: time.Duration(c.RetryAfter) * time.Millisecond})
		return errOver
	}
	if s.phase == finishing {
		return l.onBound(n, s, v)
	}
	switch {
	case v.Tag == stanza.TagPong:
		l.onPong(n, s)
	case v.Tag.Delivery():
		return l.onDelivery(n, s, v)
	case v.Tag == stanza.TagAck:
		return l.onAck(n, s, v)
	case v.Tag == stanza.TagRefused:
		return l.onRefused(n, s, v)
	case v.Tag == stanza.TagRetry:
		if s.flow != 0 {
			l.flowRetry(n, s)
		}
	}
	return nil
}

func (l *loop) onPong(n uint32, s *session) {
	l.count.Pongs++
	s.clear(pinged)
	l.pongOf(n, s)
}

// later is a session whose acks wait for company until a time.
type later struct {
	n, gen uint32
	at     int64
}

const (
	lightWait = 250 * time.Millisecond // as in gateway/client: receipts are acked together with whatever is said next
	lightMost = 8
)

// onDelivery counts a delivery and decides when it is acked.
func (l *loop) onDelivery(n uint32, s *session, v stanza.View) error {
	l.count.Arrived++
	s.due++
	most, wait := uint16(1), lightWait
	var err error
	switch v.Tag {
	case stanza.TagMessage:
		most, wait, err = l.onMessage(n, s, v)
	case stanza.TagDelivered, stanza.TagRead:
		most = lightMost
		err = l.onReceipt(n, s, v)
	}
	if s.due >= most {
		s.set(ackNow)
		l.markDirty(n, s)
	} else if !s.has(ackLater) {
		s.set(ackLater)
		l.late = append(l.late, later{n: n, gen: s.gen, at: l.now() + int64(wait)})
	}
	return err
}

// ackLate has acks said that have waited long enough. Waits differ only from one order to the next, and then by little.
func (l *loop) ackLate() {
	if len(l.late) == 0 {
		return
	}
	now, k := l.now(), 0
	for ; k < len(l.late) && l.late[k].at <= now; k++ {
		s := l.slots.At(l.late[k].n)
		if s.gen != l.late[k].gen {
			continue
		}
		s.clear(ackLater)
		if s.due > 0 {
			s.set(ackNow)
			l.markDirty(l.late[k].n, s)
		}
	}
	if l.late = l.late[k:]; len(l.late) == 0 {
		l.late = nil
	}
}
