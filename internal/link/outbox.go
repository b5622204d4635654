package link

import (
	"sync"
	"sync/atomic"

	"linecard.example/internal/stanza"
)

// Bounds of what is sent as one message.
const (
	maxBatch      = 64        // envelopes
	maxBatchBytes = 256 << 10 // bytes
	// FreePending bounds the encoded bytes of uncharged envelopes that wait for the sender goroutine.
	FreePending = 64 << 10
	// keepSpare bounds the bytes of emptied buffers that a stream keeps: enough for a burst of usual batches, so that it allocates
	// nothing, and little beside the credits.
	keepSpare = 512 << 10
	// firstBuffer is the least size of a buffer; larger than the 1 KiB below which gRPC does not give buffers back.
	firstBuffer = 4 << 10
)

// batch is one message: encoded envelopes. It is in exactly one place: pending (filled by send), with the sender goroutine and its
// transport, or spare.
type batch struct {
	buf  []byte
	n    int // envelopes
	free int // encoded bytes of uncharged ones
	box  *outbox
}

type outboxState uint8

const (
	outboxOpen     outboxState = iota
	outboxDraining             // refuses, still hands out what is pending
	outboxClosed               // hands out nothing
)

// outbox holds what waits for the sender goroutine. Its bytes are bounded by the peer's credits and FreePending.
type outbox struct {
	mu      sync.Mutex
	cond    sync.Cond // the sender goroutine waits here
	waiting bool
	state   outboxState
	beat    bool          // send an empty batch
	notice  []byte        // goes before what is pending: an encoded envelope that somebody else holds, too
	held    bool          // turns hand over (Endpoint.Flush), not the stream's own goroutine
	hurry   bool          // held, but its own goroutine is to hand over
	ready   atomic.Bool   // held, and something is pending
	emptied atomic.Uint32 // held: how often all of it was taken

	initial int64
	credit  []int64 // by group index
	free    int     // uncharged bytes pending

	pending []*batch // from head on, oldest first; the last may still be filled
	head    int
	spare   []*batch
	spared  int // bytes of spare
	usual   int // size of the last batch taken, a guess for a new buffer
}

func (o *outbox) init(groups, credit int) {
	o.cond.L = &o.mu
	o.initial = int64(credit)
	o.credit = make([]int64, groups)
	for i := range o.credit {
		o.credit[i] = o.initial
	}
}

// reserve is a quarter of a group's credit. Half of the credit may be with the peer although nothing is under way (window.done), and the
// largest envelope must pass beside the reserve, so a small credit has a smaller one.
func (o *outbox) reserve() int64 {
	return max(0, min(o.initial/4, o.initial/2-MaxPayload-maxHeader))
}

// send charges and appends e, which is of group index i, if that leaves keep.
func (o *outbox) send(e *Envelope, i int, keep int64) error {
	size := int64(e.Size())
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxOpen {
		return ErrDown
	}
	if o.credit[i] < size+keep || (size == 0 && o.free+maxHeader+len(e.Payload) > FreePending) {
		return ErrNoCredit
	}
	o.credit[i] -= size
	o.append(e, size == 0)
	return nil
}

// append encodes e into the open batch, or a new one when that is full.
func (o *outbox) append(e *Envelope, free bool) {
	var b *batch
	if o.head < len(o.pending) {
		b = o.pending[len(o.pending)-1]
	}
	if b == nil || b.n == maxBatch || len(b.buf)+maxHeader+len(e.Payload) > maxBatchBytes {
		b = o.next()
	}
	before := len(b.buf)
	b.buf = AppendEnvelope(b.buf, e)
	b.n++
	if free {
		b.free += len(b.buf) - before
		o.free += len(b.buf) - before
	}
	if !o.held {
		o.signal()
	} else if !o.ready.Load() { // a load is cheaper where it is set already
		o.ready.Store(true)
	}
}

// next adds an empty batch to pending.
func (o *outbox) next() *batch {
	b := o.empty()
	if len(o.pending) == cap(o.pending) && o.head > len(o.pending)/2 { // use the room at the front before growing
		n := copy(o.pending, o.pending[o.head:])
		clear(o.pending[n:])
		o.pending, o.head = o.pending[:n], 0
	}
	o.pending = append(o.pending, b)
	return b
}

// empty returns a batch with nothing in it.
func (o *outbox) empty() (b *batch) {
	n := len(o.spare)
	if n == 0 {
		return &batch{box: o, buf: make([]byte, 0, max(firstBuffer, o.usual))}
	}
	b, o.spare = o.spare[n-1], o.spare[:n-1]
	o.spared -= cap(b.buf)
	return b
}

// post has the sender goroutine send one encoded, uncharged envelope ahead of all others, in place of an earlier one that it did not come
// to. It is not for held outboxes.
func (o *outbox) post(notice []byte) {
	o.mu.Lock()
	o.notice = notice
	o.signal()
	o.mu.Unlock()
}

// popNotice returns a batch with what was posted.
func (o *outbox) popNotice() *batch {
	b := o.empty()
	b.buf, b.n = append(b.buf, o.notice...), 1
	o.notice, o.beat = nil, false
	return b
}

func (o *outbox) signal() {
	if o.waiting {
		o.waiting = false
		o.cond.Signal()
	}
}

// take waits for the next batch and hands it to the sender goroutine, which gives it back by recycle. An empty one is a sign of
// life. nil: the stream ends. Sender goroutine only.
func (o *outbox) take() *batch {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		switch {
		case o.state == outboxClosed:
			return nil
		case o.notice != nil && o.state == outboxOpen:
			return o.popNotice()
		case o.head < len(o.pending):
			return o.pop()
		case o.state == outboxDraining:
			return nil
		case o.beat:
			o.beat = false
			b := o.next()
			o.pop()
			return b
		}
		o.waiting = true
		o.cond.Wait()
	}
}

// tryTake returns the next batch of a held outbox, nil when there is none now.
func (o *outbox) tryTake() *batch {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxClosed && o.head < len(o.pending) {
		return o.pop()
	}
	o.ready.Store(false)
	o.emptied.Add(1)
	return nil
}

// hold leaves what is pending to turns from here on.
func (o *outbox) hold() {
	o.mu.Lock()
	o.held = true
	o.ready.Store(o.head < len(o.pending))
	o.mu.Unlock()
}

// rush has the stream's own goroutine hand over what is pending.
func (o *outbox) rush() {
	o.mu.Lock()
	o.hurry = true
	o.signal()
	o.mu.Unlock()
}

// rushed waits until the stream's own goroutine has to hand over; false: the stream ends.
func (o *outbox) rushed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.state == outboxOpen && !o.hurry {
		o.waiting = true
		o.cond.Wait()
	}
	o.hurry = false
	return o.state == outboxOpen || o.state == outboxDraining && o.head < len(o.pending)
}

func (o *outbox) pop() *batch {
	b := o.pending[o.head]
	o.pending[o.head] = nil
	o.head++
	if o.head == len(o.pending) {
		o.pending, o.head = o.pending[:0], 0
	}
	o.free -= b.free
	o.usual = len(b.buf)
	o.beat = false
	return b
}

// recycle takes a batch back when nothing reads its bytes any more. Any goroutine.
func (o *outbox) recycle(b *batch) {
	o.mu.Lock()
	if o.spared+cap(b.buf) <= keepSpare && o.state != outboxClosed {
		b.buf, b.n, b.free = b.buf[:0], 0, 0
		o.spared += cap(b.buf)
		o.spare = append(o.spare, b)
	}
	o.mu.Unlock()
}

// trim lets go of the buffers that nothing is in.
func (o *outbox) trim() {
	o.mu.Lock()
	o.spare, o.spared = nil, 0
	o.mu.Unlock()
}

// grant queues credit for the peer: n bytes of group g. It is not charged: one stands for at least half of a window, so the peer's
// own use bounds how many there can be.
func (o *outbox) grant(g stanza.Group, n int64) {
	o.mu.Lock()
	if o.state == outboxOpen {
		o.append(&Envelope{Kind: kindGrant, Group: g, ID: uint64(n)}, false)
	}
	o.mu.Unlock()
}

// granted books credit that came from the peer; false when it is more than was used.
func (o *outbox) granted(i int, n uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n > uint64(o.initial-o.credit[i]) {
		return false
	}
	o.credit[i] += int64(n)
	return true
}

// pulse asks for a sign of life; it is left out when a batch is taken before.
func (o *outbox) pulse() {
	o.mu.Lock()
	o.beat = true
	o.signal()
	o.mu.Unlock()
}

// drain refuses further envelopes; the sender goroutine ends when it has taken what is pending.
func (o *outbox) drain() { o.end(outboxDraining) }

// close drops what is pending and ends the sender goroutine. It returns how many envelopes were dropped.
func (o *outbox) close() (dropped int) {
	o.end(outboxClosed)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range o.pending[o.head:] {
		dropped += b.n
	}
	o.pending, o.head, o.spare, o.spared = nil, 0, nil, 0
	return dropped
}

func (o *outbox) end(s outboxState) {
	o.mu.Lock()
	o.state = max(o.state, s)
	o.waiting = false
	o.cond.Broadcast()
	o.mu.Unlock()
}
