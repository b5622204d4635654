// Package slab keeps per-session state where the garbage collector does not look: pointer-free slots and coarse timers in
// anonymous memory maps.
//
// With two million sessions the collector's cost is what each session adds to the heap. A session here is one slot of at most
// 128 bytes in a mapped page: nothing to mark, nothing to sweep, and no memory beyond the slot. Pages are left out of core dumps
// and slots are zeroed when they are released, because they hold session keys.
//
// A slot is named by (slot, gen). Slots are dense small numbers and are used again; gen changes with every use, so that a name kept
// by somebody else (a timer, a binding in another daemon) goes stale by itself.
//
// What is known by a key and has no number of its own, a binding or an attachment, is an entry of a Table in such memory.
//
// Threads: a Slab, a Wheel or a Table belongs to one goroutine, an event loop or a shard's. No method may be called by two goroutines at once.
//
// Files: slab.go (Slab), check.go (which types may live in a slot), wheel.go (Wheel), table.go (Table), array.go (Array), memory.go with advise_*.go (the mapped chunks).
package slab
