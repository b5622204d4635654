package gateway

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// backlog knows the sessions whose sockets did not take everything that was written to them. gnet says nothing when a socket takes
// the rest, so they are looked at with every tick, and only they: idle sessions cost nothing. The sums are for an operator's eyes; what
// bounds a slow client is that deliveries are held back, and outbound_cap for everything else. Loop only, but for the sums.
type backlog struct {
	slow     []slowSession
	next     int // of slow, to be looked at
	sum, top int // of those before it, since the pass began

	bytes, peak, sessions atomic.Int64 // as of the last pass
	partial               atomic.Int64 // bytes of unfinished frames
}

type slowSession struct{ slot, gen uint32 }

// noteSlow says that some bytes for s wait in this process.
func (l *loop) noteSlow(s *session) {
	if s.flags&flagSlow == 0 {
		s.flags |= flagSlow
		l.backlog.slow = append(l.backlog.slow, slowSession{s.slot(), l.slots.Gen(s.slot())})
	}
}

// holdBox is how much of a session's outbox is written before the turn's end, to see whether the socket takes it. With one message
// more it is what may wait in the process for a client that does not read.
const holdBox = 8 << 10

// holds reports whether deliveries to s are left to the queue that they come from: whatever waits here, beyond what the kernel has taken, is
// kept twice. Their numbers are passed over in silence until the socket has taken everything, or the session has ended: then s is nobody's.
func (l *loop) holds(s *session) bool {
	if s.flags&flagHeld != 0 {
		return true
	}
	slot, gen := s.slot(), l.slots.Gen(s.slot())
	if at := l.side[slot/peerChunk].boxes[slot%peerChunk]; at != 0 && len(l.boxes[at-1].plain) >= holdBox {
		l.writeEarly(&l.boxes[at-1])
	}
	if l.slots.Get(slot, gen) == nil || s.state == stateClosing {
		return true
	}
	if l.conn(slot).OutboundBuffered() == 0 {
		return false
	}
	s.flags |= flagHeld
	l.noteSlow(s)
	return true
}

// writeEarly writes what is in an outbox, which stays the session's. The session may have ended afterwards.
func (l *loop) writeEarly(b *outbox) {
	l.writeBox(b)
	b.plain, b.cuts, b.acks, b.count = b.plain[:0], b.cuts[:0], b.acks[:0], 0
}

// slowPage is how many slow sessions a tick looks at: with thousands of them each is looked at once in seconds.
const slowPage = 256

// sumBacklog looks at the next slow sessions, and brings the sums up to date when all have been looked at.
func (l *loop) sumBacklog() {
	b := &l.backlog
	for range slowPage {
		if b.next == len(b.slow) {
			break
		}
		if n := l.waits(b.slow[b.next]); n > 0 {
			b.sum, b.top = b.sum+n, max(b.top, n)
			b.next++
			continue
		}
		last := len(b.slow) - 1
		b.slow[b.next] = b.slow[last]
		b.slow = b.slow[:last]
	}
	if b.next == len(b.slow) {
		b.bytes.Store(int64(b.sum))
		b.peak.Store(int64(b.top))
		b.sessions.Store(int64(len(b.slow)))
		b.next, b.sum, b.top = 0, 0, 0
	}
	b.partial.Store(int64(l.partials.bytes))
}

// waits returns how many bytes wait for a session. With none it is slow no more, and gets what was left to its queue.
func (l *loop) waits(e slowSession) int {
	s := l.slots.Get(e.slot, e.gen)
	if s == nil {
		return 0
	}
	n := l.conn(e.slot).OutboundBuffered()
	if n == 0 {
		held := s.flags&flagHeld != 0
		s.flags &^= flagSlow | flagHeld
		if held && s.state == stateBound {
			l.sendExpect(s, s.expects())
		}
	}
	return n
}

// exportBacklog registers the gauges; all loops are there.
func (g *Gateway) exportBacklog(reg prometheus.Registerer) {
	export := func(name, help string, value func() int64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "linecard_gateway_" + name, Help: help},
			func() float64 { return float64(value()) }))
	}
	sum := func(of func(*backlog) *atomic.Int64) func() int64 {
		return func() (n int64) {
			for _, l := range g.loops {
				n += of(&l.backlog).Load()
			}
			return n
		}
	}
	export("outbound_bytes", "Bytes that wait for clients slower than what is written to them.", sum(func(b *backlog) *atomic.Int64 { return &b.bytes }))
	export("outbound_sessions", "Sessions for which bytes wait.", sum(func(b *backlog) *atomic.Int64 { return &b.sessions }))
	export("outbound_peak_bytes", "The most that waits for one session.", func() (peak int64) {
		for _, l := range g.loops {
			peak = max(peak, l.backlog.peak.Load())
		}
		return peak
	})
	export("partial_bytes", "Bytes of unfinished frames.", sum(func(b *backlog) *atomic.Int64 { return &b.partial }))
}
