package offline

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// hash returns a hash of the logical state: the sum of the hashes of its parts, so that the order of walking does not matter. It
// reads everything, tables included: for tests and administration.
func (s *state) hash() uint64 {
	sum := uint64(0)
	s.eachQueue(func(q *queue) { sum += s.hashQueue(q) })
	s.eachStream([]byte{tableStream}, []byte{tableStream + 1}, func(k streamKey, v streamState) {
		sum += part(tableStream, uint64(k.to), uint64(k.from), v.last, uint64(v.stamp))
	})
	for k, p := range s.pending {
		sum += part(tableReceipt, uint64(k.to), k.source(), xxhash.Sum64(appendPending(nil, p)))
	}
	return sum + part(tableTotals, uint64(s.entries), uint64(s.bytes))
}

func part(table byte, values ...uint64) uint64 { return xxhash.Sum64(appendKey(nil, table, values...)) }

func (s *state) hashQueue(q *queue) uint64 {
	var d xxhash.Digest
	d.Reset()
	b := appendKey(nil, tableQueue, uint64(q.key), q.head, q.next, uint64(q.bytes), uint64(q.tomb))
	for _, sp := range q.raised {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, sp.lo), sp.hi)
	}
	_, _ = d.Write(b) // never fails
	for seq := q.head; seq < q.next; seq++ {
		rec := s.encoded(q, seq)
		b = binary.BigEndian.AppendUint64(b[:0], uint64(len(rec)))
		_, _ = d.Write(b)
		_, _ = d.Write(rec)
	}
	s.dropFront(q)
	return d.Sum64()
}

// eachQueue visits every queue of the logical state once, those not in the cache as passing objects.
func (s *state) eachQueue(f func(*queue)) {
	var others []*queue
	s.scanQueues([]byte{tableQueue}, []byte{tableQueue + 1}, func(q *queue) { others = append(others, q) })
	for _, q := range others {
		f(q)
	}
	for _, q := range s.queues {
		if q.exists() {
			f(q)
		}
	}
}

// scanQueues visits the queues in tables whose key is in [lo, hi) and that are not in the cache, as passing objects. It ends at one
// that cannot be read.
func (s *state) scanQueues(lo, hi []byte, f func(*queue)) {
	s.check(lo, s.t.Scan(lo, hi, func(k, v []byte) bool {
		if len(k) != 9 {
			s.damaged(k, isMalformed)
			return false
		}
		key := queueKey(keyPart(k, 0))
		if s.queues[key] != nil {
			return true
		}
		q := newQueue(key)
		if !decodeQueue(v, q) {
			s.damaged(k, isMalformed)
			return false
		}
		f(q)
		return true
	}))
}

// eachStream visits every stream whose key is in [lo, hi). It ends at one that cannot be read.
func (s *state) eachStream(lo, hi []byte, f func(streamKey, streamState)) {
	s.check(lo, s.t.Scan(lo, hi, func(k, v []byte) bool {
		st, ok := decodeStream(v)
		if len(k) != 17 || !ok {
			s.damaged(k, isMalformed)
			return false
		}
		key := streamKeyOf(k)
		if _, changed := s.streams.dirty[key]; !changed {
			f(key, st)
		}
		return true
	}))
	for k, v := range s.streams.dirty {
		s.key = appendKey(s.key[:0], tableStream, uint64(k.to), uint64(k.from))
		if v.stamp != 0 && bytes.Compare(s.key, lo) >= 0 && bytes.Compare(s.key, hi) < 0 {
			f(k, v)
		}
	}
}
