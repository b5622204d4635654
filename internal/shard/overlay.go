package shard

import (
	"runtime"

	"linecard.example/internal/slab"
)

// Overlay is a write-back map over Tables for small records: changes stay in memory until FlushTo, and records that were read or
// flushed stay in a bounded cache outside the heap. Machines keep in it what they change often and scan now and then. Shard goroutine only.
type Overlay struct {
	t          Tables
	dirty      map[string]record
	dirtyBytes int
	keys       dirtyKeys
	clean      cleanCache
}

// record is a value, or that there is none. Values are never written to after they were stored.
type record struct {
	val     []byte
	present bool
}

// recordOverhead is about what an entry costs beyond its key and value: map slot, slice headers, key run.
const recordOverhead = 96

func recordSize(key int, r record) int { return key + len(r.val) + recordOverhead }

// NewOverlay returns an overlay of t whose cache of unchanged records holds about cleanBytes; 0: no cache.
func NewOverlay(t Tables, cleanBytes int) *Overlay {
	o := &Overlay{t: t, dirty: map[string]record{}, clean: newCleanCache(cleanBytes)}
	runtime.AddCleanup(o, func(ring []byte) { _ = slab.Unmap(ring) }, o.clean.mapped)
	return o
}

// Get returns the value of key. The slice is the overlay's: it may not be written to, and is valid until the next call of any method.
func (o *Overlay) Get(key []byte) (val []byte, ok bool, err error) {
	if r, hit := o.dirty[string(key)]; hit {
		return r.val, r.present, nil
	}
	if r, hit := o.clean.get(key); hit {
		return r.val, r.present, nil
	}
	val, ok, err = o.t.Get(key)
	if err != nil {
		return nil, false, err
	}
	o.clean.put(key, record{val: val, present: ok})
	return val, ok, nil
}

// Set sets key to val; it copies both.
func (o *Overlay) Set(key, val []byte) {
	o.change(key, record{val: append(make([]byte, 0, len(val)), val...), present: true})
}

// Delete removes key.
func (o *Overlay) Delete(key []byte) { o.change(key, record{}) }

func (o *Overlay) change(key []byte, r record) {
	if old, ok := o.dirty[string(key)]; ok {
		o.dirtyBytes += len(r.val) - len(old.val)
		o.dirty[string(key)] = r
		return
	}
	k := string(key)
	o.clean.drop(key)
	o.dirty[k] = r
	o.keys.add(k)
	o.dirtyBytes += recordSize(len(k), r)
}

// Size returns about how many bytes FlushTo would write now.
func (o *Overlay) Size() int { return o.dirtyBytes }

// FlushTo appends every change since the last FlushTo to b. The overlay reads as before: what was written stays in the cache as
// far as it has room.
func (o *Overlay) FlushTo(b *Batch) {
	for k, r := range o.dirty {
		if r.present {
			b.Set([]byte(k), r.val)
		} else {
			b.Delete([]byte(k))
		}
	}
	o.settle()
}

// settle moves the changes to the cache once they are in a batch. Reads that miss the cache before the batch is committed would
// see old values: the shard commits it before anything else happens on its goroutine.
func (o *Overlay) settle() {
	for k, r := range o.dirty {
		o.clean.put([]byte(k), r)
	}
	clear(o.dirty)
	o.keys = dirtyKeys{}
	o.dirtyBytes = 0
}
