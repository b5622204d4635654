package router

import (
	"math"
	"time"

	"linecard.example/internal/slab"
	"linecard.example/internal/stanza"
)

// Both tables below are soft: fixed in size, outside the heap, made when a group starts to lead and forgotten when it stops. An
// entry is named by a 64-bit hash under a random seed, so that nobody can choose pairs that collide. A set that is full forgets
// the entry that matters least; that errs towards letting a message pass, never towards refusing one.
const ways = 4

// bucketTable holds token buckets, each as the time at which it will be full again: a token costs one interval of that time, and a
// bucket that is full in the past is full. Shard goroutine only.
type bucketTable struct {
	sets     *slab.Array[[ways]bucket]
	seed     uint64
	interval time.Duration // one token
	room     time.Duration // how far ahead full may lie for one more token to be there
}

// bucket is 16 bytes.
type bucket struct {
	key  uint64 // 0 = free
	full time.Duration
}

const (
	maxInterval = 24 * time.Hour
	maxWait     = 10 * time.Minute // no client is told to wait longer
)

func newBucketTable(entries, burst int, perSecond float64, seed uint64) *bucketTable {
	interval := int64(max(1, min(float64(time.Second)/perSecond, float64(maxInterval))))
	room := min(int64(burst-1), math.MaxInt64/4/interval) * interval
	return &bucketTable{sets: slab.NewArray[[ways]bucket](setsFor(entries)), seed: seed, interval: time.Duration(interval), room: time.Duration(room)}
}

// take takes one token from the bucket named by (a, b) at now, a time since some start. It reports whether there was one, else how
// long until there is, in whole milliseconds.
func (t *bucketTable) take(a, b uint64, now time.Duration) (wait time.Duration, ok bool) {
	e := t.entry(pairHash(a, b, t.seed))
	full := max(e.full, now)
	if full-now > t.room {
		wait = full - now - t.room
		return min((wait + time.Millisecond - 1).Truncate(time.Millisecond), maxWait), false
	}
	e.full = full + t.interval
	return 0, true
}

// entry finds key's bucket, or puts a full one in the place of the one of its set that is nearest to full.
func (t *bucketTable) entry(key uint64) *bucket {
	set := t.sets.At(int(key & uint64(t.sets.Len()-1)))
	least := &set[0]
	for i := range set {
		e := &set[i]
		if e.key == key {
			return e
		}
		if least.key != 0 && (e.key == 0 || e.full < least.full) {
			least = e
		}
	}
	*least = bucket{key: key}
	return least
}

// contactTable remembers which account has written to which other one. Shard goroutine only.
type contactTable struct {
	sets *slab.Array[[ways]uint64] // hashes, newest first, 0 = free
	seed uint64
}

func newContactTable(entries int, seed uint64) *contactTable {
	return &contactTable{sets: slab.NewArray[[ways]uint64](setsFor(entries)), seed: seed}
}

// add notes that from has written to to.
func (t *contactTable) add(from, to stanza.Account) {
	key := pairHash(uint64(from), uint64(to), t.seed)
	set := t.set(key)
	i := 0
	for i < ways-1 && set[i] != key {
		i++
	}
	copy(set[1:i+1], set[:i])
	set[0] = key
}

func (t *contactTable) set(key uint64) *[ways]uint64 {
	return t.sets.At(int(key & uint64(t.sets.Len()-1)))
}

// has reports whether from is remembered to have written to to.
func (t *contactTable) has(from, to stanza.Account) bool {
	key := pairHash(uint64(from), uint64(to), t.seed)
	for _, k := range t.set(key) {
		if k == key {
			return true
		}
	}
	return false
}

// setsFor is the power of two of sets that holds at least entries.
func setsFor(entries int) int {
	n := 1
	for n*ways < entries {
		n *= 2
	}
	return n
}

// pairHash mixes an ordered pair; it never returns 0.
func pairHash(a, b, seed uint64) uint64 {
	h := mix(a ^ seed)
	h = mix(h ^ b)
	return h | 1<<63
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
