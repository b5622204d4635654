package gateway

import (
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

const tagMask = 0x7F

// dispatch handles one stanza from the session being read. It returns errEnded when that has closed the session, or the fault of a
// stanza that does not have the form of its tag.
func (l *loop) dispatch(v stanza.View) error {
	s := l.cur
	l.g.metrics.up[v.Tag&tagMask].Inc()
	if v.Has(stanza.AttrFrom) {
		return l.end(s, stanza.ReasonForbidden) // only the gateway says whom something is from
	}
	switch v.Tag {
	case stanza.TagMessage:
		m, err := stanza.ParseMessageUp(v)
		if err != nil {
			return err
		}
		return l.forward(s, m.ID, m.Account, v.Raw())
	case stanza.TagRead:
		r, err := stanza.ParseReadUp(v)
		if err != nil {
			return err
		}
		return l.forward(s, r.ID, r.Account, v.Raw())
	case stanza.TagDeliveryAck:
		a, err := stanza.ParseDeliveryAck(v)
		if err != nil {
			return err
		}
		return l.acknowledged(s, a.Count)
	case stanza.TagQuery:
		q, err := stanza.ParseQuery(v)
		if err != nil {
			return err
		}
		l.query(s, &q, v.Raw())
		return nil
	case stanza.TagPing:
		p, err := stanza.ParsePing(v)
		if err != nil {
			return err
		}
		l.ping(s, p)
		return nil
	case stanza.TagClose:
		if _, err := stanza.ParseClose(v); err != nil {
			return err
		}
		return l.end(s, stanza.ReasonPeerClosed)
	case stanza.TagBind, stanza.TagRegister:
		return l.end(s, stanza.ReasonBadStanza) // once per connection
	}
	return nil // a later version's: skipped, and counted by its number
}

// end closes the session being read.
func (l *loop) end(s *session, reason stanza.Reason) error {
	l.closeSession(s, reason, 0)
	return errEnded
}

// ping answers a ping; it may announce another interval.
func (l *loop) ping(s *session, p stanza.Ping) {
	if p.Interval != 0 {
		s.setInterval(uint64(p.Interval), l.g.cfg.DefaultPing.D())
	}
	l.scratch = stanza.Pong{}.Append(l.scratch[:0])
	l.push(s, l.scratch)
}

// forward sends a message or a read receipt, as its client encoded it, to the directory of the account it is for.
func (l *loop) forward(s *session, id uint64, to stanza.Account, raw []byte) error {
	size := uint32(len(raw))
	switch {
	case len(raw) > l.g.maxMessage:
		l.refuse(s, id, stanza.ReasonTooLarge, 0)
		return nil
	case !l.room(s, size):
		if s.flags&flagWarned != 0 {
			l.closeRetry(s, stanza.ReasonWindow)
			return errEnded
		}
		s.flags |= flagWarned
		l.refuse(s, id, stanza.ReasonWindow, jitter(l.g.cfg.RetryAfter.D()))
		return nil
	case !l.takeSend(s):
		l.refuse(s, id, stanza.ReasonBusy, l.rateRetry())
		return nil
	}
	l.env = link.Envelope{
		Kind: link.KindMessage, Group: l.g.dirOf(to), Slot: s.self, Gen: l.slots.Gen(s.slot()),
		Account: s.account, Device: s.dev(), ID: id, Charge: size, Payload: raw,
	}
	if reason := l.g.sendHard(&l.env); reason != 0 {
		l.refuse(s, id, reason, jitter(l.g.cfg.RetryAfter.D()))
		if reason == stanza.ReasonUnavailable {
			l.owe(s)
		}
		return nil
	}
	l.charge(s, size)
	l.note(s, id)
	if to != s.account {
		l.contact(s.account, to)
	}
	return nil
}

// refuse answers message id of s; it is not counted as unanswered.
func (l *loop) refuse(s *session, id uint64, reason stanza.Reason, retryAfter uint32) {
	r := stanza.Refused{ID: id, Reason: reason, RetryAfter: retryAfter}
	l.scratch = r.Append(l.scratch[:0])
	l.push(s, l.scratch)
	l.g.metrics.refusals.Inc(reason)
	l.g.lines.Write("message refused", reason, s.account, s.dev())
}

// rateRetry is the retry-after of what was over a session's rate: half a second refills enough to go on.
func (l *loop) rateRetry() uint32 { return jitter(500 * time.Millisecond) }

func appendRetryAll(dst []byte) []byte { return stanza.RetryAll{}.Append(dst) }

// note tells the sender's directory every noteEvery ids how far the device has counted, so that a restored home cannot use ids again.
func (l *loop) note(s *session, id uint64) {
	mark := uint16(id >> noteShift)
	if mark == s.noted {
		return
	}
	l.env = link.Envelope{Kind: link.KindNote, Group: l.g.dirOf(s.account), Account: s.account, Device: s.dev(), ID: id}
	if l.g.sendSoft(&l.env) {
		s.noted = mark // otherwise the next message tries again
	}
}

// contact tells the sender's directory whom it wrote to: that account is no stranger to the sender any more. A hint, said once in a
// while for a pair.
func (l *loop) contact(from, to stanza.Account) {
	if !l.contacts.first(from, to) {
		return
	}
	l.env = link.Envelope{Kind: link.KindContact, Group: l.g.dirOf(from), Account: from, ID: uint64(to)}
	l.g.sendSoft(&l.env)
}

const (
	contactSlots  = 4096
	contactExpiry = 600 // seconds
)

// contacts remembers the pairs that were said lately, direct-mapped: a pair that shares a place with another is said more often.
type contacts struct {
	pairs   []uint64 // hash of the pair, 0: none; made with the first
	cleared uint32
}

// first reports whether the pair has not been said lately, and remembers it.
func (c *contacts) first(from, to stanza.Account) bool {
	h := mix(uint64(from)*0x9E3779B97F4A7C15 ^ mix(uint64(to)))
	if c.pairs == nil {
		c.pairs = make([]uint64, contactSlots)
	}
	at := &c.pairs[h%contactSlots]
	if *at == h {
		return false
	}
	*at = h
	return true
}

// age forgets everything once in contactExpiry, and forget at once: a new leader of a directory knows no contacts.
func (c *contacts) age(sec uint32) {
	if sec-c.cleared >= contactExpiry {
		c.cleared = sec
		c.forget()
	}
}

func (c *contacts) forget() { c.pairs = nil }

// mix is the finalizer of MurmurHash3: it spreads account numbers, nothing more.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xFF51AFD7ED558CCD
	x ^= x >> 33
	x *= 0xC4CEB9FE1A85EC53
	return x ^ x>>33
}
