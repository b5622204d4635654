package gateway

import (
	"errors"
	"time"

	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// stage is what a connection before message 3 waits for.
type stage uint8

const (
	stagePreamble   stage = iota
	stageHello            // message 1, or one resume frame before it
	stageHelloStep        // message 1 waits to be read and answered with message 2
	stageFinish           // message 3
	stageFinishStep       // message 3 waits to be read; the client must be silent until bound
	stageResumeStep       // a resume whose ticket was good waits to be answered; the client has nothing to say meanwhile
	stageBind             // the one frame with bind behind a resumption
	stageProxy            // before the preamble: the PROXY header of a balancer
)

// maxEarly is how many bytes a connection may have buffered before it is bound.
const maxEarly = 1024

// handshake is a connection before it has a slot: the only state of ours on the heap for a single connection, gone with message
// 3. Loop only.
type handshake struct {
	conn       gnet.Conn
	source     source
	stage      stage
	resumed    bool   // there was a resume frame: the only one
	check      bool   // a balancer's connection that has said nothing, or LOCAL and nothing else: a health check
	partial    int32  // 1 + index of its entry in the loop's partials, 0: none
	opened     uint64 // tick
	transcript []byte // every byte both ways before message 1, the handshake's prologue
	prev, next *handshake

	responder *wire.Responder
	resume    *resumption // of a ticket that was good
	gone      bool        // the connection has ended

	frame    []byte // what the step waits with, a copy
	nextStep *handshake
}

// handshakeList is the connections before message 3, oldest first: all have the same deadline.
type handshakeList struct{ root handshake }

func (h *handshakeList) init() { h.root.prev, h.root.next = &h.root, &h.root }

func (h *handshakeList) add(n *handshake) {
	n.prev, n.next = h.root.prev, &h.root
	n.prev.next, n.next.prev = n, n
}

func (h *handshakeList) empty() bool { return h.root.next == &h.root }

func (h *handshake) unlink() {
	if h.prev != nil {
		h.prev.next, h.next.prev = h.next, h.prev
		h.prev, h.next = nil, nil
	}
}

// endEarly takes a connection out of the list: it is a session now, or is over.
func (l *loop) endEarly(h *handshake) {
	h.unlink()
	h.gone, h.frame = true, nil
	h.resume.wipe()
	l.partials.dropEarly(h)
}

// expire closes the connections that have been at it for too long.
func (h *handshakeList) expire(l *loop) {
	for n := h.root.next; n != &h.root && l.tick-n.opened >= l.g.handshakeTicks; n = h.root.next {
		l.refuseNow(n, stanza.ReasonHandshakeTimeout, 0)
	}
}

func (h *handshakeList) refuseAll(l *loop, reason stanza.Reason, retryAfter time.Duration) {
	for n := h.root.next; n != &h.root; n = h.root.next {
		l.refuseNow(n, reason, time.Duration(jitter(retryAfter))*time.Millisecond)
	}
}

// turnAway writes the reason, unauthenticated as it is, and has gnet close the connection: the result is for OnTraffic to return.
func (l *loop) turnAway(h *handshake, reason stanza.Reason, retryAfter time.Duration) gnet.Action {
	l.g.refused(reason, 0, 0)
	return l.sayRefused(h, reason, retryAfter)
}

// sayRefused is turnAway for who has counted and logged it.
func (l *loop) sayRefused(h *handshake, reason stanza.Reason, retryAfter time.Duration) gnet.Action {
	l.endEarly(h) // the end of the connection has nothing to add
	l.scratch = wire.AppendRefused(l.scratch[:0], reason, retryAfter)
	_, _ = h.conn.Write(l.scratch) // an error has closed the connection already
	return gnet.Close
}

// refuseNow is turnAway for callers outside of gnet's callbacks.
func (l *loop) refuseNow(h *handshake, reason stanza.Reason, retryAfter time.Duration) {
	l.turnAway(h, reason, retryAfter)
	l.closeConn(h.conn)
}

// onHandshake goes on with a connection before message 3 as far as its buffered bytes allow; what is left counts as an unfinished frame.
func (l *loop) onHandshake(h *handshake, c gnet.Conn) gnet.Action {
	if action := l.readEarly(h, c); action != gnet.None || h.gone {
		return action
	}
	return l.noteEarly(h, c.InboundBuffered())
}

func (l *loop) readEarly(h *handshake, c gnet.Conn) gnet.Action {
	for !h.gone {
		n := c.InboundBuffered()
		switch {
		case n == 0:
			return gnet.None
		case h.stage == stageFinishStep, h.stage == stageResumeStep, h.stage == stageHelloStep && n > maxEarly:
			return l.turnAway(h, stanza.ReasonEarlyData, 0)
		case h.stage == stageHelloStep:
			return gnet.None // looked at when the step is done: no event will come for what is here already
		case h.stage == stageProxy:
			if whole, action := l.readProxy(h, c, n); !whole {
				return action
			}
		case h.stage == stagePreamble:
			h.check = false
			if n < wire.PreambleSize {
				return gnet.None
			}
			if reason := l.readPreamble(h, c); reason != 0 {
				return l.turnAway(h, reason, 0)
			}
		default:
			whole, action := l.readHandshakeFrame(h, c, n)
			if !whole || action != gnet.None {
				return action
			}
		}
	}
	return gnet.None
}

func (l *loop) readPreamble(h *handshake, c gnet.Conn) stanza.Reason {
	b, _ := c.Peek(wire.PreambleSize)
	if err := wire.CheckPreamble(b); err != nil {
		if errors.Is(err, wire.ErrVersion) {
			return stanza.ReasonVersion
		}
		return stanza.ReasonBadPreamble
	}
	h.transcript = append(h.transcript, b...)
	h.stage = stageHello
	_, _ = c.Discard(wire.PreambleSize)
	return 0
}

// readHandshakeFrame takes one frame of the handshake, if it is whole.
func (l *loop) readHandshakeFrame(h *handshake, c gnet.Conn, n int) (whole bool, action gnet.Action) {
	if n < wire.LenSize {
		return false, gnet.None
	}
	head, _ := c.Peek(wire.LenSize)
	size, _ := wire.FrameLen(head)
	if size > maxEarly {
		return false, l.turnAway(h, stanza.ReasonEarlyData, 0)
	}
	if n < wire.LenSize+size {
		return false, gnet.None
	}
	frame, _ := c.Peek(wire.LenSize + size)
	if h.stage == stageBind {
		return true, l.resumedFrame(h, c, frame)
	}
	action = l.handshakeFrame(h, frame)
	if !h.gone {
		_, _ = c.Discard(wire.LenSize + size)
	}
	return true, action
}

// handshakeFrame handles one whole frame, length prefix included. Borrows it.
func (l *loop) handshakeFrame(h *handshake, frame []byte) gnet.Action {
	body := frame[wire.LenSize:]
	if h.stage == stageFinish {
		return l.submit(h, body, stageFinishStep)
	}
	kind, err := wire.FrameKind(body)
	switch {
	case err == nil && kind == wire.KindXX:
		if !l.g.sources.handshakes.allow(h.source, l.g.tickNow()) {
			return l.turnAway(h, stanza.ReasonBusy, time.Duration(jitter(l.g.cfg.RetryAfter.D()))*time.Millisecond)
		}
		h.responder = wire.NewResponder(l.g.deps.Static, l.g.deps.Cert, nil)
		return l.submit(h, body, stageHelloStep)
	case err == nil && kind == wire.KindResume && !h.resumed:
		return l.resume(h, frame)
	}
	return l.turnAway(h, stanza.ReasonBadFrame, 0)
}

// submit has a frame wait for its step.
func (l *loop) submit(h *handshake, body []byte, next stage) gnet.Action {
	was := h.stage
	if h.stage = next; !l.steps.add(h) {
		h.stage = was
		return l.turnAway(h, stanza.ReasonOverload, time.Duration(jitter(l.g.cfg.RetryAfter.D()))*time.Millisecond)
	}
	h.frame = append([]byte(nil), body...)
	return gnet.None
}
