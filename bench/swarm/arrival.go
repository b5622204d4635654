package swarm

import (
	"time"

	"linecard.example/internal/stanza"
)

// onMessage checks a delivered message against what its order sent, and says after how many deliveries and how long it is acked.
func (l *loop) onMessage(n uint32, s *session, v stanza.View) (most uint16, wait time.Duration, err error) {
	m, err := stanza.ParseMessageDown(v)
	if err != nil {
		return 1, lightWait, err
	}
	p, ours, whole := parsePayload(m.Body)
	t := l.traffic
	switch {
	case !ours:
	case p.kind == kindLetters:
		l.letterArrived(&p, s, whole)
	case t == nil || t.run != p.run:
	default:
		return l.pairArrived(t, n, s, &m, &p, whole)
	}
	return 1, lightWait, nil
}

// pairArrived counts one message of a pair. Numbers of a pair ascend by one.
func (l *loop) pairArrived(t *traffic, n uint32, s *session, m *stanza.MessageDown, p *payload, whole bool) (uint16, time.Duration, error) {
	pair, number := p.number>>32, p.number&(1<<32-1)
	if !whole || pair >= uint64(len(t.flows)) || t.flows[pair].to != n || uint64(m.From) != l.slots.At(t.flows[pair].from).account ||
		len(m.Body) != t.p.Size {
		t.result.Corrupt++
		return 1, lightWait, nil
	}
	f, now := t.flows[pair], l.now()
	t.moved, t.advanced = now, now
	switch {
	case number == f.want:
	case number < f.want && s.gen != f.toGen:
		t.result.Redelivered++
		return f.ackEvery, t.p.AckWait, nil
	case number < f.want:
		t.result.Doubled++
		return f.ackEvery, t.p.AckWait, nil
	default:
		t.result.Disordered++
	}
	f.want, f.toGen = number+1, s.gen
	t.result.Delivered++
	if meant := p.time - l.clock; meant >= t.warm {
		t.result.Deliver.Record(time.Duration(now - meant))
	}
	if t.p.Reads && len(f.reads) < maxReads {
		f.reads = append(f.reads, m.ID)
		l.markDirty(n, s)
	}
	l.step(t, now)
	return f.ackEvery, t.p.AckWait, nil
}

// onReceipt counts the messages of this session's flow that a receipt names.
func (l *loop) onReceipt(n uint32, s *session, v stanza.View) error {
	r, err := stanza.ParseReceiptDown(v)
	if err != nil || s.flow == 0 {
		return err
	}
	t := l.traffic
	if t.flows[s.flow-1].from != n {
		return nil
	}
	count := uint64(0)
	for ids := stanza.Packed(r.IDs); ; count++ {
		if _, ok := ids.Next(); !ok {
			break
		}
	}
	if r.Tag == stanza.TagRead {
		t.result.Reads += count
	} else {
		t.result.Receipts += count
	}
	l.step(t, l.now())
	return nil
}

// appendRead appends a read receipt, one at a time for each recipient: then it needs no `after`.
func (l *loop) appendRead(t *traffic, f *flow, s *session, plain []byte) []byte {
	now := l.now()
	if !t.p.Reads || f.read.state == flying || f.read.meant > now {
		return plain
	}
	if f.read.id == 0 {
		if len(f.reads) == 0 {
			return plain
		}
		k := min(len(f.reads), stanza.MaxPacked)
		f.reading = append(f.reading[:0], f.reads[:k]...)
		f.reads = append(f.reads[:0], f.reads[k:]...)
		s.top++
		f.read.id = s.top
	}
	f.read.state, f.read.sent = flying, now
	sender := l.slots.At(f.from)
	l.body = stanza.AppendPacked(l.body[:0], f.reading)
	up := stanza.ReadUp{ID: f.read.id, Account: stanza.Account(sender.account), Device: stanza.Device(sender.device), IDs: l.body}
	return up.Append(plain)
}

func (f *flow) readAcked(id uint64) {
	if f.read.id == id {
		f.read = letter{}
	}
}

// readRefused has the receipt go again at a time, or forgets it.
func (f *flow) readRefused(r *stanza.Refused, at int64) {
	switch {
	case f.read.id != r.ID:
	case r.Reason.Final():
		f.read = letter{}
	default:
		f.read.state, f.read.meant = turnedDown, at
	}
}

// readsDue reports whether a read receipt is to be said, or again.
func (f *flow) readsDue(now int64) bool {
	if f.read.state == flying && now-f.read.sent >= int64(resendFirst) {
		f.read.state = toSend
	}
	return f.read.state != flying && (f.read.id != 0 || len(f.reads) > 0)
}
