package slab

import (
	"fmt"
	"math"
	"reflect"
	"unsafe"
)

const (
	chunkShift = 13 // 8,192 slots a chunk: 1 MiB of slots of 128 bytes; the kernel backs only what is touched
	chunkSlots = 1 << chunkShift
	chunkMask  = chunkSlots - 1
)

const (
	noSlot = math.MaxUint32     // end of the free list
	inUse  = math.MaxUint32 - 1 // slotMeta.next of a live slot
)

// MaxSlots is the largest capacity of a Slab.
const MaxSlots = inUse - 1

// slotMeta stands beside the slots, so that zeroing a slot leaves its generation and T needs no field for either.
type slotMeta struct {
	gen  uint32 // of the present use, or of the next one when the slot is free; never 0
	next uint32 // inUse, or the next free slot
}

// Slab holds up to Cap pointer-free values of type T in mapped memory. Slots are numbered densely from 0 and the slot released last
// is used first, so memory in use stays compact. Loop only.
type Slab[T any] struct {
	size   uintptr // bytes from slot to slot
	chunks [][]byte
	free   uint32 // head of the free list
	used   uint32 // slots ever used: the next fresh one
	live   uint32
	max    uint32
}

// New returns an empty slab for at most max values of T. It maps no memory yet.
//
// Errors: T holds a pointer (a uintptr counts as one) or is not 1 to MaxSlot bytes long, max is 0 or above MaxSlots.
func New[T any](max uint32) (*Slab[T], error) {
	t := reflect.TypeFor[T]()
	if err := checkType(t); err != nil {
		return nil, err
	}
	if max == 0 || max > MaxSlots {
		return nil, fmt.Errorf("slab: capacity %d is not 1 to %d", max, uint32(MaxSlots))
	}
	return &Slab[T]{size: t.Size(), free: noSlot, max: max}, nil
}

// Alloc takes a free slot. *t is zero and stays at its address until Release. gen is never 0.
// ok is false when all Cap slots are live, or when the kernel gives no memory for another chunk.
func (s *Slab[T]) Alloc() (slot, gen uint32, t *T, ok bool) {
	if s.free != noSlot {
		slot = s.free
		m := s.meta(slot)
		s.free, m.next = m.next, inUse
		s.live++
		return slot, m.gen, s.At(slot), true
	}
	if s.used == s.max || !s.grow() {
		return 0, 0, nil, false
	}
	slot = s.used
	s.used++
	s.live++
	*s.meta(slot) = slotMeta{gen: 1, next: inUse}
	return slot, 1, s.At(slot), true
}

// grow makes sure that the chunk of slot number used is mapped.
func (s *Slab[T]) grow() bool {
	if int(s.used>>chunkShift) < len(s.chunks) {
		return true
	}
	b, err := mapChunk(chunkSlots * int(s.size+unsafe.Sizeof(slotMeta{})))
	if err != nil {
		return false
	}
	s.chunks = append(s.chunks, b)
	return true
}

// meta stands in front of the slots of its chunk: 64 KiB of it keep any T aligned.
func (s *Slab[T]) meta(slot uint32) *slotMeta {
	base := unsafe.Pointer(unsafe.SliceData(s.chunks[slot>>chunkShift]))
	return (*slotMeta)(unsafe.Add(base, uintptr(slot&chunkMask)*unsafe.Sizeof(slotMeta{})))
}

// At returns the value of a slot known to be live, without a check of its generation. It panics on a slot far outside the slab.
// The pointer is valid until Release.
func (s *Slab[T]) At(slot uint32) *T {
	base := unsafe.Pointer(unsafe.SliceData(s.chunks[slot>>chunkShift]))
	return (*T)(unsafe.Add(base, chunkSlots*unsafe.Sizeof(slotMeta{})+uintptr(slot&chunkMask)*s.size))
}

// Get returns the value that (slot, gen) names, or nil when that use of the slot is over or never was. Any numbers are allowed.
func (s *Slab[T]) Get(slot, gen uint32) *T {
	if slot >= s.used {
		return nil
	}
	if m := s.meta(slot); m.gen != gen || m.next != inUse {
		return nil
	}
	return s.At(slot)
}

// Gen returns the generation of a live slot, 0 for any other number.
func (s *Slab[T]) Gen(slot uint32) uint32 {
	if slot >= s.used {
		return 0
	}
	m := s.meta(slot)
	if m.next != inUse {
		return 0
	}
	return m.gen
}

// Release zeroes the slot, makes every (slot, gen) kept elsewhere stale, and frees it. It panics when the slot is not live: a double
// release would give one slot to two sessions.
func (s *Slab[T]) Release(slot uint32) {
	if s.Gen(slot) == 0 {
		panic("slab: release of a slot that is not live")
	}
	m := s.meta(slot)
	*s.At(slot) = *new(T)
	if m.gen++; m.gen == 0 {
		m.gen = 1
	}
	m.next, s.free = s.free, slot
	s.live--
}

// Len returns the number of live slots.
func (s *Slab[T]) Len() int { return int(s.live) }

// Cap returns the largest number of live slots.
func (s *Slab[T]) Cap() int { return int(s.max) }

// Scan looks at no more than n slots from number from on and calls f for the live ones in ascending order. It returns where to go
// on, and 0 when it has come to the end: a round over all slots is a sequence of calls that starts and ends with 0. f may release
// any slot and allocate.
func (s *Slab[T]) Scan(from uint32, n int, f func(slot, gen uint32, t *T)) (next uint32) {
	for ; n > 0 && from < s.used; n-- {
		if m := s.meta(from); m.next == inUse {
			f(from, m.gen, s.At(from))
		}
		from++
	}
	if from >= s.used {
		return 0
	}
	return from
}

// Close gives all memory back to the kernel, live slots included, and leaves an empty slab that may be used again. No pointer into
// it may be used afterwards.
func (s *Slab[T]) Close() error {
	chunks := s.chunks
	s.chunks, s.free, s.used, s.live = nil, noSlot, 0, 0
	return unmapAll(chunks)
}
