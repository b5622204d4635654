package bench

import (
	"fmt"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/testkit"
)

// perPair is how many messages of a pair are under way at once.
const perPair = 4

// bodySize is the ciphertext of a message in bytes.
const bodySize = 80

// ring remembers when the last messages of a pair were sent; more than are ever under way.
const ring = 128

// pair is a sender, a, and a recipient, b. Its messages are numbered from 1, without gaps.
type pair struct {
	load *load
	a, b *testkit.Lean

	// under a's mutex
	sent, acked, delivered, receipted uint64
	at                                [ring]time.Time
	cipher                            []byte // the message's body; nil before the first

	ackTimes, deliveryTimes, receiptTimes samples
}

// newPair joins two devices that are not connected yet.
func newPair(l *load, a, b *testkit.Lean) *pair {
	p := &pair{load: l, a: a, b: b}
	a.Hooks = testkit.LeanHooks{Stanza: p.atSender, Pause: p.refill, Ended: l.s.fail}
	b.Hooks = testkit.LeanHooks{Stanza: p.atRecipient, Pause: p.nudge, Ended: l.s.fail}
	return p
}

// done is how many messages are no longer under way, as the load counts them. Caller holds a's mutex.
func (p *pair) done() uint64 {
	switch p.load.until {
	case untilReceipt:
		return min(p.acked, p.receipted)
	case untilDelivery:
		return min(p.acked, p.delivered)
	default:
		return p.acked
	}
}

// send appends the next message to what a says next. Caller holds a's mutex.
func (p *pair) send(now time.Time) {
	if p.cipher == nil {
		p.cipher = stanza.AppendCipher(nil, p.b.Bound.Device, make([]byte, bodySize))
	}
	p.sent++
	m := stanza.MessageUp{ID: p.sent, Account: p.b.Bound.Account, Version: p.b.Bound.Version, Body: p.cipher}
	if p.acked < p.sent-1 {
		m.After = p.sent - 1
	}
	p.a.Plain = m.Append(p.a.Plain)
	p.at[p.sent%ring] = now
}

// fill sends what the closed loop allows and reports whether that was anything. Caller holds a's mutex.
func (p *pair) fill() (any bool) {
	for p.load.running.Load() && p.sent-p.done() < perPair && p.sent < p.load.most {
		p.send(time.Now())
		any = true
	}
	return any
}

// refill is a's pause: a flushes by itself.
func (p *pair) refill() {
	p.a.Lock()
	p.fill()
	p.a.Unlock()
}

// nudge is b's pause: what b has got may be what a waited for.
func (p *pair) nudge() {
	if p.load.until == untilDelivery {
		p.kick()
	}
}

// kick makes a send what it may.
func (p *pair) kick() {
	p.a.Lock()
	defer p.a.Unlock()
	if p.fill() {
		if err := p.a.Flush(); err != nil {
			p.load.s.fail(err)
		}
	}
}

// atSender handles what a gets: acks and receipts.
func (p *pair) atSender(v stanza.View) error {
	switch v.Tag {
	case stanza.TagAck:
		ack, err := stanza.ParseAck(v)
		if err != nil {
			return err
		}
		return p.count(ack.IDs, &p.acked, &p.ackTimes, &p.load.acked)
	case stanza.TagDelivered:
		r, err := stanza.ParseReceiptDown(v)
		if err != nil {
			return err
		}
		p.load.receipts.Add(1)
		return p.count(r.IDs, &p.receipted, &p.receiptTimes, &p.load.receipted)
	}
	return fmt.Errorf("unexpected %s", v.Tag)
}

// count books packed ids, which must be the next ones.
func (p *pair) count(ids []byte, reached *uint64, times *samples, total *counter) error {
	now := time.Now()
	p.a.Lock()
	defer p.a.Unlock()
	for it := stanza.Packed(ids); ; {
		id, ok := it.Next()
		if !ok {
			return nil
		}
		if id != *reached+1 || id > p.sent {
			return fmt.Errorf("id %d after %d, %d sent", id, *reached, p.sent)
		}
		*reached = id
		total.Add(1)
		p.sample(times, id, now)
	}
}

// sample books a latency while the load wants them. Caller holds a's mutex.
func (p *pair) sample(times *samples, id uint64, now time.Time) {
	if p.load.sampling.Load() {
		*times = append(*times, int64(now.Sub(p.at[id%ring])))
	}
}

// atRecipient handles what b gets: messages, in order, each once.
func (p *pair) atRecipient(v stanza.View) error {
	if v.Tag != stanza.TagMessage {
		return fmt.Errorf("unexpected %s", v.Tag)
	}
	m, err := stanza.ParseMessageDown(v)
	if err != nil {
		return err
	}
	now := time.Now()
	p.a.Lock()
	defer p.a.Unlock()
	if m.From != p.a.Bound.Account || m.ID != p.delivered+1 || len(m.Body) != bodySize {
		return fmt.Errorf("message %d of account %d, %d bytes, after message %d", m.ID, m.From, len(m.Body), p.delivered)
	}
	p.delivered = m.ID
	p.load.delivered.Add(1)
	p.sample(&p.deliveryTimes, m.ID, now)
	return nil
}
