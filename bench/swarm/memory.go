package swarm

import (
	"runtime/metrics"
	"unsafe"
)

// memory adds up what the sessions take outside of the heap.
func (l *loop) memory() Memory {
	slotSize := uint64(unsafe.Sizeof(session{})) + 8 // and what the slab keeps beside it
	m := Memory{
		Slots:   uint64(l.slots.Len())*slotSize + uint64(l.wheel.Len())*16 + uint64(len(l.owner))*4,
		Tickets: l.tickets.size(),
		PSS:     pss(),
		Base:    l.base,
	}
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() == metrics.KindUint64 {
		m.Heap = sample[0].Value.Uint64()
	}
	return m
}
