package offline

import (
	"fmt"

	"linecard.example/internal/shard"
)

// NewFold returns the fold of one queue group without the daemon around it, for data at rest. It never writes to the tables but for what
// loading deletes.
func NewFold() shard.Fold { return &atRest{} }

// atRest is a state that nobody leads.
type atRest struct{ s *state }

// restingStreams is the size of its cache of streams.
const restingStreams = 4096

// Load implements shard.Fold.
func (a *atRest) Load(t shard.Tables, _ uint64) error {
	a.s = newState(func(error) {}, restingStreams) // what breaks it is asked for
	return a.s.load(shardTables{t})
}

// Fold implements shard.Fold.
func (a *atRest) Fold(e shard.Entry) error {
	a.s.apply(e)
	return a.s.broken
}

// Hash implements shard.Fold.
func (a *atRest) Hash() (uint64, error) {
	h := a.s.hash()
	return h, a.s.broken
}

// Check implements shard.Fold: every queue has the records that it says, of the sizes that it says; the totals are their sums; no record
// belongs to no queue; streams decode. Receipts were read by Load.
func (a *atRest) Check() error {
	s := a.s
	entries, bytes := int64(0), int64(0)
	live := map[queueKey]span{}
	s.eachQueue(func(q *queue) {
		live[q.key] = span{q.head, q.next}
		entries += int64(q.entries())
		bytes += q.bytes
		s.checkQueue(q)
	})
	if s.broken == nil && (entries != s.entries || bytes != s.bytes) {
		s.giveUp(fmt.Errorf("%w: the totals are %d entries of %d bytes, the queues have %d of %d", errTables, s.entries, s.bytes, entries, bytes))
	}
	from := []byte{tableMessage}
	s.check(from, s.t.Scan(from, []byte{tableMessage + 1}, func(k, _ []byte) bool {
		if len(k) != 17 {
			s.damaged(k, isMalformed)
			return false
		}
		if q, seq := live[queueKey(keyPart(k, 0))], keyPart(k, 1); seq < q.lo || seq >= q.hi {
			s.damaged(k, "is in no queue")
			return false
		}
		return true
	}))
	s.eachStream([]byte{tableStream}, []byte{tableStream + 1}, func(streamKey, streamState) {})
	return s.broken
}

// checkQueue reads every record of a queue.
func (s *state) checkQueue(q *queue) {
	charge := int64(0)
	var r record
	for seq := q.head; seq < q.next && s.broken == nil; seq++ {
		if s.read(q, seq, &r) {
			charge += r.charge()
		}
	}
	s.dropFront(q)
	if s.broken == nil && charge != q.bytes {
		s.giveUp(fmt.Errorf("%w: %s has %d bytes, its messages %d", errTables, describe(appendKey(nil, tableQueue, uint64(q.key))), q.bytes, charge))
	}
}
