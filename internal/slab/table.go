package slab

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"runtime"
	"unsafe"
)

// Table maps keys to pointer-free values of type V in mapped memory: nothing for the collector to walk, nothing that GOGC multiplies.
// Size of a Key and of V are what an entry costs, divided by how full the table is: 64 to 87 % while it grows, since it grows by a
// quarter at a time.
//
// Entries stand in the order of a keyed hash, each at the place that its hash names or behind it (linear probing with sorted runs). So
// growing is one pass over both memories, and a walk that stops at a hash goes on there, whatever was put, deleted or moved meanwhile.
//
// A Table belongs to one goroutine. The zero value is not usable: see NewTable.
type Table[V any] struct {
	hashes []uint64 // of the keys, 0: free
	vals   []V
	homes  uint64 // places that a hash names; behind them is room for the runs of the last ones
	used   int
	seed   uint64
	mem    *tableMemory
}

// tableMemory is what a table has mapped. It is an object of its own so that it can be given back after the table is garbage.
type tableMemory struct{ chunks [][]byte }

const (
	tableLeast = 128 // homes of the smallest table
	tableSpill = 64  // places behind the homes
)

// NewTable returns an empty table, which maps no memory yet. It panics if V holds a pointer (a uintptr counts as one) or is not 1 to
// MaxSlot bytes long.
func NewTable[V any]() *Table[V] {
	if err := checkType(reflect.TypeFor[V]()); err != nil {
		panic(err)
	}
	// The key 0^seed has the hash 0, which says free: with the highest bit in the seed it is no key of ours.
	t := &Table[V]{seed: rand.Uint64() | 1<<63, mem: &tableMemory{}}
	runtime.AddCleanup(t, func(m *tableMemory) { _ = unmapAll(m.chunks) }, t.mem)
	return t
}

// MaxTableKey is the largest key of a Table.
const MaxTableKey = 1<<63 - 1

// Len returns the number of entries.
func (t *Table[V]) Len() int { return t.used }

// Bytes returns how much memory is mapped.
func (t *Table[V]) Bytes() int {
	n := 0
	for _, b := range t.mem.chunks {
		n += len(b)
	}
	return n
}

// Get returns the value of key, nil if there is none. It is the table's: valid until the next Put, Delete or Clear.
func (t *Table[V]) Get(key uint64) *V {
	if t.used == 0 {
		return nil
	}
	if i, ok := t.find(t.hash(key)); ok {
		return &t.vals[i]
	}
	return nil
}

// Put sets the value of key, which must not be above MaxTableKey. It panics when the kernel gives no memory, as an append would.
func (t *Table[V]) Put(key uint64, v V) {
	h := t.hash(key)
	if t.used > 0 {
		if i, had := t.find(h); had {
			t.vals[i] = v
			return
		}
	}
	if uint64(t.used) >= t.homes/8*7 {
		t.grow(max(tableLeast, t.homes+t.homes/4))
	}
	for !t.insert(h, &v) {
		t.grow(t.homes + t.homes/4)
	}
	t.used++
}

func (t *Table[V]) grow(homes uint64) {
	if err := t.resize(homes); err != nil {
		panic(err)
	}
}

// Delete removes key and reports whether it was there.
func (t *Table[V]) Delete(key uint64) bool {
	if t.used == 0 {
		return false
	}
	i, ok := t.find(t.hash(key))
	if !ok {
		return false
	}
	end := i + 1
	for t.hashes[end] != 0 && t.home(t.hashes[end]) < end {
		end++
	}
	copy(t.hashes[i:end-1], t.hashes[i+1:end])
	copy(t.vals[i:end-1], t.vals[i+1:end])
	t.hashes[end-1], t.vals[end-1] = 0, *new(V)
	t.used--
	if t.homes > tableLeast && uint64(t.used) < t.homes/4 {
		_ = t.resize(max(tableLeast, uint64(t.used)+uint64(t.used)/2)) // without memory it stays as it is
	}
	return true
}

// Clear removes all entries and gives the memory back.
func (t *Table[V]) Clear() {
	t.hashes, t.vals, t.homes, t.used = nil, nil, 0, 0
	t.mem.replace(nil)
}

func (m *tableMemory) replace(chunks [][]byte) {
	old := m.chunks
	m.chunks = chunks
	if err := unmapAll(old); err != nil {
		panic(err) // the kernel says that the memory is not ours
	}
}

// Scan calls f for about n entries behind the mark from, which is 0 or what an earlier call returned, until f returns false; that
// entry comes again. It returns the mark to go on from, 0 at the end. An entry that is there during a whole walk is seen once, others
// once or not at all. f may change *v; it may put and delete only if it returns false then.
func (t *Table[V]) Scan(from uint64, n int, f func(key uint64, v *V) bool) (next uint64) {
	if t.used == 0 {
		return 0
	}
	i := t.home(from)
	for t.hashes[i] != 0 && t.hashes[i] <= from {
		i++
	}
	for ; i < len(t.hashes); i++ {
		h := t.hashes[i]
		if h == 0 {
			continue
		}
		if n--; n < 0 || !f(t.key(h), &t.vals[i]) {
			return h - 1 // the one before h: from is exclusive
		}
	}
	return 0
}

// find returns the place of a hash, or, if it is not there, where it belongs.
func (t *Table[V]) find(h uint64) (i int, ok bool) {
	i = t.home(h)
	for t.hashes[i] != 0 && t.hashes[i] < h {
		i++
	}
	return i, t.hashes[i] == h
}

// insert puts a hash that is not there in its place and moves the rest of its run by one; false: the run reaches the end of the table.
func (t *Table[V]) insert(h uint64, v *V) bool {
	i, _ := t.find(h)
	end := i
	for t.hashes[end] != 0 {
		end++
	}
	if end >= len(t.hashes)-1 { // the last place stays free: every run ends
		return false
	}
	copy(t.hashes[i+1:end+1], t.hashes[i:end])
	copy(t.vals[i+1:end+1], t.vals[i:end])
	t.hashes[i], t.vals[i] = h, *v
	return true
}

// resize moves everything to a table with so many homes. After an error nothing has changed.
func (t *Table[V]) resize(homes uint64) error {
	n := int(homes) + tableSpill
	hashes, err := mapChunk(8 * n)
	if err != nil {
		return err
	}
	vals, err := mapChunk(n * int(unsafe.Sizeof(*new(V))))
	if err != nil {
		_ = unmapAll([][]byte{hashes})
		return err
	}
	old := *t
	t.hashes = unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(hashes))), n)
	t.vals = unsafe.Slice((*V)(unsafe.Pointer(unsafe.SliceData(vals))), n)
	t.homes = homes
	at := 0
	for i, h := range old.hashes {
		if h == 0 {
			continue
		}
		at = max(at, t.home(h))
		if at >= n-1 { // a run that does not fit behind the last home: with more homes it is elsewhere
			t.hashes, t.vals, t.homes = old.hashes, old.vals, old.homes
			_ = unmapAll([][]byte{hashes, vals})
			return t.resize(homes + homes/4)
		}
		t.hashes[at], t.vals[at] = h, old.vals[i]
		at++
	}
	t.mem.replace([][]byte{hashes, vals})
	return nil
}

func (t *Table[V]) home(h uint64) int {
	hi, _ := bits.Mul64(h, t.homes)
	return int(hi)
}

// hash is the finaliser of splitmix64, which maps no two keys to one hash, over the key and a secret.
func (t *Table[V]) hash(key uint64) uint64 {
	if key > MaxTableKey {
		panic(fmt.Sprintf("slab: key %#x of a table is above MaxTableKey", key))
	}
	h := key ^ t.seed
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// key takes hash back. The multipliers are the inverses of hash's modulo 2^64.
func (t *Table[V]) key(h uint64) uint64 {
	h = (h ^ h>>31 ^ h>>62) * 0x319642b2d24d8ec3
	h = (h ^ h>>27 ^ h>>54) * 0x96de1b173f119089
	return (h ^ h>>30 ^ h>>60) ^ t.seed
}
