package client

import (
	"slices"
	"time"

	"linecard.example/internal/stanza"
)

// outbox decides what is transmitted when: order within streams, window, resends, holds. It reads no clock and does no I/O. Guarded by
// Client.mu.
type outbox struct {
	streams map[Account]*stream
	byID    map[uint64]*outMessage
	flight  map[uint64]*outMessage // the charged ones
	active  []*stream              // may have something to transmit
	turn    int                    // index in active: whose turn it is
	jitter  func() float64

	maxIDs, maxBytes int // window, from bound
	bytes            int // charged
	hold             time.Time
	payload          int64 // bytes of payloads, bounded by Options.OutboxBytes
}

const (
	resendFirst = 5 * time.Second // then 10, 20, ...
	resendMost  = 5 * time.Minute
	outboxAge   = 29 * 24 * time.Hour // a message this old fails here
	maxHold     = 10 * time.Minute
	quickTries  = 3 // gap and stale_devices are answered at once so many times; then with a growing wait
)

func newOutbox(jitter func() float64) outbox {
	return outbox{
		streams: map[Account]*stream{}, byID: map[uint64]*outMessage{}, flight: map[uint64]*outMessage{},
		jitter: jitter, maxIDs: 32, maxBytes: 256 << 10,
	}
}

// add queues a message behind the others of its stream. Ids must come ascending.
func (o *outbox) add(m *outMessage) {
	s := o.streams[m.rec.to]
	if s == nil {
		o.forgetEmpty()
		s = &stream{to: m.rec.to, probe: true}
		o.streams[s.to] = s
	}
	m.queued = true
	s.msgs = append(s.msgs, m)
	o.byID[m.rec.id] = m
	o.payload += int64(len(m.rec.payload))
	o.activate(s)
}

func (o *outbox) activate(s *stream) {
	if !s.active {
		s.active = true
		o.active = append(o.active, s)
	}
}

// deactivate takes the stream whose turn it is out of active.
func (o *outbox) deactivate() {
	last := len(o.active) - 1
	o.active[o.turn].active = false
	o.active[o.turn] = o.active[last]
	o.active[last] = nil
	o.active = o.active[:last]
}

// next returns a stream and the index of its message to transmit now; ok is false when there is nothing. The caller encodes it and
// calls transmitted, or sets needList, or removes it.
func (o *outbox) next(now time.Time, durable int64) (s *stream, i int, ok bool) {
	if o.hold.After(now) {
		return nil, 0, false
	}
	for range len(o.active) {
		if o.turn >= len(o.active) {
			o.turn = 0
		}
		s := o.active[o.turn]
		s.probing(now)
		i := s.next()
		if i < 0 {
			o.deactivate() // ack, refusal, resend or add bring it back
			continue
		}
		o.turn++
		m := s.msgs[i]
		if !s.needList && !s.hold.After(now) && m.lsn <= durable && (m.charged || len(o.flight) < o.maxIDs) {
			return s, i, true
		}
	}
	return nil, 0, false
}

// fits reports whether the window has room for size bytes of m. One message always goes, however large.
func (o *outbox) fits(m *outMessage, size int) bool {
	bytes := o.bytes
	if m.charged {
		bytes -= m.charge
	}
	return bytes == 0 || bytes+size <= o.maxBytes
}

// transmitted notes that m goes out now as a stanza of size bytes.
func (o *outbox) transmitted(m *outMessage, size int, now time.Time) {
	o.uncharge(m)
	m.queued, m.charged, m.charge = false, true, size
	o.flight[m.rec.id] = m
	o.bytes += size
	wait := resendMost
	if m.tries < 6 {
		wait = resendFirst << m.tries
	}
	m.tries++
	m.due = now.Add(wait)
}

func (o *outbox) uncharge(m *outMessage) {
	if m.charged {
		m.charged = false
		delete(o.flight, m.rec.id)
		o.bytes -= m.charge
	}
}

// drop takes a message out for good.
func (o *outbox) drop(m *outMessage) {
	s := o.streams[m.rec.to]
	o.uncharge(m)
	s.remove(s.find(m.rec.id))
	delete(o.byID, m.rec.id)
	o.payload -= int64(len(m.rec.payload))
	o.activate(s)
}

// acked handles an ack; nil when the id is not known (any more).
func (o *outbox) acked(id uint64, now time.Time) *outMessage {
	m := o.byID[id]
	if m == nil {
		return nil
	}
	s := o.streams[m.rec.to]
	s.probe, s.proved = false, now.Round(0) // by the wall clock: the monotonic one stops while the machine sleeps, the server's does not
	o.drop(m)
	return m
}

// refusal is a refused stanza.
type refusal struct {
	id         uint64
	reason     Reason
	retryAfter time.Duration
	last       uint64
	hasLast    bool
}

// refused handles a refusal. A final one takes the message out: those behind it that were transmitted already name its dead id in
// `after` and come back with gap, and `after` is computed anew. A retryable one rewinds the stream: the message keeps its id and goes
// again, after wait, before anything later. m is nil when the id is not known.
func (o *outbox) refused(r *refusal, now time.Time) (m *outMessage, final bool, wait time.Duration) {
	if m = o.byID[r.id]; m == nil {
		return nil, false, 0
	}
	if r.reason.Final() {
		o.drop(m)
		return m, true, 0
	}
	s := o.streams[m.rec.to]
	o.uncharge(m)
	m.tries = 0
	m.refused++
	from := s.find(r.id)
	if r.reason == stanza.ReasonGap && r.hasLast {
		from = min(from, s.find(r.last+1))
	}
	s.rewind(from)
	s.probe = true
	wait = o.refusalWait(r, m.refused)
	until := now.Add(wait)
	if r.reason == stanza.ReasonWindow { // says something about the session, not the stream
		o.hold = later(o.hold, until)
	} else {
		if !until.Before(s.hold) {
			s.unled = r.reason == stanza.ReasonUnavailable || r.reason == stanza.ReasonRetry
		}
		s.hold = later(s.hold, until)
	}
	o.activate(s)
	return m, false, wait
}

// refusalWait returns how long a stream rests after the nth refusal in a row of one message.
func (o *outbox) refusalWait(r *refusal, nth int) time.Duration {
	quick := r.reason == stanza.ReasonGap || r.reason == stanza.ReasonStaleDevices
	switch {
	case r.retryAfter > 0 && r.reason.Retry() != stanza.RetryBackoff:
		return spread(min(r.retryAfter, maxHold), o.jitter())
	case quick && nth <= quickTries:
		return 0
	case r.reason.Retry() == stanza.RetryBackoff:
		return fullJitter(nth-1, o.jitter())
	}
	return spread(min(time.Second<<min(nth-1, 6), time.Minute), o.jitter())
}

// resendDue queues what has had no answer for too long and reports whether there was any.
func (o *outbox) resendDue(now time.Time) (any bool) {
	for _, m := range o.flight {
		if !m.queued && !m.due.After(now) {
			m.queued, any = true, true
			o.activate(o.streams[m.rec.to])
		}
	}
	return any
}

// nextTime returns when next or resendDue may have something that they have not now; zero for never.
func (o *outbox) nextTime(now time.Time) (at time.Time) {
	earliest := func(t time.Time) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	earliest(o.hold)
	for _, s := range o.active {
		earliest(s.hold)
	}
	for _, m := range o.flight {
		if !m.queued {
			earliest(m.due)
		}
	}
	return at
}

// restart queues everything again, in order, and empties the window: after a new connection, or a retry stanza.
func (o *outbox) restart() {
	clear(o.flight)
	o.bytes = 0
	for _, s := range o.streams {
		for _, m := range s.msgs {
			m.charged, m.queued, m.tries = false, true, 0
		}
		s.needList = false
		if s.unled {
			s.hold, s.unled = time.Time{}, false // somebody leads again
		}
		o.activate(s)
	}
	o.forgetEmpty()
}

// forgetEmpty drops streams that hold nothing when there are many; it bounds the map.
func (o *outbox) forgetEmpty() {
	if len(o.streams) < maxStreams {
		return
	}
	o.active = slices.DeleteFunc(o.active, func(s *stream) bool { return len(s.msgs) == 0 })
	o.turn = 0
	for a, s := range o.streams {
		if len(s.msgs) == 0 {
			delete(o.streams, a)
		}
	}
}

// maxStreams is how many streams are remembered as proved; beyond it empty ones are forgotten, which costs each a probe.
const maxStreams = 4096

// tooOld takes out and returns what has become older than 29 days, by the device's clock.
func (o *outbox) tooOld(now time.Time) (old []*outMessage) {
	limit := now.Add(-outboxAge).UnixMilli()
	for _, m := range o.byID {
		if m.rec.created < limit {
			old = append(old, m)
		}
	}
	for _, m := range old {
		o.drop(m)
	}
	return old
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
