package offline

import (
	"fmt"

	"linecard.example/internal/planted"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// tables is what the fold needs of its part of the state database. Slices given to a Scan function are borrowed; a Get is a copy.
type tables interface {
	Get(key []byte) ([]byte, bool, error)
	Scan(lower, upper []byte, f func(k, v []byte) bool) error
	ahead() batch // for records written ahead of the applied index
}

// batch is a set of changes to the tables.
type batch interface {
	Set(key, val []byte)
	Delete(key []byte)
	DeleteRange(lo, hi []byte)
	Commit() error
}

// shardTables are the tables of a raft group.
type shardTables struct{ shard.Tables }

func (t shardTables) ahead() batch { return t.Ahead() }

// verdict is what became of a command.
type verdict uint8

const (
	done      verdict = iota // nothing to tell
	admitted                 // a message is in its queues
	duplicate                // it was admitted before
	refused                  // reason says why; nothing changed
)

// result is what Apply returns.
type result struct {
	verdict verdict
	reason  stanza.Reason   // of a refusal, or why entries were dropped
	last    uint64          // gap: the last id of the stream
	full    []stanza.Device // queue_full: the devices without room, ascending
	count   int             // entries acked, stored, dropped or expired
	more    bool            // expiry met a queue with more than it may take at once
}

// state is the fold of one group's log: see the package document. Shard goroutine only.
type state struct {
	t      tables
	fail   func(error) // stops the group, see giveUp
	broken error       // why it was called

	queues  map[queueKey]*queue // a cache; what is dirty, in memory or attached is in it for certain
	classes classes
	streams streams
	pending map[receiptKey]*pending // all of them
	waiting int                     // ids in them

	dirtyQueues  []*queue
	dirtyPending map[receiptKey]bool // value: tables hold it
	free         []*pending

	entries, bytes int64 // of all queues
	totalsDirty    bool

	// Write-back cache.
	resident  int64 // bytes of entries in memory
	unflushed int64 // bytes of those that are not in tables
	aging     agingList
	runs      int // run keys written since the last flush
	turn      int64
	fronts    map[*queue]struct{} // queues that hold what was read back
	readBack  int64               // bytes of that

	// For the leader: what a command touched.
	leading bool
	wake    func(*queue) // gives the queue its attachment, if that is asleep
	single  bool         // what is read back from tables is one record, not those behind it too
	ready   []*queue     // attached queues with new entries
	raised  []*pending   // receipts to send

	hits, misses uint64 // reads of entries from memory, from tables
	lost         uint64 // receipts dropped because too many wait

	// Scratch.
	key, val, end []byte
	rec           []byte
	targets       []target
	cmd           command
}

// newState returns an empty state; fail is shard.Host.StopGroup, in a way that names the group.
func newState(fail func(error), streamCache int) *state {
	return &state{
		fail: fail, queues: map[queueKey]*queue{}, streams: newStreams(streamCache),
		pending: map[receiptKey]*pending{}, dirtyPending: map[receiptKey]bool{}, fronts: map[*queue]struct{}{},
	}
}

// apply folds one log entry. One that does not decode stops the group: to skip it would be to lose what other replicas, or a newer
// version, make of it. Once the state is broken nothing is folded any more, and what the entry at fault changed is never flushed.
func (s *state) apply(e shard.Entry) result {
	c := &s.cmd
	if s.broken == nil {
		if err := decodeCommand(e.Cmd, c); err != nil {
			s.giveUp(fmt.Errorf("log entry %d, command %d: %w", e.Index, e.Seq, err))
		}
	}
	if s.broken != nil {
		return result{verdict: refused, reason: stanza.ReasonInternal}
	}
	switch c.op {
	case opMessage, opRead, opForward, opForwardRead, opOut:
		return s.store(e, c)
	case opAck:
		return s.ack(e, c)
	case opReceipt:
		return s.receipt(e, c)
	case opConfirm:
		return s.confirm(c)
	case opExpireQueues:
		return s.expireQueues(c)
	case opDrop:
		return s.drop(e, c)
	case opExpireStreams:
		return s.expireStreams(c)
	case opExpireReceipts:
		return s.expireReceipts(c)
	case opSent:
		return s.ack(e, c) // of the queue of no device
	}
	return result{}
}

// target is a device's part of a message on admission.
type target struct {
	q      *queue
	cipher []byte
}

// store admits a message or a read receipt: all of it or nothing. Only an admission changes the stream's last id.
func (s *state) store(e shard.Entry, c *command) result {
	k := streamKey{to: c.account, from: keyOf(c.from, c.fromDevice)}
	last, known := s.stream(k)
	switch {
	case s.broken != nil:
		return result{}
	case known && c.id <= last.last && !planted.On(planted.NoDedup):
		return result{verdict: duplicate}
	case c.after > last.last && (known || c.forwarded()):
		return result{verdict: refused, reason: stanza.ReasonGap, last: last.last}
	}
	var r result
	switch c.op {
	case opRead, opForwardRead:
		r = s.storeRead(e, c)
	case opOut:
		r = s.storeOut(e, c)
	default:
		r = s.storeMessage(e, c)
	}
	if r.verdict == admitted {
		s.setStream(k, streamState{last: c.id, stamp: e.Stamp})
	}
	return r
}

// storeRead puts a read receipt into the queue of the device that sent the messages. Like all receipts it never blocks: for a
// full queue or an unlinked device it is dropped, and admitted nevertheless.
func (s *state) storeRead(e shard.Entry, c *command) result {
	q := s.queue(keyOf(c.account, c.device))
	switch {
	case s.broken != nil:
		return result{}
	case q.tomb != 0:
		return result{verdict: admitted, reason: stanza.ReasonUnlinked}
	case !room(q, c, len(c.body)):
		return result{verdict: admitted, reason: stanza.ReasonReceiptFull}
	}
	q.begin(e.Index, e.Seq)
	s.append(q, &record{kind: recordRead, index: e.Index, from: c.from, stamp: e.Stamp, body: c.body})
	return result{verdict: admitted, count: 1}
}

func (s *state) storeMessage(e shard.Entry, c *command) result {
	if r := s.findTargets(c); r.verdict == refused || s.broken != nil {
		return r
	}
	for _, t := range s.targets {
		t.q.begin(e.Index, e.Seq)
	}
	rec := record{kind: recordMessage, index: e.Index, from: c.from, fromDevice: c.fromDevice, id: c.id, stamp: e.Stamp}
	if len(s.targets) == 1 {
		rec.body = s.targets[0].cipher
		s.append(s.targets[0].q, &rec)
		return result{verdict: admitted, count: 1}
	}
	var seqs [stanza.MaxDevices]uint64
	for i, t := range s.targets {
		seqs[i] = t.q.next
	}
	var room [stanza.MaxDevices * 12]byte
	for i, t := range s.targets {
		rec.siblings = siblings{b: room[:0]}
		for j, other := range s.targets {
			if i != j {
				rec.siblings.add(other.q.key.device(), seqs[j])
			}
		}
		rec.body = t.cipher
		s.append(t.q, &rec)
	}
	return result{verdict: admitted, count: len(s.targets)}
}

// findTargets fills s.targets, or refuses the whole message and names why.
func (s *state) findTargets(c *command) result {
	s.targets = s.targets[:0]
	var full []stanza.Device
	stale := false // a message is for a device that is gone; from another region: for no other device
	for body := c.body; len(body) > 0; {
		d, cipher, rest, err := stanza.NextCipher(body)
		if err != nil || (c.account == c.from && d == c.fromDevice) {
			return result{verdict: refused, reason: stanza.ReasonForbidden}
		}
		q := s.queue(keyOf(c.account, d))
		body = rest
		if q.tomb != 0 {
			stale = true
			if c.forwarded() {
				continue
			}
		}
		if !room(q, c, len(cipher)) {
			full = append(full, d)
		}
		s.targets = append(s.targets, target{q, cipher})
	}
	if c.forwarded() && len(s.targets) > 0 {
		stale = false
	}
	switch {
	case stale: // before queue_full: the sender's next try is without that device
		return result{verdict: refused, reason: stanza.ReasonStaleDevices}
	case full != nil:
		return result{verdict: refused, reason: stanza.ReasonQueueFull, full: full}
	}
	return result{}
}

// room reports whether a body fits into q under the limits that the command carries.
func room(q *queue, c *command, body int) bool {
	return q.entries() < c.maxEntries && q.bytes+int64(body)+entryCharge <= int64(c.maxBytes)
}

// append puts a record at the end of q: one allocation, the record's.
func (s *state) append(q *queue, r *record) {
	s.rec = appendRecord(s.rec[:0], r)
	rec := make([]byte, len(s.rec))
	copy(rec, s.rec)
	before := q.resident
	q.push(rec, r.stamp, r.charge())
	s.resident += q.resident - before
	s.unflushed += int64(len(rec))
	s.entries++
	s.bytes += r.charge()
	s.classes.update(q)
	s.markDirty(q)
	s.age(q)
	s.touch(q)
}

func (s *state) markDirty(q *queue) {
	s.totalsDirty = true
	if !q.dirty {
		q.dirty = true
		s.dirtyQueues = append(s.dirtyQueues, q)
	}
}

// touch notes that the leader should push from q.
func (s *state) touch(q *queue) {
	if q.att == nil && s.leading {
		s.wake(q)
	}
	if q.att != nil && !q.ready {
		q.ready = true
		s.ready = append(s.ready, q)
	}
}

// ack removes what a device has, and raises the delivered receipts of messages of which it is the first device to have them.
func (s *state) ack(e shard.Entry, c *command) result {
	q := s.find(keyOf(c.account, c.device))
	if q == nil || c.upTo < q.head {
		return result{}
	}
	end := min(c.upTo+1, q.next)
	n := int(end - q.head)
	charge := int64(0)
	var r record
	for seq := q.head; seq < end; seq++ {
		if !s.read(q, seq, &r) {
			return result{}
		}
		charge += r.charge()
		if r.kind == recordMessage && !q.wasRaised(seq) {
			s.raiseSiblings(c.account, r.siblings)
			s.raise(receiptKey{to: keyOf(r.from, r.fromDevice), from: c.account}, r.id, e.Stamp)
		}
		if r.kind == recordOut {
			s.raiseFailure(c, seq, &r, e.Stamp)
		}
	}
	s.cut(q, end, charge)
	return result{count: n}
}

// raiseSiblings marks the message's copies in other queues, so that their acks raise nothing.
func (s *state) raiseSiblings(a stanza.Account, l siblings) {
	for {
		d, seq, ok := l.next()
		if !ok {
			return
		}
		q := s.find(keyOf(a, d))
		if q != nil && seq >= q.head && seq < q.next {
			q.raise(seq)
			s.markDirty(q)
		}
	}
}

// drop empties the queue of an unlinked device and leaves a tombstone.
func (s *state) drop(e shard.Entry, c *command) result {
	q := s.queue(keyOf(c.account, c.device))
	if q.tomb != 0 || s.broken != nil {
		return result{}
	}
	n := int(q.entries())
	q.tomb = e.Stamp
	s.cut(q, q.next, q.bytes)
	return result{count: n}
}

// cut removes the entries below to, of so much charge.
func (s *state) cut(q *queue, to uint64, charge int64) {
	n := int64(to - q.head)
	for seq := max(q.tabHi, q.memLo, q.head); seq < to; seq++ {
		s.unflushed -= int64(len(q.inMemory(seq)))
	}
	q.head = to
	if q.head == q.next {
		q.oldest = 0
	}
	q.bytes -= charge
	s.entries -= n
	s.bytes -= charge
	s.resident -= q.forget(to)
	s.trimFront(q)
	q.trimRaised()
	if q.head < q.next && q.memLo <= q.head {
		q.oldest = stampOf(q.inMemory(q.head))
	}
	s.classes.update(q)
	s.markDirty(q)
}

// find returns a queue of the logical state, nil if there is none, or if it cannot be read: then the state is broken.
func (s *state) find(k queueKey) *queue {
	if q, ok := s.queues[k]; ok {
		return q
	}
	s.key = appendKey(s.key[:0], tableQueue, uint64(k))
	b, ok, err := s.t.Get(s.key)
	s.check(s.key, err)
	if !ok || err != nil {
		return nil
	}
	q := newQueue(k)
	if !decodeQueue(b, q) {
		s.damaged(s.key, isMalformed)
		return nil
	}
	s.adopt(q)
	return q
}

// queue returns a queue, made in memory only if there is none.
func (s *state) queue(k queueKey) *queue {
	if q := s.find(k); q != nil {
		return q
	}
	q := newQueue(k)
	s.adopt(q)
	return q
}

func (s *state) adopt(q *queue) {
	s.queues[q.key] = q
	s.classes.insert(q)
}
