package offline

import (
	"bytes"
	"encoding/binary"
	"slices"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// pending are delivered receipts raised here that the shard of the messages' sender has not confirmed. Ids of one batch go in one
// envelope; a batch takes ids until it has stanza.MaxPacked.
type pending struct {
	key     receiptKey
	batches []receiptBatch // oldest first, none empty
	stored  bool           // tables hold it
	spare   []uint64       // room for ids

	send sending // the leader's
}

// maxFree bounds the pendings that are kept for reuse: most live only from a device's ack to the confirmation.
const maxFree = 1024

// newPending returns an empty pending. A used one may still be in the leader's lists, which look at what it is now.
func (s *state) newPending(k receiptKey) *pending {
	n := len(s.free)
	if n == 0 {
		return &pending{key: k}
	}
	p := s.free[n-1]
	s.free = s.free[:n-1]
	p.key = k
	return p
}

// release keeps p, which is in no table and in no map any more.
func (s *state) release(p *pending) {
	if len(s.free) < maxFree {
		p.stored = false
		p.send = sending{listed: p.send.listed, timed: p.send.timed, packed: p.send.packed[:0]}
		s.free = append(s.free, p)
	}
}

type receiptBatch struct {
	stamp int64    // of the entry that raised the first id
	ids   []uint64 // ascending
}

// maxBatches bounds what one pair of device and account may leave pending; the oldest batch goes first. It is reached only when
// the sender's shard is down and the pair exchanges 65,536 messages meanwhile.
const maxBatches = 1024

// maxWaiting bounds the receipts of a group that wait for other shards, about 100 MiB of them; later ones are dropped and counted. It
// is reached when a part of the cluster is down for long. A constant, because it decides what a replay raises.
const maxWaiting = 1 << 18

// raise notes that the first device of an account has a message.
func (s *state) raise(k receiptKey, id uint64, stamp int64) {
	if s.waiting >= maxWaiting {
		s.lost++
		return
	}
	p := s.pending[k]
	if p == nil {
		p = s.newPending(k)
		s.pending[k] = p
		if stored, dirty := s.dirtyPending[k]; dirty {
			p.stored = stored
		}
	}
	n := len(p.batches)
	if n == 0 || len(p.batches[n-1].ids) >= stanza.MaxPacked {
		if n >= maxBatches {
			s.waiting -= len(p.batches[0].ids)
			s.lost += uint64(len(p.batches[0].ids))
			p.batches = slices.Delete(p.batches, 0, 1)
		}
		p.batches = append(p.batches, receiptBatch{stamp: stamp, ids: p.spare[:0]})
		p.spare = nil
		n = len(p.batches)
	}
	b := &p.batches[n-1]
	if at, found := slices.BinarySearch(b.ids, id); !found {
		b.ids = slices.Insert(b.ids, at, id)
		s.waiting++
	}
	s.dirtyPending[k] = p.stored
	s.list(p)
}

// list notes that the leader should look at p.
func (s *state) list(p *pending) {
	if s.leading && !p.send.listed {
		p.send.listed = true
		s.raised = append(s.raised, p)
	}
}

// confirm removes receipts that the sender's shard has stored or dropped.
func (s *state) confirm(c *command) result {
	p := s.pending[receiptKey{to: keyOf(c.account, c.device), from: c.from, why: c.reason}]
	if p == nil {
		return result{}
	}
	n := 0
	for it := stanza.Packed(c.body); ; n++ {
		id, ok := it.Next()
		if !ok {
			break
		}
		if p.remove(id) {
			s.waiting--
		}
	}
	if p.send.away && bytes.Equal(c.body, p.send.ids()) { // not a late repeat of what was confirmed before
		p.send.away, p.send.again = false, false // what is left was never sent
	}
	s.settle(p)
	return result{count: n}
}

func (p *pending) remove(id uint64) bool {
	for i := range p.batches {
		if at, found := slices.BinarySearch(p.batches[i].ids, id); found {
			p.batches[i].ids = slices.Delete(p.batches[i].ids, at, at+1)
			return true
		}
	}
	return false
}

// settle drops the empty batches of p, and p when none is left.
func (s *state) settle(p *pending) {
	if p.spare == nil && len(p.batches) > 0 && len(p.batches[0].ids) == 0 {
		p.spare = p.batches[0].ids
	}
	p.batches = slices.DeleteFunc(p.batches, func(b receiptBatch) bool { return len(b.ids) == 0 })
	switch {
	case len(p.batches) > 0:
		s.dirtyPending[p.key] = p.stored
		s.list(p)
		return
	case p.stored:
		s.dirtyPending[p.key] = true
	default:
		delete(s.dirtyPending, p.key) // it never reached tables and never will
	}
	delete(s.pending, p.key)
	s.release(p)
}

// receipt stores delivered receipts for a device of this shard. It never refuses: what cannot be stored is dropped, counted and
// confirmed, because nobody could do anything about it.
func (s *state) receipt(e shard.Entry, c *command) result {
	q := s.queue(keyOf(c.account, c.device))
	body := c.body
	if c.again {
		body = s.withoutQueued(q, c)
	}
	switch {
	case s.broken != nil:
		return result{}
	case q.tomb != 0:
		return result{reason: stanza.ReasonUnlinked}
	case len(body) == 0:
		return result{verdict: duplicate}
	case !room(q, c, len(body)):
		return result{reason: stanza.ReasonReceiptFull}
	}
	q.begin(e.Index, e.Seq)
	s.append(q, &record{kind: receiptKind(c), index: e.Index, from: c.from, why: c.reason, stamp: e.Stamp, body: body})
	return result{count: 1}
}

// receiptKind is the kind of the record that keeps c.
func receiptKind(c *command) recordKind {
	if c.tag == stanza.TagUndelivered {
		return recordUndelivered
	}
	return recordDelivered
}

// withoutQueued returns c's ids without those that wait in q in a receipt of the same account. It reads the whole queue, which only
// a repeated receipt can cause. A receipt that the device already has is stored again: harmless, and not worth a memory.
func (s *state) withoutQueued(q *queue, c *command) []byte {
	var room [stanza.MaxPacked]uint64
	ids := room[:0]
	for it := stanza.Packed(c.body); ; {
		id, ok := it.Next()
		if !ok {
			break
		}
		ids = append(ids, id)
	}
	var r record
	for seq := q.head; seq < q.next && len(ids) > 0; seq++ {
		if !s.read(q, seq, &r) {
			return nil
		}
		if r.kind != receiptKind(c) || r.from != c.from || r.why != c.reason {
			continue
		}
		for it := stanza.Packed(r.body); ; {
			id, ok := it.Next()
			if !ok {
				break
			}
			if at, found := slices.BinarySearch(ids, id); found {
				ids = slices.Delete(ids, at, at+1)
			}
		}
	}
	return stanza.AppendPacked(nil, ids)
}

// expireReceipts drops batches that could not be handed over in time.
func (s *state) expireReceipts(c *command) result {
	n := 0
	for _, p := range s.pending { // each on its own, so that the order does not matter
		before := len(p.batches)
		for i := range p.batches {
			if p.batches[i].stamp <= c.cut {
				n += len(p.batches[i].ids)
				p.batches[i].ids = nil
			}
		}
		if before > 0 {
			s.settleExpired(p)
		}
	}
	s.waiting -= n
	return result{count: n, reason: stanza.ReasonReceiptExpired}
}

func (s *state) settleExpired(p *pending) {
	for i := range p.batches {
		if len(p.batches[i].ids) == 0 {
			s.settle(p)
			return
		}
	}
}

// flushPending appends the changed pending receipts to b.
func (s *state) flushPending(b batch) {
	for k := range s.dirtyPending {
		s.key = appendKey(s.key[:0], tableReceipt, uint64(k.to), k.source())
		p := s.pending[k]
		if p == nil {
			b.Delete(s.key)
			continue
		}
		s.val = appendPending(s.val[:0], p)
		b.Set(s.key, s.val)
		p.stored = true
	}
	clear(s.dirtyPending)
}

// appendPending encodes batches: stamp, number of ids, packed ids.
func appendPending(dst []byte, p *pending) []byte {
	for i := range p.batches {
		dst = binary.AppendUvarint(dst, uint64(p.batches[i].stamp))
		dst = binary.AppendUvarint(dst, uint64(len(p.batches[i].ids)))
		dst = stanza.AppendPacked(dst, p.batches[i].ids)
	}
	return dst
}

func decodePending(b []byte, p *pending) bool {
	f := codec{b: b}
	for len(f.b) > 0 && !f.bad {
		var batch receiptBatch
		var n, id, distance uint64
		f.stamp(&batch.stamp)
		f.uint(&n, stanza.MaxPacked)
		f.bad = f.bad || n == 0
		for ; n > 0 && !f.bad; n-- {
			f.uint(&distance, stanza.MaxID)
			f.bad = f.bad || distance == 0
			id += distance
			batch.ids = append(batch.ids, id)
		}
		p.batches = append(p.batches, batch)
	}
	return !f.bad && len(p.batches) > 0
}
