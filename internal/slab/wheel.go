package slab

import (
	"math"
	"math/bits"
	"time"
	"unsafe"
)

const (
	entryShift = 12 // 4,096 entries a chunk: 64 KiB
	entryMask  = 1<<entryShift - 1
	noEntry    = math.MaxUint32
	farthest   = math.MaxInt32 // ticks ahead that the wrapping comparison of deadlines can tell from the past
)

// entry is one armed timer. 16 bytes is the whole cost of it.
type entry struct {
	slot, gen uint32
	due       uint32 // tick number, wrapping
	next      uint32 // in the list of its bucket, or in the free list
}

type list struct{ head, tail uint32 }

// Wheel is a set of coarse timers that name slots. Its memory is mapped and pointer-free, 16 bytes per armed timer. There is no
// removal: a timer whose (slot, gen) went stale comes due like any other, and its owner finds out with Slab.Get. It reads no clock:
// its owner calls Advance. Loop only.
type Wheel struct {
	tick    time.Duration
	now     uint32 // ticks so far, wrapping
	mask    uint32 // buckets - 1; a power of two, so that bucket numbers survive the wrap of now
	armed   int
	free    uint32
	fresh   uint32 // entries ever used
	buckets []list
	chunks  [][]byte
}

// NewWheel returns an empty wheel. tick is the length of a tick (above 0). horizon is the number of ticks (1 to 2^20, clamped, rounded up
// to a power of two) after which a bucket comes round again: timers farther ahead work, and are looked at once per round.
func NewWheel(tick time.Duration, horizon int) *Wheel {
	if tick <= 0 {
		panic("slab: a tick must be longer than nothing")
	}
	n := uint(min(max(horizon, 1), 1<<20))
	size := uint32(1) << bits.Len(n-1)
	w := &Wheel{tick: tick, mask: size - 1, free: noEntry, buckets: make([]list, size)}
	for i := range w.buckets {
		w.buckets[i] = list{noEntry, noEntry}
	}
	return w
}

// Ticks returns d in whole ticks, rounded up, at least 1: a timer armed with it never comes due before d has passed since the last
// Advance.
func (w *Wheel) Ticks(d time.Duration) int {
	if d <= w.tick {
		return 1
	}
	n := d / w.tick
	if d%w.tick != 0 {
		n++
	}
	return int(min(n, farthest))
}

// Len returns the number of armed timers, stale ones included.
func (w *Wheel) Len() int { return w.armed }

// Arm makes (slot, gen) come due inTicks ticks from now (clamped to 1 .. 2^31-1). A slot may be armed more than once. It reports
// false, and has armed nothing, when the kernel gives no memory.
func (w *Wheel) Arm(slot, gen uint32, inTicks int) bool {
	i := w.free
	if i != noEntry {
		w.free = w.entry(i).next
	} else if i = w.fresh; i == noEntry || !w.grow() {
		return false
	} else {
		w.fresh++
	}
	*w.entry(i) = entry{slot: slot, gen: gen, due: w.now + uint32(min(max(inTicks, 1), farthest))}
	w.append(i)
	w.armed++
	return true
}

// append puts entry i at the end of its bucket's list: timers of one tick come due in the order in which they were armed.
func (w *Wheel) append(i uint32) {
	e := w.entry(i)
	e.next = noEntry
	b := &w.buckets[e.due&w.mask]
	if b.head == noEntry {
		b.head = i
	} else {
		w.entry(b.tail).next = i
	}
	b.tail = i
}

// Advance moves the wheel by ticks (nothing below 1) and calls due for each timer that has come due, earlier ticks first. Only in a
// step longer than the horizon, as after a suspended machine, the order is lost: each bucket is then visited once, not once per
// round. due may call Arm, which counts from the new now.
func (w *Wheel) Advance(ticks int, due func(slot, gen uint32)) {
	if ticks < 1 {
		return
	}
	ticks = min(ticks, farthest)
	first := w.now + 1
	w.now += uint32(ticks)
	for n := range uint32(min(ticks, len(w.buckets))) {
		w.visit((first+n)&w.mask, due)
	}
	if w.armed == 0 && len(w.chunks) > 1 {
		w.trim()
	}
}

// trim gives the memory of a wheel without timers back, but for one chunk: a burst of timers that are over keeps nothing.
func (w *Wheel) trim() {
	_ = unmapAll(w.chunks[1:]) // what the kernel does not take back is lost, and nothing else
	clear(w.chunks[1:])
	w.chunks, w.free, w.fresh = w.chunks[:1], noEntry, 0
}

// visit empties one bucket: what is due goes to due, the rest back. The list is taken off first, so that due may arm into this bucket.
func (w *Wheel) visit(bucket uint32, due func(slot, gen uint32)) {
	i := w.buckets[bucket].head
	w.buckets[bucket] = list{noEntry, noEntry}
	for i != noEntry {
		e := w.entry(i)
		next := e.next
		if int32(e.due-w.now) > 0 {
			w.append(i)
		} else {
			slot, gen := e.slot, e.gen
			e.next, w.free = w.free, i
			w.armed--
			due(slot, gen)
		}
		i = next
	}
}

func (w *Wheel) entry(i uint32) *entry {
	base := unsafe.Pointer(unsafe.SliceData(w.chunks[i>>entryShift]))
	return (*entry)(unsafe.Add(base, uintptr(i&entryMask)*unsafe.Sizeof(entry{})))
}

func (w *Wheel) grow() bool {
	if int(w.fresh>>entryShift) < len(w.chunks) {
		return true
	}
	b, err := mapChunk((entryMask + 1) * int(unsafe.Sizeof(entry{})))
	if err != nil {
		return false
	}
	w.chunks = append(w.chunks, b)
	return true
}

// Close forgets all timers and gives their memory back to the kernel. The wheel may be used again.
func (w *Wheel) Close() error {
	chunks := w.chunks
	w.chunks, w.free, w.fresh, w.armed = nil, noEntry, 0, 0
	for i := range w.buckets {
		w.buckets[i] = list{noEntry, noEntry}
	}
	return unmapAll(chunks)
}
