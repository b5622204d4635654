package shard

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"

	"linecard.example/internal/slab"
)

// cleanCache holds records equal to the tables' within a bound of bytes. They stand one behind the other in a ring outside the heap, so
// that a cache of a hundred thousand records is nothing to the collector: what is put in pushes the oldest out, and a hit on an old one
// puts it in again. An index of hashes finds them; a record that was changed or put again stays in the ring until its turn, found by
// nobody.
type cleanCache struct {
	mapped     []byte // whole pages
	ring       []byte // of it: the bound
	index      *slab.Table[uint32]
	seed       maphash.Seed
	head, tail uint64 // the ring holds [tail, head), modulo its length
	scratch    []byte
}

// An entry of the ring: hash 8 bytes, length of all 4, length of the key 2, kind 1, key, value. Less than a header at the end of the ring is
// skipped.
const cleanHeader = 8 + 4 + 2 + 1

const (
	cleanAbsent  = 0 // there is no such record
	cleanPresent = 1
	cleanFiller  = 2 // the rest of the ring up to its end
)

// newCleanCache returns a cache of at most limit bytes, its index aside; without memory, one that holds nothing.
func newCleanCache(limit int) cleanCache {
	c := cleanCache{index: slab.NewTable[uint32](), seed: maphash.MakeSeed()}
	if limit > 0 {
		if b, err := slab.Map(limit); err == nil {
			c.mapped, c.ring = b, b[:limit:limit]
		}
	}
	return c
}

func (c *cleanCache) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) & slab.MaxTableKey }

// get returns the record of key. Its value is a view of the ring, valid until the next put.
func (c *cleanCache) get(key []byte) (record, bool) {
	h := c.hash(key)
	p := c.index.Get(h)
	if p == nil {
		return record{}, false
	}
	r, ok := c.at(*p, key)
	if size := uint64(len(c.ring)); ok && (c.head-uint64(*p))%size > size/2 {
		c.scratch = append(c.scratch[:0], r.val...)
		c.put(key, record{val: c.scratch, present: r.present})
		r.val = c.scratch
	}
	return r, ok
}

// at reads the entry at a place of the ring; false if it is another key's of the same hash.
func (c *cleanCache) at(p uint32, key []byte) (record, bool) {
	e := c.ring[p:]
	size, n := binary.LittleEndian.Uint32(e[8:]), int(binary.LittleEndian.Uint16(e[12:]))
	if !bytes.Equal(e[cleanHeader:cleanHeader+n], key) {
		return record{}, false
	}
	return record{val: e[cleanHeader+n : size : size], present: e[14] == cleanPresent}, true
}

func (c *cleanCache) put(key []byte, r record) {
	h := c.hash(key)
	c.index.Delete(h)
	size := cleanHeader + len(key) + len(r.val)
	if size > len(c.ring)/8 || len(key) > 1<<16-1 {
		return // it would push out too much
	}
	c.wrap(size)
	c.evict(size)
	p := uint32(c.head % uint64(len(c.ring)))
	e := c.ring[p:]
	binary.LittleEndian.PutUint64(e, h)
	binary.LittleEndian.PutUint32(e[8:], uint32(size))
	binary.LittleEndian.PutUint16(e[12:], uint16(len(key)))
	e[14] = cleanAbsent
	if r.present {
		e[14] = cleanPresent
	}
	copy(e[cleanHeader:], key)
	copy(e[cleanHeader+len(key):], r.val)
	c.head += uint64(size)
	c.index.Put(h, p)
}

// wrap moves head to the start of the ring if size bytes do not fit before its end.
func (c *cleanCache) wrap(size int) {
	left := len(c.ring) - int(c.head%uint64(len(c.ring)))
	if size <= left {
		return
	}
	c.evict(left)
	if left >= cleanHeader {
		e := c.ring[len(c.ring)-left:]
		binary.LittleEndian.PutUint32(e[8:], uint32(left))
		e[14] = cleanFiller
	}
	c.head += uint64(left)
}

// evict drops the oldest entries until there is room for size bytes more.
func (c *cleanCache) evict(size int) {
	for c.head+uint64(size)-c.tail > uint64(len(c.ring)) {
		p := c.tail % uint64(len(c.ring))
		if left := uint64(len(c.ring)) - p; left < cleanHeader {
			c.tail += left
			continue
		}
		e := c.ring[p:]
		if h := binary.LittleEndian.Uint64(e); e[14] != cleanFiller {
			if at := c.index.Get(h); at != nil && uint64(*at) == p {
				c.index.Delete(h)
			}
		}
		c.tail += uint64(binary.LittleEndian.Uint32(e[8:]))
	}
}

// drop forgets key.
func (c *cleanCache) drop(key []byte) { c.index.Delete(c.hash(key)) }

// bytes returns how much of the ring is in use.
func (c *cleanCache) bytes() int { return int(c.head - c.tail) }
