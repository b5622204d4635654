package offline

import (
	"math/bits"
	"slices"
)

// queue is what waits for one device. The logical part is the fold's result and is hashed; the rest is where its entries are.
type queue struct {
	key queueKey

	// Logical.
	head, next uint64 // entries are [head, next), see begin; next is 0 until there was one
	bytes      int64  // charge of the entries
	raised     []span // entries whose delivered receipt was raised by a sibling's ack: ascending, apart, within [head, next)
	tomb       int64  // stamp of the drop, 0 while the device is linked

	// A lower bound of the stamps of the entries, 0 if unknown. It spares expiry from reading queues; it is not hashed.
	oldest int64

	// Memory. Entries not yet in tables are always here: memLo <= max(tabHi, head).
	ents     [][]byte // encoded records of [memLo, next), behind off dead ones
	off      int
	memLo    uint64
	resident int64
	front    [][]byte // what was read back from tables: [frontLo, frontLo+len)
	frontLo  uint64

	// Tables may hold records of [tabLo, tabHi).
	tabLo, tabHi uint64
	stored       bool // tables hold the queue's state

	dirty, aging, ready bool
	class               uint8 // bits.Len of resident: the list that the queue is in
	before, behind      *queue

	att *attachment // the leader's; nil while nobody is attached
}

// span is sequences [lo, hi).
type span struct{ lo, hi uint64 }

func newQueue(k queueKey) *queue { return &queue{key: k} }

// begin gives a queue without history its first sequence. It is above every sequence that a forgotten queue of the same device had,
// since each of those took a command of its own: so no record, run or mark of the old queue is taken for one of the new.
func (q *queue) begin(index uint64, seq int) {
	if q.next == 0 {
		q.next = index<<16 | uint64(seq&0xffff)
		q.head, q.memLo = q.next, q.next
	}
}

// exists reports whether the queue is part of the logical state, rather than an object that somebody looked up.
func (q *queue) exists() bool { return q.next != 0 || q.tomb != 0 }

func (q *queue) entries() uint64 { return q.next - q.head }

// inMemory returns the record of a sequence that is in [memLo, next).
func (q *queue) inMemory(seq uint64) []byte { return q.ents[q.off+int(seq-q.memLo)] }

// wasRaised reports whether the entry's receipt was raised by a sibling.
func (q *queue) wasRaised(seq uint64) bool {
	i := q.spanAt(seq)
	return i < len(q.raised) && q.raised[i].lo <= seq
}

// spanAt returns the first span that ends behind seq.
func (q *queue) spanAt(seq uint64) int {
	n, _ := slices.BinarySearchFunc(q.raised, seq, func(s span, seq uint64) int {
		if s.hi > seq {
			return 1
		}
		return -1
	})
	return n
}

// raise marks the entry. Siblings ack in the order of their own queues, so marks come in runs and the list stays short.
func (q *queue) raise(seq uint64) {
	i := q.spanAt(seq)
	if i < len(q.raised) && q.raised[i].lo <= seq {
		return
	}
	joinsLeft := i > 0 && q.raised[i-1].hi == seq
	joinsRight := i < len(q.raised) && q.raised[i].lo == seq+1
	switch {
	case joinsLeft && joinsRight:
		q.raised[i-1].hi = q.raised[i].hi
		q.raised = slices.Delete(q.raised, i, i+1)
	case joinsLeft:
		q.raised[i-1].hi++
	case joinsRight:
		q.raised[i].lo--
	default:
		q.raised = slices.Insert(q.raised, i, span{seq, seq + 1})
	}
}

func (q *queue) trimRaised() {
	i := 0
	for i < len(q.raised) && q.raised[i].hi <= q.head {
		i++
	}
	q.raised = slices.Delete(q.raised, 0, i)
	if len(q.raised) == 0 {
		q.raised = nil
	} else if q.raised[0].lo < q.head {
		q.raised[0].lo = q.head
	}
}

// entryOverhead is what an entry in memory takes besides its bytes.
const entryOverhead = 40

// push appends an encoded record, which the queue keeps.
func (q *queue) push(rec []byte, stamp, charge int64) {
	if len(q.ents) == q.off {
		q.ents, q.off = q.ents[:0], 0
		q.memLo = q.next
	}
	if q.head == q.next {
		q.oldest = stamp
	}
	q.ents = append(q.ents, rec)
	q.next++
	q.bytes += charge
	q.resident += int64(len(rec)) + entryOverhead
}

// idleCap is how many entries' room a queue without entries keeps.
const idleCap = 4

// forget drops the entries below to from memory and returns the bytes freed.
func (q *queue) forget(to uint64) int64 {
	freed := int64(0)
	for q.memLo < to && q.off < len(q.ents) {
		freed += int64(len(q.ents[q.off])) + entryOverhead
		q.ents[q.off] = nil
		q.off++
		q.memLo++
	}
	q.resident -= freed
	switch live := len(q.ents) - q.off; {
	case live == 0:
		if cap(q.ents) > idleCap {
			q.ents = nil
		}
		q.ents, q.off, q.memLo = q.ents[:0], 0, q.next
	case q.off > 32 && q.off > live:
		q.ents, q.off = append(make([][]byte, 0, live+live/4+1), q.ents[q.off:]...), 0
	}
	return freed
}

// classes are lists of queues by the magnitude of their bytes in memory: the heaviest is found without looking for it. Class 0 are
// queues without entries in memory, those longest so first.
type classes [64]struct{ first, last *queue }

func (l *classes) insert(q *queue) {
	q.class = uint8(bits.Len64(uint64(q.resident)))
	c := &l[q.class]
	q.before, q.behind = c.last, nil
	if c.last != nil {
		c.last.behind = q
	} else {
		c.first = q
	}
	c.last = q
}

func (l *classes) remove(q *queue) {
	c := &l[q.class]
	if q.before != nil {
		q.before.behind = q.behind
	} else {
		c.first = q.behind
	}
	if q.behind != nil {
		q.behind.before = q.before
	} else {
		c.last = q.before
	}
	q.before, q.behind = nil, nil
}

// update moves q to the class that it belongs to now.
func (l *classes) update(q *queue) {
	if int(q.class) != bits.Len64(uint64(q.resident)) {
		l.remove(q)
		l.insert(q)
	}
}

// heaviest returns a queue of the highest class, nil when nothing is in memory.
func (l *classes) heaviest() *queue {
	for i := len(l) - 1; i > 0; i-- {
		if l[i].first != nil {
			return l[i].first
		}
	}
	return nil
}
