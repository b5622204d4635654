package offline

import (
	"encoding/binary"

	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

func accountOf(v uint64) stanza.Account { return stanza.Account(v) }

// load starts from tables that are complete up to the applied index. Queues and streams are read when they are asked for; pending
// receipts are all read, because the leader must know them.
func (s *state) load(t tables) error {
	s.t = t
	var found error
	fail := s.fail
	s.fail = func(err error) { found = err } // the caller reports it
	s.deleteRuns()
	s.loadTotals()
	s.loadPending()
	s.fail = fail
	return found
}

func (s *state) loadTotals() {
	key := []byte{tableTotals}
	b, ok, err := s.t.Get(key)
	s.check(key, err)
	if !ok || err != nil {
		return
	}
	f := codec{b: b}
	var entries, bytes uint64
	f.uint(&entries, stanza.MaxID)
	f.uint(&bytes, stanza.MaxID)
	if f.bad || len(f.b) > 0 {
		s.damaged(key, isMalformed)
	}
	s.entries, s.bytes = int64(entries), int64(bytes)
}

func (s *state) loadPending() {
	lo := []byte{tableReceipt}
	s.check(lo, s.t.Scan(lo, []byte{tableReceipt + 1}, func(k, v []byte) bool {
		p := &pending{stored: true}
		if len(k) != 17 || !decodePending(v, p) {
			s.damaged(k, isMalformed)
			return false
		}
		p.key = receiptKeyOf(k)
		s.pending[p.key] = p
		for i := range p.batches {
			s.waiting += len(p.batches[i].ids)
		}
		return true
	}))
}

// deleteRuns deletes the records that were written ahead of the applied index and stayed there when the process died. Their entries
// are applied again, and may be acked before they come near tables again: nobody else would delete them.
func (s *state) deleteRuns() {
	type run struct {
		q      queueKey
		lo, hi uint64
	}
	var runs []run
	from := []byte{tableAhead}
	s.check(from, s.t.Scan(from, []byte{tableAhead + 1}, func(k, v []byte) bool {
		if len(k) != 17 || len(v) != 9 {
			s.damaged(k, isMalformed)
			return false
		}
		runs = append(runs, run{queueKey(keyPart(k, 0)), keyPart(k, 1), keyPart(v, 0)})
		return true
	}))
	if len(runs) == 0 {
		return
	}
	b := s.t.ahead()
	for _, r := range runs {
		lo := r.lo
		if q := s.find(r.q); q != nil {
			lo = max(lo, q.next) // what is below was flushed: live, or deleted with that flush
		}
		if lo < r.hi {
			b.DeleteRange(appendKey(nil, tableMessage, uint64(r.q), lo), appendKey(nil, tableMessage, uint64(r.q), r.hi))
		}
	}
	b.DeleteRange(from, []byte{tableAhead + 1})
	if s.broken == nil {
		s.check(from, b.Commit())
	}
}

// flush appends every change since the last flush to b, which becomes durable together with the applied index.
func (s *state) flush(b batch) {
	for _, q := range s.dirtyQueues {
		s.flushQueue(b, q)
	}
	clear(s.dirtyQueues)
	s.dirtyQueues = s.dirtyQueues[:0]
	s.flushStreams(b)
	s.flushPending(b)
	if s.runs > 0 {
		b.DeleteRange([]byte{tableAhead}, []byte{tableAhead + 1})
		s.runs = 0
	}
	if s.totalsDirty {
		s.val = binary.AppendUvarint(binary.AppendUvarint(s.val[:0], uint64(s.entries)), uint64(s.bytes))
		b.Set([]byte{tableTotals}, s.val)
		s.totalsDirty = false
	}
}

// rangeDelete is from how many records on one range tombstone is cheaper than one for each record.
const rangeDelete = 16

func (s *state) flushQueue(b batch, q *queue) {
	q.dirty = false
	gone := min(q.head, q.tabHi)
	if q.next == 0 {
		gone = q.tabHi // a forgotten queue
	}
	if gone > q.tabLo {
		s.deleteRecords(b, q.key, q.tabLo, gone)
	}
	if planted.On(planted.FlushWithoutMemory) {
		q.tabHi = q.next
	}
	for seq := max(q.tabHi, q.head); seq < q.next; seq++ {
		rec := q.inMemory(seq)
		s.key = appendKey(s.key[:0], tableMessage, uint64(q.key), seq)
		b.Set(s.key, rec)
		s.unflushed -= int64(len(rec))
	}
	q.tabLo, q.tabHi = q.head, q.next
	s.key = appendKey(s.key[:0], tableQueue, uint64(q.key))
	switch {
	case q.exists():
		s.val = appendQueue(s.val[:0], q)
		b.Set(s.key, s.val)
		q.stored = true
	case q.stored:
		b.Delete(s.key)
		q.stored = false
	}
}

func (s *state) deleteRecords(b batch, k queueKey, lo, hi uint64) {
	if hi-lo >= rangeDelete {
		s.key = appendKey(s.key[:0], tableMessage, uint64(k), lo)
		s.end = appendKey(s.end[:0], tableMessage, uint64(k), hi)
		b.DeleteRange(s.key, s.end)
		return
	}
	for seq := lo; seq < hi; seq++ {
		s.key = appendKey(s.key[:0], tableMessage, uint64(k), seq)
		b.Delete(s.key)
	}
}

// Sizes by which dirty estimates a flush. They are what a change takes in memory, some times what is written of it: a queue is not
// forgotten before it is flushed, and it may have had a single message that its device got at once.
const (
	queueBytes   = 384
	streamBytes  = 96
	receiptBytes = 64
)

func (s *state) dirty() int {
	return int(s.unflushed) + queueBytes*len(s.dirtyQueues) + streamBytes*len(s.streams.dirty) + receiptBytes*len(s.dirtyPending)
}

const queueVersion = 1

// appendQueue encodes a queue's state: version, then uvarints head, next, bytes, oldest, tomb, and the raised marks, each as the
// distance from the end of the one before (from head) and its length.
func appendQueue(dst []byte, q *queue) []byte {
	dst = append(dst, queueVersion)
	for _, v := range [...]uint64{q.head, q.next, uint64(q.bytes), uint64(q.oldest), uint64(q.tomb)} {
		dst = binary.AppendUvarint(dst, v)
	}
	if planted.On(planted.RaisedLost) {
		return dst
	}
	at := q.head
	for _, sp := range q.raised {
		dst = binary.AppendUvarint(dst, sp.lo-at)
		dst = binary.AppendUvarint(dst, sp.hi-sp.lo)
		at = sp.hi
	}
	return dst
}

// decodeQueue reads a stored queue, all of whose entries are in tables.
func decodeQueue(b []byte, q *queue) bool {
	if len(b) == 0 || b[0] != queueVersion {
		return false
	}
	f := codec{b: b[1:]}
	var bytes uint64
	f.uint(&q.head, stanza.MaxID)
	f.uint(&q.next, stanza.MaxID)
	f.uint(&bytes, stanza.MaxID)
	f.stamp(&q.oldest)
	f.stamp(&q.tomb)
	at := q.head
	for len(f.b) > 0 && !f.bad {
		var gap, length uint64
		f.uint(&gap, stanza.MaxID)
		f.uint(&length, stanza.MaxID)
		f.bad = f.bad || length == 0 || at+gap+length > q.next
		q.raised = append(q.raised, span{at + gap, at + gap + length})
		at += gap + length
	}
	q.bytes, q.stored = int64(bytes), true
	q.memLo, q.tabLo, q.tabHi = q.next, q.head, q.next
	return !f.bad && q.head <= q.next
}
