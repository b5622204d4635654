package shard

import "time"

// proposal is one pack from its first command until its outcome is delivered. Shard goroutine only.
type proposal[C any] struct {
	buf   []byte // header and commands; raft's from submission on
	ctxs  []C
	seq   uint64        // 0: not submitted
	since time.Duration // monotonic time of the first command, then of the submission
	lazy  bool          // holds only commands that may wait for company
	full  bool          // takes no more commands
	lead  bool
	done  bool // out is known, and waits for its turn
	out   Outcome
}

// proposals is the queue of a group's packs in the order of proposing: first those in flight, then those that wait, the last of
// which still takes commands. Contexts leave it in that order, each exactly once. Shard goroutine only.
type proposals[C any] struct {
	q        []*proposal[C] // q[head:] is the queue
	head     int
	inFlight int // submitted, not done
	pending  int // bytes in the queue
	seq      uint64
	free     []*proposal[C]
	sizeHint int // of the last full or submitted pack
}

const (
	keepFree    = 8  // recycled proposals of a group
	contextCost = 64 // bytes a context counts as pending, so that tiny commands are bounded too
)

func (p *proposals[C]) empty() bool { return p.head == len(p.q) }

// first returns the oldest pack, nil if there is none.
func (p *proposals[C]) first() *proposal[C] {
	if p.empty() {
		return nil
	}
	return p.q[p.head]
}

// add appends a command to the open pack, or to a new one.
func (p *proposals[C]) add(cmd []byte, ctx C, lazy bool, limit int, now time.Duration) {
	var t *proposal[C]
	if n := len(p.q); n > p.head {
		t = p.q[n-1]
	}
	if t == nil || t.full || t.seq != 0 || t.done || len(t.buf)+len(cmd) > MaxPackBytes {
		if t != nil {
			t.full = true
		}
		t = p.push(now)
		t.lazy = true
	}
	before := len(t.buf)
	t.buf = appendCommand(t.buf, cmd)
	t.ctxs = append(t.ctxs, ctx)
	t.lazy = t.lazy && lazy
	t.full = len(t.ctxs) >= limit || len(t.buf) >= MaxPackBytes
	p.pending += len(t.buf) - before + contextCost
}

// push starts a new pack at the end of the queue.
func (p *proposals[C]) push(now time.Duration) *proposal[C] {
	var t *proposal[C]
	if n := len(p.free); n > 0 {
		t, p.free = p.free[n-1], p.free[:n-1]
	} else {
		t = new(proposal[C])
	}
	*t = proposal[C]{ctxs: t.ctxs, since: now, buf: make([]byte, packHeader, max(p.sizeHint, 128))}
	p.pending += packHeader
	if p.head > 64 && p.head*2 > len(p.q) {
		n := copy(p.q, p.q[p.head:])
		clear(p.q[n:])
		p.q, p.head = p.q[:n], 0
	}
	p.q = append(p.q, t)
	return t
}

// waiting returns the oldest pack that is not submitted and has no outcome, nil if there is none.
func (p *proposals[C]) waiting() *proposal[C] {
	for _, t := range p.q[p.head:] {
		if t.seq == 0 && !t.done {
			return t
		}
	}
	return nil
}

// rejectWaiting resolves every pack that is not submitted.
func (p *proposals[C]) rejectWaiting() {
	for _, t := range p.q[p.head:] {
		if t.seq == 0 {
			p.resolve(t, Rejected)
		}
	}
}

// submit numbers t and counts it in flight.
func (p *proposals[C]) submit(t *proposal[C], now time.Duration) {
	p.seq++
	t.seq, t.full, t.since = p.seq, true, now
	p.inFlight++
	// A little over the last size, so that packs of one kind seldom grow and never waste much.
	p.sizeHint = min(len(t.buf)+len(t.buf)/8, MaxPackBytes)
}

// resolve sets the outcome of t, which is delivered when it becomes the first.
func (p *proposals[C]) resolve(t *proposal[C], out Outcome) {
	if t.done {
		return
	}
	t.done, t.out = true, out
	if t.seq != 0 {
		p.inFlight--
	}
}

// find returns the pack in flight with the number seq, nil if its outcome was delivered or is known.
func (p *proposals[C]) find(seq uint64) *proposal[C] {
	for _, t := range p.q[p.head:] {
		if t.seq == seq && !t.done {
			return t
		}
	}
	return nil
}

// pop takes the first pack out of the queue; the caller delivers its contexts and then calls recycle.
func (p *proposals[C]) pop() *proposal[C] {
	t := p.q[p.head]
	p.q[p.head] = nil
	p.head++
	if p.empty() {
		p.q, p.head = p.q[:0], 0
	}
	p.pending -= len(t.buf) + contextCost*len(t.ctxs)
	return t
}

// recycle keeps t for a later pack. Its buffer is raft's and goes.
func (p *proposals[C]) recycle(t *proposal[C]) {
	clear(t.ctxs)
	t.ctxs, t.buf = t.ctxs[:0], nil
	if len(p.free) < keepFree {
		p.free = append(p.free, t)
	}
}
