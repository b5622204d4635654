package link

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// Faults breaks streams on purpose: for tests. It sits between a stream's outbox and its transport, so what it does looks the same in
// one process and over gRPC. Safe for concurrent use.
//
// It loses, repeats and reorders what a stream promises to carry once and in order. TCP does none of this by itself; links do it when
// they break and are made again, and the daemons are to hold against it. But some envelopes are said once in the life of a stream
// (fragile), and only a new stream makes their sender say them again: a batch with one of those is not lost alone, its loss ends
// the stream, as it would in production. Nor is it reordered. Credits stay right in any case: they are not what is tested.
type Faults struct {
	mu   sync.Mutex
	rnd  *rand.Rand
	legs map[Leg]*leg
}

// Leg is one direction between endpoints of two roles.
type Leg struct{ From, To Role }

// Plan is the share of a leg's batches that meets each fault: 0 to 1 each, and together.
type Plan struct{ Drop, Delay, Duplicate, Reorder float64 }

// Tally counts what happened on a leg. Cut is the part of Dropped that ended a stream.
type Tally struct{ Batches, Dropped, Delayed, Duplicated, Reordered, Cut int }

type leg struct {
	plan    Plan
	tally   Tally
	stopped chan struct{} // nil: it runs; closed when it may go on
}

// Shape of the faults.
const (
	maxDelay = 100 * time.Millisecond // of a batch and all behind it
	maxHold  = 20 * time.Millisecond  // of a batch that waits for one to overtake it
)

// NewFaults returns faults that are all off. src decides which batches meet them.
func NewFaults(src rand.Source) *Faults {
	return &Faults{rnd: rand.New(src), legs: map[Leg]*leg{}}
}

// Inject has f break every stream of e. Call it before the first one.
func (e *Endpoint) Inject(f *Faults) { e.faults = f }

// Set changes the plan of a leg.
func (f *Faults) Set(l Leg, p Plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leg(l).plan = p
}

// Stop stops a leg: nothing is delivered and nothing fails, as if the peer hung. Go lets it go on; the streams that still stand then
// deliver what was sent. A stream of a stopped leg does not end in order before that.
func (f *Faults) Stop(l Leg) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.leg(l); x.stopped == nil {
		x.stopped = make(chan struct{})
	}
}

// Go ends Stop.
func (f *Faults) Go(l Leg) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.leg(l); x.stopped != nil {
		close(x.stopped)
		x.stopped = nil
	}
}

// Tally returns what happened on a leg so far.
func (f *Faults) Tally(l Leg) Tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leg(l).tally
}

func (f *Faults) leg(l Leg) *leg {
	x := f.legs[l]
	if x == nil {
		x = &leg{}
		f.legs[l] = x
	}
	return x
}

// errCut ends a stream that lost a batch.
var errCut = errors.New("link: cut by a test")

type fault uint8

const (
	faultNone fault = iota
	faultDrop
	faultDelay
	faultDuplicate
	faultReorder
)

// draw decides what happens to a batch of leg l; reorder says that it may be overtaken. For a delay d is how long.
func (f *Faults) draw(l *leg, reorder bool) (what fault, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.tally.Batches++
	r, p := f.rnd.Float64(), &l.plan
	switch {
	case r < p.Drop:
		l.tally.Dropped++
		return faultDrop, 0
	case r < p.Drop+p.Delay:
		l.tally.Delayed++
		return faultDelay, time.Duration(f.rnd.Int64N(int64(maxDelay)))
	case r < p.Drop+p.Delay+p.Duplicate:
		l.tally.Duplicated++
		return faultDuplicate, 0
	case reorder && r < p.Drop+p.Delay+p.Duplicate+p.Reorder:
		l.tally.Reordered++
		return faultReorder, 0
	}
	return faultNone, 0
}

// faultySender stands before a stream's transmit. Sender goroutine only.
type faultySender struct {
	f        *Faults
	l        *leg
	s        *Stream
	transmit func(*batch) error
	envs     []Envelope // of the batch, without grants
	grants   []Envelope
	held     *batch // to be overtaken by the next
}

func (f *Faults) sender(s *Stream, transmit func(*batch) error) *faultySender {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &faultySender{f: f, l: f.leg(Leg{s.ep.info.Role, s.peer.Role}), s: s, transmit: transmit}
}

// send takes the place of transmit.
func (x *faultySender) send(b *batch) error {
	if err := x.wait(); err != nil {
		return err
	}
	if err := x.parse(b); err != nil || len(x.envs) == 0 {
		return errors.Join(err, x.pass(b)) // a sign of life, or grants
	}
	what, d := x.f.draw(x.l, x.held == nil && len(x.grants) == 0 && !x.fragile())
	switch what {
	case faultDrop:
		return x.drop(b)
	case faultDelay:
		x.sleep(d)
	case faultDuplicate:
		again := x.again()
		if err := x.pass(b); err != nil || again == nil {
			return err
		}
		return x.transmit(again)
	case faultReorder:
		x.held = b
		time.AfterFunc(maxHold, x.s.out.pulse) // if nothing else comes
		return nil
	}
	return x.pass(b)
}

// pass sends b, and behind it what was held.
func (x *faultySender) pass(b *batch) error {
	if err := x.transmit(b); err != nil || x.held == nil {
		return err
	}
	b, x.held = x.held, nil
	return x.transmit(b)
}

// end sends what is held at the orderly end of the stream.
func (x *faultySender) end() {
	select {
	case <-x.s.failed:
	default:
		if x.held != nil {
			_ = x.transmit(x.held) // the stream has ended: its other end says how
		}
	}
}

// wait blocks while the leg is stopped.
func (x *faultySender) wait() error {
	x.f.mu.Lock()
	stopped := x.l.stopped
	x.f.mu.Unlock()
	if stopped == nil {
		return nil
	}
	select {
	case <-stopped:
		return x.wait()
	case <-x.s.failed:
		return x.s.failErr
	}
}

func (x *faultySender) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-x.s.failed:
	}
}

// parse takes b apart; the envelopes keep a copy of its bytes.
func (x *faultySender) parse(b *batch) error {
	x.envs, x.grants = x.envs[:0], x.grants[:0]
	for rest := append([]byte(nil), b.buf...); len(rest) > 0; {
		var e Envelope
		var err error
		if rest, err = DecodeEnvelope(rest, &e); err != nil {
			return err
		}
		if e.Kind == kindGrant {
			x.grants = append(x.grants, e)
		} else {
			x.envs = append(x.envs, e)
		}
	}
	return nil
}

// fragile reports whether the batch says something that only a new stream makes its sender say again.
func (x *faultySender) fragile() bool {
	for i := range x.envs {
		switch x.envs[i].Kind {
		case KindMessage, KindStore, KindAck, KindRefused, KindDeliver, KindDeliveryAck, KindExpect, KindQuery, KindResult, KindNote,
			KindContact, KindReceipt, KindReceiptStored, KindDropQueue, KindQueueDropped, KindUnlinkIdle, KindNotLeader:
		default:
			return true
		}
	}
	return false
}

// drop loses b. Its grants go all the same, and its credits come back: only a receiver could give them.
func (x *faultySender) drop(b *batch) error {
	if x.fragile() {
		x.f.mu.Lock()
		x.l.tally.Cut++
		x.f.mu.Unlock()
		return errCut
	}
	x.s.out.recycle(b)
	for i := range x.envs {
		e := &x.envs[i]
		x.s.out.granted(groupIndex(e.Group), uint64(e.Size()))
	}
	return x.pass(x.batch(x.grants))
}

// again returns a second batch with b's envelopes, which are charged a second time: nil when there is no credit for that.
func (x *faultySender) again() *batch {
	o := &x.s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range x.envs {
		if o.credit[groupIndex(x.envs[i].Group)] < maxBatchBytes {
			return nil
		}
	}
	for i := range x.envs {
		o.credit[groupIndex(x.envs[i].Group)] -= int64(x.envs[i].Size())
	}
	return x.batch(x.envs)
}

func (x *faultySender) batch(envs []Envelope) *batch {
	b := &batch{box: &x.s.out, n: len(envs)}
	for i := range envs {
		b.buf = AppendEnvelope(b.buf, &envs[i])
	}
	return b
}
