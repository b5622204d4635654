package offline

import (
	"linecard.example/internal/stanza"
)

// Expiry is an entry of the log: "forget what is older than this stamp, in this range of keys". The leader chooses the ranges, so
// that one entry touches about SweepSlice queues or streams; the fold takes each on its own, so that neither the order of walking nor
// what is cached changes the result.

// keyRange returns the table keys of a command's range of n numbers each.
func keyRange(table byte, c *command, n int) (lo, hi []byte) {
	lo = appendKey(nil, table, c.lo[:n]...)
	if c.hi == [2]uint64{} {
		return lo, []byte{table + 1}
	}
	return lo, appendKey(nil, table, c.hi[:n]...)
}

// expireQueues drops messages and receipts stamped up to c.cut and tombstones up to c.cutTombs, perQueue entries of a queue at most.
func (s *state) expireQueues(c *command) result {
	lo, hi := keyRange(tableQueue, c, 1)
	due := func(q *queue) bool {
		return (q.tomb != 0 && q.tomb <= c.cutTombs) || (q.head < q.next && q.oldest <= c.cut)
	}
	var found []queueKey
	s.scanQueues(lo, hi, func(q *queue) {
		if due(q) {
			found = append(found, q.key)
		}
	})
	if s.broken != nil {
		return result{}
	}
	for key, q := range s.queues {
		if uint64(key) >= c.lo[0] && (c.hi[0] == 0 || uint64(key) < c.hi[0]) && due(q) {
			found = append(found, key)
		}
	}
	r := result{reason: stanza.ReasonExpired}
	for _, key := range found {
		n, more := s.expireQueue(s.queue(key), c)
		if s.broken != nil {
			return result{}
		}
		r.count += n
		r.more = r.more || more
	}
	return r
}

func (s *state) expireQueue(q *queue, c *command) (n int, more bool) {
	if q.tomb != 0 && q.tomb <= c.cutTombs {
		// Forgotten wholly: late messages have expired at their senders too. Deletions of its records may still wait for the flush.
		q.tomb, q.head, q.next, q.memLo = 0, 0, 0, 0
		s.markDirty(q)
		return 0, false
	}
	end, charge := q.head, int64(0)
	var r record
	for end < q.next && n < perQueue {
		if !s.read(q, end, &r) {
			return 0, false
		}
		if r.stamp > c.cut {
			break
		}
		charge += r.charge()
		end++
		n++
	}
	if n == 0 {
		q.oldest = max(q.oldest, r.stamp)
		return 0, false
	}
	s.cut(q, end, charge)
	if q.head < q.next && q.memLo > q.head {
		q.oldest = r.stamp // of the first that stays, or of one before it
	}
	s.touch(q)
	return n, n == perQueue
}

// expireStreams forgets streams stamped up to c.cut.
func (s *state) expireStreams(c *command) result {
	lo, hi := keyRange(tableStream, c, 2)
	var found []streamKey
	s.eachStream(lo, hi, func(k streamKey, v streamState) {
		if v.stamp <= c.cut {
			found = append(found, k)
		}
	})
	if s.broken != nil {
		return result{}
	}
	for _, k := range found {
		s.setStream(k, streamState{})
	}
	return result{count: len(found)}
}
