package offline

import "linecard.example/internal/planted"

// The write-back cache. Entries are born in memory. They are written ahead when they have waited for a while, or when memory is
// short; then the heaviest queue goes first, so that one device's backlog never pushes the light queues out. Everything here is
// invisible to the fold: it changes where an entry is, never what is there.

// aging is a queue that had an entry in memory only, and since when.
type aging struct {
	q   *queue
	seq uint64 // the oldest such entry
	at  int64  // ms of the turn that saw it first
}

// agingList is a ring of agings in order of at.
type agingList struct {
	ring  []aging
	first int
	n     int
}

func (l *agingList) add(a aging) {
	if l.n == len(l.ring) {
		grown := make([]aging, max(64, 2*l.n))
		for i := range l.n {
			grown[i] = l.ring[(l.first+i)%len(l.ring)]
		}
		l.ring, l.first = grown, 0
	}
	l.ring[(l.first+l.n)%len(l.ring)] = a
	l.n++
}

func (l *agingList) take() aging {
	a := l.ring[l.first]
	l.ring[l.first] = aging{}
	l.first = (l.first + 1) % len(l.ring)
	l.n--
	return a
}

// age starts the clock of q's oldest entry that is in memory only. A queue is in the list at most once.
func (s *state) age(q *queue) {
	if !q.aging {
		q.aging = true
		s.aging.add(aging{q: q, seq: q.next - 1, at: s.turn})
	}
}

// aheadBatchBytes bounds a batch of records written ahead.
const aheadBatchBytes = 1 << 20

// aheadWriter collects records to write ahead and commits them in batches.
type aheadWriter struct {
	s     *state
	b     batch
	first []byte // the first key in b
	bytes int
	total int
}

// run adds every record of q that is in memory only.
func (w *aheadWriter) run(q *queue) {
	s := w.s
	lo := max(q.tabHi, q.head)
	if lo >= q.next {
		return
	}
	if planted.On(planted.WriteAheadLost) {
		q.tabHi = q.next
		return
	}
	if w.b == nil {
		w.b = s.t.ahead()
	}
	if planted.On(planted.LastIDsAhead) {
		s.flushStreams(w.b)
	}
	if planted.On(planted.HeadsAhead) {
		w.b.Set(appendKey(nil, tableQueue, uint64(q.key)), appendQueue(nil, q))
	}
	s.key = appendKey(s.key[:0], tableAhead, uint64(q.key), lo)
	if w.bytes == 0 {
		w.first = append(w.first[:0], s.key...)
	}
	s.val = appendKey(s.val[:0], tableAhead, q.next)
	w.b.Set(s.key, s.val)
	s.runs++
	for seq := lo; seq < q.next; seq++ {
		rec := q.inMemory(seq)
		s.key = appendKey(s.key[:0], tableMessage, uint64(q.key), seq)
		w.b.Set(s.key, rec)
		w.bytes += len(rec)
		s.unflushed -= int64(len(rec))
	}
	q.tabHi = q.next
	if w.bytes >= aheadBatchBytes {
		w.commit()
	}
}

// commit must come before the next read of tables.
func (w *aheadWriter) commit() {
	if w.b != nil {
		w.s.check(w.first, w.b.Commit())
	}
	w.total += w.bytes
	w.b, w.bytes = nil, 0
}

// writeAged writes ahead the queues whose oldest entry has waited since before. Not during Apply or Flush. It returns the bytes
// written, about max at most: the rest is for the next tick.
func (s *state) writeAged(before int64, limit int) int {
	w := aheadWriter{s: s}
	for s.aging.n > 0 && s.aging.ring[s.aging.first].at <= before && w.total+w.bytes < limit {
		a := s.aging.take()
		q := a.q
		q.aging = false
		lo := max(q.tabHi, q.head)
		switch {
		case lo >= q.next: // all acked or written
		case lo > a.seq: // the queue moves: its oldest entry is younger than that
			q.aging = true
			s.aging.add(aging{q: q, seq: lo, at: s.turn})
		default:
			w.run(q)
		}
	}
	w.commit()
	return w.total
}

// relieve brings the entries in memory below limit: it takes the heaviest queue, writes ahead what only memory has, and keeps the
// younger half of what it held. Not during Apply or Flush.
func (s *state) relieve(limit int64) int {
	if s.resident <= limit {
		return 0
	}
	w := aheadWriter{s: s}
	for s.resident > limit {
		q := s.classes.heaviest()
		if q == nil {
			break
		}
		w.run(q)
		s.evict(q, q.resident/2)
	}
	w.commit()
	return w.total
}

// evict forgets the oldest entries of q, all of which tables have, until keep bytes remain.
func (s *state) evict(q *queue, keep int64) {
	to, left := q.memLo, q.resident
	for left > keep && to < q.tabHi && to < q.next {
		left -= int64(len(q.inMemory(to))) + entryOverhead
		to++
	}
	s.resident -= q.forget(to)
	s.classes.update(q)
}

// evictQueues forgets idle queues while there are more than limit.
func (s *state) evictQueues(limit int) {
	for step := 0; step < evictSteps && len(s.queues) > limit; step++ {
		q := s.classes[0].first
		if q == nil {
			return
		}
		if q.dirty || q.aging || q.ready || q.att != nil {
			s.classes.remove(q)
			s.classes.insert(q) // behind the others
			continue
		}
		s.forgetQueue(q)
	}
}

// forgetQueue lets go of a queue that tables have as it is, and that nobody has a hold of.
func (s *state) forgetQueue(q *queue) {
	s.classes.remove(q)
	s.dropFront(q)
	delete(s.queues, q.key)
}

// evictSteps bounds one call, also when all queues that it looks at must stay.
const evictSteps = 1024

// Bounds of one reading from tables, and of what all queues of a group hold of such readings. The latter matters when many devices
// drain at once and slowly: what others read is dropped then, and read again.
const (
	frontEntries = 64
	frontBytes   = 256 << 10
	maxReadBack  = 16 << 20
)

// encoded returns the encoded record of an entry in [head, next), nil if that cannot be read: the state is broken then. It stays valid for ever: nothing writes to
// it.
func (s *state) encoded(q *queue, seq uint64) []byte {
	if seq >= q.memLo {
		s.hits++
		return q.inMemory(seq)
	}
	if i := seq - q.frontLo; seq >= q.frontLo && i < uint64(len(q.front)) {
		s.hits++
		return q.front[i]
	}
	s.misses++
	s.readFront(q, seq)
	if len(q.front) == 0 {
		s.damaged(appendKey(nil, tableMessage, uint64(q.key), seq), isMissing)
		return nil
	}
	return q.front[0]
}

// readFront reads records from seq on into q's front: a device that drains asks for the next one soon, and acks what it got.
func (s *state) readFront(q *queue, seq uint64) {
	s.dropFront(q)
	q.frontLo = seq
	hi := min(q.memLo, seq+frontEntries)
	if s.single {
		hi = seq + 1
	}
	s.key = appendKey(s.key[:0], tableMessage, uint64(q.key), seq)
	s.end = appendKey(s.end[:0], tableMessage, uint64(q.key), hi)
	bytes := 0
	s.check(s.key, s.t.Scan(s.key, s.end, func(k, v []byte) bool {
		if len(k) != 17 || keyPart(k, 1) != seq+uint64(len(q.front)) {
			return false // a hole: reported when somebody asks for it
		}
		q.front = append(q.front, append([]byte(nil), v...))
		bytes += len(v)
		return bytes < frontBytes
	}))
	if len(q.front) == 0 {
		return
	}
	s.fronts[q] = struct{}{}
	s.readBack += int64(bytes)
	for other := range s.fronts {
		if s.readBack <= maxReadBack {
			break
		}
		if other != q {
			s.dropFront(other)
		}
	}
}

// dropFront lets go of what was read back.
func (s *state) dropFront(q *queue) {
	if q.front == nil {
		return
	}
	for _, rec := range q.front {
		s.readBack -= int64(len(rec))
	}
	q.front = nil
	delete(s.fronts, q)
}

// trimFront lets go of what was read back and is gone.
func (s *state) trimFront(q *queue) {
	if q.front != nil && q.frontLo+uint64(len(q.front)) <= q.head {
		s.dropFront(q)
	}
	for q.front != nil && q.frontLo < q.head {
		s.readBack -= int64(len(q.front[0]))
		q.front[0] = nil
		q.front = q.front[1:]
		q.frontLo++
	}
}

// read decodes the entry at seq; r borrows it. False: it cannot be read, and the state is broken.
func (s *state) read(q *queue, seq uint64, r *record) bool {
	b := s.encoded(q, seq)
	if b == nil {
		return false
	}
	if !decodeRecord(b, r) {
		s.damaged(appendKey(nil, tableMessage, uint64(q.key), seq), isMalformed)
		return false
	}
	return true
}
