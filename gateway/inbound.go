package gateway

import (
	"errors"
	"math/bits"

	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// errEnded stops the decoding of a frame whose session was closed by one of its stanzas.
var errEnded = errors.New("gateway: session ended")

// onSession reads whole frames from an established session's connection. What gnet has read stays buffered without a bound unless it
// is consumed, so every whole frame is, whatever the session's window: flow control is in the protocol.
func (l *loop) onSession(s *session, c gnet.Conn) gnet.Action {
	if s.state == stateClosing {
		_, _ = c.Discard(-1) // everything
		return gnet.None
	}
	if s.state == stateBinding {
		l.closeSession(s, stanza.ReasonEarlyData, 0)
		_, _ = c.Discard(-1)
		return gnet.None
	}
	total := c.InboundBuffered()
	if !firstWhole(c, total) { // do not have gnet join the pieces of a long frame each time one more comes
		if total > 0 {
			l.notePartial(s, total, false)
		}
		return gnet.None
	}
	buf, _ := c.Peek(-1) // everything; a view, valid in this call
	l.cur, l.ackDue = s, false
	used := l.readFrames(s, buf)
	if l.cur != s { // the connection ended under our hands
		return gnet.None
	}
	l.cur = nil
	if l.ackDue {
		l.sendDeliveryAck(s) // also of a session that has just been closed: what it acknowledged need not come again
	}
	if s.state == stateClosing {
		_, _ = c.Discard(-1)
		return gnet.None
	}
	if used > 0 {
		s.lastSeen = l.sec16()
		_, _ = c.Discard(used)
	}
	if left := len(buf) - used; left > 0 {
		l.notePartial(s, left, used > 0)
	} else {
		l.partials.drop(s)
	}
	return gnet.None
}

// firstWhole reports whether the first frame in the connection's buffer is whole.
func firstWhole(c gnet.Conn, total int) bool {
	if total < wire.LenSize {
		return false
	}
	head, _ := c.Peek(wire.LenSize)
	n, ok := wire.FrameLen(head)
	return ok && total >= wire.LenSize+n
}

// readFrames handles the whole frames in buf and returns how many bytes they are.
func (l *loop) readFrames(s *session, buf []byte) int {
	used := 0
	for {
		n, ok := wire.FrameLen(buf[used:])
		if !ok || len(buf)-used < wire.LenSize+n {
			return used
		}
		frame := buf[used+wire.LenSize : used+wire.LenSize+n]
		used += wire.LenSize + n
		l.readFrame(s, frame)
		if l.cur != s || s.state == stateClosing {
			return used
		}
	}
}

// minPlain is the least room for the plaintext of a frame; it grows to that of the longest frame since the last tidying.
const minPlain = 4 << 10

// readFrame opens one frame and handles its stanzas. Afterwards the session may be closing.
func (l *loop) readFrame(s *session, sealed []byte) {
	m := l.g.metrics
	m.framesUp.Inc()
	m.bytesUp.Add(float64(len(sealed) + wire.LenSize))
	if s.rxNonce == maxNonce {
		l.closeSession(s, stanza.ReasonNonceExhausted, 0)
		return
	}
	if cap(l.plain) < len(sealed) {
		l.plain = make([]byte, 0, max(minPlain, 1<<bits.Len(uint(len(sealed)))))
	}
	plain, err := l.sealer.Open(l.plain[:0], &s.rx, uint64(s.rxNonce), sealed)
	if err != nil {
		l.closeSession(s, stanza.ReasonDecryptFailed, 0)
		return
	}
	s.rxNonce++
	if err := stanza.DecodeFrame(plain, l.onStanza); err != nil && !errors.Is(err, errEnded) {
		l.closeSession(s, stanza.ReasonBadStanza, 0)
	}
}
