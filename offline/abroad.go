package offline

import (
	"encoding/binary"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// What is for an account of another region is admitted like everything else, by the same last ids, and waits in a queue of its own under
// the account and no device, in the group that the account's number has here. It leaves when the home region has it (drain.go). There it
// is admitted once more: what makes the path between exactly once is the last id of the stream in the home region.

// forwarded reports whether c comes from another region. Two rules differ. What names a message before it is never admitted ahead
// of that one, remembered stream or not: who sends is the other region's queue, which knows what was stored. And a device that is gone
// costs the message nothing but that device's part: its sender has its ack already, and cannot be asked to make it anew.
func (c *command) forwarded() bool { return c.op == opForward || c.op == opForwardRead }

// storeOut puts a message for another region into its queue.
func (s *state) storeOut(e shard.Entry, c *command) result {
	q := s.queue(keyOf(c.account, 0))
	switch {
	case s.broken != nil:
		return result{}
	case !room(q, c, len(c.body)):
		return result{verdict: refused, reason: stanza.ReasonQueueFull}
	}
	q.begin(e.Index, e.Seq)
	s.append(q, &record{kind: recordOut, index: e.Index, from: c.from, fromDevice: c.fromDevice, id: c.id, stamp: e.Stamp, body: c.body})
	return result{verdict: admitted, count: 1}
}

// parseOut returns the recipient and the id of a stanza for another region; zeros when it is none.
func parseOut(b []byte) (to stanza.Account, id uint64) {
	v, rest, err := stanza.Decode(b)
	if err != nil || len(rest) > 0 {
		return 0, 0
	}
	switch v.Tag {
	case stanza.TagMessage:
		if s, err := stanza.ParseMessageUp(v); err == nil && s.After == 0 {
			return s.Account, s.ID
		}
	case stanza.TagRead:
		if s, err := stanza.ParseReadUp(v); err == nil && s.After == 0 {
			return s.Account, s.ID
		}
	}
	return 0, 0
}

// withAfter appends the stanza of an outbound record to dst, with another after; 0 leaves it out. The record is one that parseOut takes.
func withAfter(dst, b []byte, after uint64) []byte {
	if v, _, err := stanza.Decode(b); err == nil {
		switch v.Tag {
		case stanza.TagMessage:
			if s, err := stanza.ParseMessageUp(v); err == nil && after < s.ID {
				s.After = after
				return s.Append(dst)
			}
		case stanza.TagRead:
			if s, err := stanza.ParseReadUp(v); err == nil && after < s.ID {
				s.After = after
				return s.Append(dst)
			}
		}
	}
	return append(dst, b...)
}

// A failure is an entry that the other region did not store, or not whole: its sequence as the distance below the command's upTo, and
// the reason. A command lists them by ascending distance.
func appendFailure(dst []byte, distance uint64, why stanza.Reason) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, distance), uint64(why))
}

// nextFailure takes the first failure off a list.
func nextFailure(b []byte) (distance uint64, why stanza.Reason, rest []byte, ok bool) {
	f := codec{b: b}
	f.uint(&distance, maxFailures)
	f.reason(&why)
	return distance, why, f.b, !f.bad
}

// maxFailures bounds a list: what one command ends is in a window.
const maxFailures = 1 << 10

func (c *command) checkFailures() error {
	next := uint64(0)
	for b := c.body; len(b) > 0; {
		distance, _, rest, ok := nextFailure(b)
		if !ok || distance < next || distance > c.upTo {
			return errCommand
		}
		next, b = distance+1, rest
	}
	return nil
}

// raiseFailure tells the sender of an entry that leaves if it failed: by a receipt, which is as durable as others are. A read receipt
// has nobody who waits for it.
func (s *state) raiseFailure(c *command, seq uint64, r *record, stamp int64) {
	for b := c.body; len(b) > 0; {
		distance, why, rest, ok := nextFailure(b)
		if !ok {
			return
		}
		if b = rest; c.upTo-distance == seq {
			if v, _, err := stanza.Decode(r.body); err == nil && v.Tag == stanza.TagMessage {
				s.raise(receiptKey{to: keyOf(r.from, r.fromDevice), from: c.account, why: why}, r.id, stamp)
			}
			return
		}
	}
}

// appendReceipt appends what a receipt envelope carries: a tag, with undelivered the reason, and packed ids.
func appendReceipt(dst []byte, why stanza.Reason, ids []uint64) []byte {
	if why == 0 {
		return stanza.AppendPacked(append(dst, byte(stanza.TagDelivered)), ids)
	}
	dst = binary.AppendUvarint(append(dst, byte(stanza.TagUndelivered)), uint64(why))
	return stanza.AppendPacked(dst, ids)
}

// receiptPayload reads it. why is 0 for delivered.
func receiptPayload(b []byte) (why stanza.Reason, packed []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	f := codec{b: b[1:]}
	switch stanza.Tag(b[0]) {
	case stanza.TagDelivered:
	case stanza.TagUndelivered:
		f.reason(&why)
	default:
		return 0, nil, false
	}
	return why, f.b, !f.bad && stanza.ValidPacked(f.b, stanza.MaxPacked) == nil
}

// ids returns the packed ids of what is away.
func (p *sending) ids() []byte {
	_, packed, _ := receiptPayload(p.packed)
	return packed
}
