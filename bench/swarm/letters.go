package swarm

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"
)

// Address names a device.
type Address struct {
	Account uint64
	Device  uint32
}

// Arrivals says which letters of a run arrived at the sessions of an engine.
type Arrivals struct {
	Run     uint64
	Set     []byte // bit k of byte k/8, lowest first: number k arrived
	Count   int    // bits of Set
	Doubled uint64 // arrived again on the same connection or a later one
	Corrupt uint64
}

// Merge adds what another engine saw. A number that arrived at both counts as doubled.
func (a *Arrivals) Merge(b Arrivals) {
	if len(a.Set) < len(b.Set) {
		a.Set = append(a.Set, make([]byte, len(b.Set)-len(a.Set))...)
	}
	for k, set := range b.Set {
		a.Doubled += uint64(bits.OnesCount8(a.Set[k] & set))
		a.Count += bits.OnesCount8(set &^ a.Set[k])
		a.Set[k] |= set
	}
	a.Doubled += b.Doubled
	a.Corrupt += b.Corrupt
}

const maxLetters = 1 << 27 // of a run: 16 MiB of bits

// expect makes room for the letters of a run; the bits of the run before it go.
func (l *loop) expect(run uint64, letters int) error {
	if letters < 1 || letters > maxLetters {
		return fmt.Errorf("swarm: %d letters: want 1 to %d", letters, maxLetters)
	}
	l.arrivals = Arrivals{Run: run, Set: make([]byte, (letters+7)/8)}
	return nil
}

// letterArrived notes one letter.
func (l *loop) letterArrived(p *payload, _ *session, whole bool) {
	a := &l.arrivals
	if a.Run != p.run {
		return
	}
	if !whole || p.number/8 >= uint64(len(a.Set)) {
		a.Corrupt++
		return
	}
	bit := byte(1) << (p.number % 8)
	if a.Set[p.number/8]&bit != 0 {
		a.Doubled++
		return
	}
	a.Set[p.number/8] |= bit
	a.Count++
}

// addresses returns the addresses of sessions; all of them must have been bound.
func (l *loop) addresses(sessions []int) ([]Address, error) {
	out := make([]Address, len(sessions))
	for k, n := range sessions {
		if n < 0 || n >= l.slots.Len() || l.slots.At(uint32(n)).account == 0 {
			return nil, fmt.Errorf("swarm: session %d has no account yet", n)
		}
		s := l.slots.At(uint32(n))
		out[k] = Address{Account: s.account, Device: uint32(s.device)}
	}
	return out, nil
}

// beginLetters starts to send letters: of each session one at a time, so that none needs to know of those before it.
func (l *loop) beginLetters(o Letters, ended func()) (*traffic, error) {
	if o.Size < MinSize || len(o.List) == 0 {
		return nil, fmt.Errorf("swarm: %d letters of %d bytes", len(o.List), o.Size)
	}
	bySender := map[int]uint32{} // index in flows
	var flows []*flow
	queued := make([]uint32, 0, len(o.List))
	for _, job := range o.List {
		if job.From < 0 || job.From >= l.slots.Len() {
			return nil, fmt.Errorf("swarm: a letter from session %d: there are %d", job.From, l.slots.Len())
		}
		k, known := bySender[job.From]
		if !known {
			k = uint32(len(flows))
			bySender[job.From] = k
			flows = append(flows, &flow{from: uint32(job.From), to: uint32(job.From)})
		}
		flows[k].jobs = append(flows[k].jobs, job)
		flows[k].quota++
		queued = append(queued, k)
	}
	t, err := l.newTraffic(Pairs{Size: o.Size, InFlight: 1, Drain: lettersDrain}, kindLetters, o.Run, flows, ended)
	if err != nil {
		return nil, err
	}
	t.quota, t.queued = uint64(len(o.List)), queued
	for range lettersInFlight {
		l.releaseLetter(t)
	}
	return t, nil
}

const (
	lettersInFlight = 16              // of an engine: more than a machine can take at once says nothing but how it is overloaded
	lettersDrain    = 3 * time.Minute // without an answer: longer than a refused one may wait
)

// releaseLetter lets the next letter go.
func (l *loop) releaseLetter(t *traffic) {
	if len(t.queued) == 0 {
		return
	}
	f := t.flows[t.queued[0]]
	t.queued = t.queued[1:]
	f.released++
	l.markDirty(f.from, l.slots.At(f.from))
}

// newRun numbers an order so that late messages of another are not taken for its own.
func newRun() uint64 { return rand.Uint64() }
