package swarm

import (
	"time"

	"linecard.example/internal/stanza"
)

// letterState is where an unacked message is.
type letterState uint8

const (
	toSend letterState = iota
	flying
	turnedDown
)

// letter is one unacked message: what is needed to make it again.
type letter struct {
	id     uint64
	number uint64
	meant  int64 // when it was to be sent
	sent   int64 // when it was last sent
	state  letterState
}

// flow is a stream of messages: those of a pair, or the letters of one sender. Its recipient's state is here as well.
type flow struct {
	from, to uint32 // sessions; of letters both are the sender
	account  uint64
	version  uint64
	device   uint16
	jobs     []Letter

	// sender
	ring     []letter // unacked, ascending
	next     uint64   // number of the next new message
	quota    uint64
	released uint64 // messages that may have been begun by now
	flying   int
	down     int   // refused, to go again when all that is under way is answered
	hold     int64 // nothing goes before; 0: no wait
	unled    bool  // because nobody led where a message went: a retry ends it
	gaps     int   // refusals with gap in a row
	refusals int   // others in a row
	silences int   // resends without an answer
	sure     bool  // the server remembers the stream: more than one may be under way

	// recipient
	want     uint64 // number of the next message
	toGen    uint32 // the connection that the last one came by
	ackEvery uint16
	reads    []uint64 // ids to be said read
	read     letter   // the read receipt that is unanswered; id 0: none
	reading  []uint64 // its ids
}

const (
	resendFirst = 5 * time.Second // gateway/client: 5, 10, 20... s
	resendMost  = 5 * time.Minute
	maxReads    = 1024
)

// overdue has everything sent again that was not answered in time.
func (f *flow) overdue(now int64) {
	if f.flying == 0 {
		return
	}
	wait := min(resendFirst<<min(f.silences, 8), resendMost)
	for i := range f.ring {
		if f.ring[i].state == flying && now-f.ring[i].sent >= int64(wait) {
			f.silences++
			f.restart()
			return
		}
	}
}

// restart makes everything unacked go again, in its order.
func (f *flow) restart() {
	for i := range f.ring {
		f.ring[i].state = toSend
	}
	f.flying, f.down, f.hold = 0, 0, 0
	f.read.state = toSend
}

// flowUp goes on after a bind or a retry.
func (l *loop) flowUp(n uint32, s *session) {
	l.traffic.flows[s.flow-1].renew(n)
	l.markDirty(n, s)
}

// flowRetry is flowUp after a retry, which ends no wait but that for a leader.
func (l *loop) flowRetry(n uint32, s *session) {
	f := l.traffic.flows[s.flow-1]
	hold := f.hold
	l.flowUp(n, s)
	if f.from == n && !f.unled {
		f.hold = hold
	}
}

// renew makes what one side of the flow has unanswered go again.
func (f *flow) renew(n uint32) {
	if f.from == n {
		f.restart()
		return
	}
	f.read.state = toSend
}

// flowDown stops a side of the flow whose connection is gone.
func (l *loop) flowDown(n uint32, s *session) { l.traffic.flows[s.flow-1].renew(n) }

// appendMessages appends what a session's flow lets it say, as much as fits into a frame.
func (l *loop) appendMessages(n uint32, s *session, plain []byte) []byte {
	t := l.traffic
	f := t.flows[s.flow-1]
	if f.from != n {
		return l.appendRead(t, f, s, plain)
	}
	now := l.now()
	if f.hold > now || f.down > 0 && f.flying > 0 {
		return plain
	}
	f.hold = 0
	for i := 0; i < len(f.ring) && len(plain) < frameFill; i++ {
		if f.ring[i].state == flying {
			continue
		}
		if !f.sure && f.flying > 0 {
			return plain // the first message of a stream goes alone
		}
		if f.ring[i].state == turnedDown {
			f.down--
		}
		if f.ring[i].sent != 0 {
			t.result.Resent++
		}
		plain = l.appendMessage(t, f, i, now, plain)
	}
	for len(f.ring) < t.inFlight && len(plain) < frameFill && f.next < f.released && f.next < f.quota && (f.sure || len(f.ring) == 0) {
		if t.p.Rate <= 0 && now >= t.stop || t.over {
			break
		}
		f.begin(t, s, now)
		plain = l.appendMessage(t, f, len(f.ring)-1, now, plain)
	}
	return plain
}

// begin numbers a new message.
func (f *flow) begin(t *traffic, s *session, now int64) {
	s.top++
	m := letter{id: s.top, number: f.next, meant: now}
	pair := uint64(s.flow - 1)
	switch {
	case t.kind == kindLetters:
		job := f.jobs[f.next]
		f.account, f.device, f.version, m.number = job.Account, uint16(job.Device), 1, uint64(job.Number)
	case t.p.Rate > 0:
		m.meant = t.meant(f.next*uint64(len(t.flows)) + pair)
	}
	if t.kind == kindPairs {
		m.number |= pair << 32
	}
	f.next++
	f.ring = append(f.ring, m)
	t.result.Sent++
	t.unacked++
	t.moved, t.advanced = now, now
}

// appendMessage appends message i of the ring. `after` is the one before it there, the highest unacked below it.
func (l *loop) appendMessage(t *traffic, f *flow, i int, now int64, plain []byte) []byte {
	m := &f.ring[i]
	m.sent, m.state = now, flying
	f.flying++
	l.count.Sent++
	p := payload{kind: t.kind, run: t.run, number: m.number, time: l.clock + m.meant}
	l.cipher = appendPayload(l.cipher[:0], &p, t.p.Size)
	l.body = stanza.AppendCipher(l.body[:0], stanza.Device(f.device), l.cipher)
	up := stanza.MessageUp{ID: m.id, Account: stanza.Account(f.account), Version: f.version, Body: l.body}
	if i > 0 {
		up.After = f.ring[i-1].id
	}
	return up.Append(plain)
}

// onAck takes acked messages out of the flow.
func (l *loop) onAck(n uint32, s *session, v stanza.View) error {
	ack, err := stanza.ParseAck(v)
	if err != nil || s.flow == 0 {
		return err
	}
	t, now := l.traffic, l.now()
	f := t.flows[s.flow-1]
	for ids := stanza.Packed(ack.IDs); ; {
		id, ok := ids.Next()
		if !ok {
			break
		}
		if f.from != n {
			f.readAcked(id)
			continue
		}
		m, ok := f.take(id)
		if !ok {
			continue
		}
		l.count.Acked++
		t.result.Acked++
		t.unacked--
		l.releaseLetter(t)
		if m.meant >= t.warm {
			t.result.Ack.Record(time.Duration(now - m.meant))
		}
		f.sure = t.kind == kindPairs // letters go to another account each
		f.gaps, f.refusals, f.silences = 0, 0, 0
	}
	t.moved, t.advanced = now, now
	l.markDirty(n, s)
	l.step(t, now)
	return nil
}

// take removes a message from the ring.
func (f *flow) take(id uint64) (letter, bool) {
	for i, m := range f.ring {
		if m.id != id {
			continue
		}
		switch m.state {
		case flying:
			f.flying--
		case turnedDown:
			f.down--
		}
		f.ring = append(f.ring[:i], f.ring[i+1:]...)
		return m, true
	}
	return letter{}, false
}

// onRefused makes a refused message go again, behind the wait that its reason asks for, or gives it up.
func (l *loop) onRefused(n uint32, s *session, v stanza.View) error {
	r, err := stanza.ParseRefused(v)
	if err != nil || s.flow == 0 {
		return err
	}
	t, now := l.traffic, l.now()
	f := t.flows[s.flow-1]
	t.result.Refused[r.Reason.String()]++
	t.moved = now
	if f.from != n {
		f.readRefused(&r, now+int64(f.wait(&r, l.jitter())))
		return nil
	}
	if r.Reason.Final() {
		if _, ok := f.take(r.ID); ok {
			t.unacked--
			t.result.Rejected++
			l.releaseLetter(t)
		}
		l.step(t, now)
	} else {
		f.turnDown(&r, now, l.jitter())
		t.held = max(t.held, f.hold)
	}
	l.markDirty(n, s)
	return nil
}

// turnDown notes a retryable refusal. What is behind it in the stream will come back with gap; all of it goes again in order once
// the last answer is there.
func (f *flow) turnDown(r *stanza.Refused, now int64, jitter float64) {
	for i := range f.ring {
		if f.ring[i].id != r.ID || f.ring[i].state != flying {
			continue
		}
		f.ring[i].state = turnedDown
		f.flying--
		f.down++
	}
	if r.Reason == stanza.ReasonStaleDevices && r.Version != 0 {
		f.version = r.Version
	}
	until := now + int64(f.wait(r, jitter))
	if until >= f.hold {
		f.unled = r.Reason == stanza.ReasonUnavailable || r.Reason == stanza.ReasonRetry
	}
	f.hold = max(f.hold, until)
}

// wait is how long the stream is to be quiet; docs/protocol.md, section 12.
func (f *flow) wait(r *stanza.Refused, jitter float64) time.Duration {
	if r.RetryAfter > 0 {
		return time.Duration(float64(r.RetryAfter) * (0.5 + jitter) * float64(time.Millisecond))
	}
	if r.Reason == stanza.ReasonGap || r.Reason == stanza.ReasonStaleDevices {
		if f.gaps++; f.gaps <= 3*maxInFlight { // each message behind a refused one has its own
			return 0
		}
	}
	f.refusals++
	return min(time.Duration(float64(time.Second<<min(f.refusals-1, 6))*(0.5+jitter)), time.Minute)
}
