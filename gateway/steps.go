package gateway

import (
	"errors"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// step is a part of a handshake with Diffie-Hellman in it. Their order is the order in which a loop does them: whoever comes back with
// a ticket is a client and costs a third of an XX; what has begun is finished before more begins.
type step uint8

const (
	stepResume step = iota // answer a resume
	stepFinish             // message 3
	stepBegin              // messages 1 and 2
	stepCount
)

var stepNames = [stepCount]string{"resume", "finish", "begin"}

func (s step) String() string { return stepNames[s] }

// stepOf returns the step that a connection waits for in a stage.
func stepOf(s stage) step {
	switch s {
	case stageResumeStep:
		return stepResume
	case stageFinishStep:
		return stepFinish
	}
	return stepBegin
}

// fairStep: each time after so many steps it is the others' turn before resumes. While tickets come faster than they are answered, in a storm
// for minutes, nobody else would get in, and what has begun would all be in vain.
const fairStep = 8

// turnSteps is how many steps a loop does before it looks at its sessions again. A step takes up to 0.1 ms.
const turnSteps = 4

// handshakeSteps is what a loop has to do for connections that are not sessions yet: the only expensive thing that a stranger can ask for. A turn does a
// few of them, so that messages wait for a few at most, however many wait. Loop only, but for the counts.
type handshakeSteps struct {
	queues [stepCount]stepQueue
	limit  int // of each queue
	left   int // steps that may be done before the next turn
	taken  uint
}

// stepQueue is first in, first out, linked through the handshakes: one waits for one step at a time.
type stepQueue struct {
	first, last *handshake
	count       atomic.Int32 // those that have gone meanwhile included
}

// add queues h for the step of its stage; false when there is no room.
func (s *handshakeSteps) add(h *handshake) bool {
	if !s.room(stepOf(h.stage)) {
		return false
	}
	q := &s.queues[stepOf(h.stage)]
	if q.last == nil {
		q.first = h
	} else {
		q.last.nextStep = h
	}
	q.last = h
	q.count.Add(1)
	return true
}

// room reports whether one more may wait for a step.
func (s *handshakeSteps) room(of step) bool { return int(s.queues[of].count.Load()) < s.limit }

// next takes the handshake that goes first, nil when there is none.
func (s *handshakeSteps) next() *handshake {
	first := int(stepResume)
	if s.taken++; s.taken%fairStep == 0 {
		first = int(stepFinish)
	}
	for i := range s.queues {
		q := &s.queues[(first+i)%len(s.queues)]
		for h := q.first; h != nil; h = q.first {
			if q.first, h.nextStep = h.nextStep, nil; q.first == nil {
				q.last = nil
			}
			q.count.Add(-1)
			if !h.gone {
				return h
			}
		}
	}
	return nil
}

// empty reports whether nothing waits.
func (s *handshakeSteps) empty() bool {
	for i := range s.queues {
		if s.queues[i].first != nil {
			return false
		}
	}
	return true
}

// full reports whether nothing further can begin, neither by a ticket nor by XX.
func (s *handshakeSteps) full() bool {
	return !s.room(stepBegin) && !s.room(stepResume)
}

// doSteps does as many steps as the turn has left, and asks for another turn if that was not all.
func (l *loop) doSteps() {
	for ; l.steps.left > 0; l.steps.left-- {
		h := l.steps.next()
		if h == nil {
			return
		}
		if l.doStep(h) == gnet.Close {
			l.closeConn(h.conn)
		}
	}
	if !l.steps.empty() {
		l.comeBack()
	}
}

// comeBack has the loop take another turn, but look at its sockets before. A wake would not do: gnet runs what a task posts before it polls
// again, so that all steps that wait would be done in one go. A byte on the loop's own connection is an event among the others.
func (l *loop) comeBack() {
	switch {
	case l.returning:
	case l.far < 0: // not started yet
		l.wake()
	default:
		if _, err := unix.Write(l.far, oneByte); err != nil {
			l.wake()
			return
		}
		l.returning = true
	}
}

var oneByte = []byte{1}

// doStep does the step that a handshake waited for, and goes on with what the connection has said since.
func (l *loop) doStep(h *handshake) gnet.Action {
	frame := h.frame
	h.frame = nil
	switch stepOf(h.stage) {
	case stepResume:
		return l.answerResume(h, frame)
	case stepFinish:
		f, err := h.responder.ReadFinish(frame)
		defer wipe(&f)
		h.responder = nil
		if err != nil {
			return l.stepFailed(h, err)
		}
		r, reason := l.g.parseRequest(f.Payload)
		return l.admit(h, &f, &r, reason)
	}
	if err := h.responder.ReadHello(h.transcript, frame); err != nil {
		return l.stepFailed(h, err)
	}
	reply, err := h.responder.AppendReply(make([]byte, 0, wire.MaxReply))
	if err != nil {
		return l.stepFailed(h, err)
	}
	h.stage, h.transcript = stageFinish, nil
	if _, err := h.conn.Write(reply); err != nil {
		return gnet.None // closed already
	}
	return l.onHandshake(h, h.conn)
}

// wipe forgets the keys of a handshake that a slot has now.
func wipe(f *wire.Finish) {
	clear(f.RX[:])
	clear(f.TX[:])
	clear(f.Payload)
}

// stepFailed turns a connection away whose handshake has come to nothing.
func (l *loop) stepFailed(h *handshake, err error) gnet.Action {
	if errors.Is(err, wire.ErrKind) || errors.Is(err, wire.ErrHandshakeFrame) {
		return l.turnAway(h, stanza.ReasonBadFrame, 0)
	}
	return l.turnAway(h, stanza.ReasonHandshakeFailed, 0)
}

// exportSteps registers the gauges; all loops are there.
func (g *Gateway) exportSteps(reg prometheus.Registerer) {
	for s := range stepCount {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "linecard_gateway_handshake_queue", Help: "Handshake steps waiting for their loop.",
			ConstLabels: prometheus.Labels{"step": s.String()},
		}, func() (n float64) {
			for _, l := range g.loops {
				n += float64(l.steps.queues[s].count.Load())
			}
			return n
		}))
	}
}
