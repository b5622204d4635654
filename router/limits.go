package router

import (
	"time"

	"linecard.example/internal/stanza"
)

// Both tables below are soft: fixed in size, free of pointers, made when a group starts to lead and forgotten when it stops. An
// entry is named by a 64-bit hash under a random seed, so that nobody can choose pairs that collide. A set that is full forgets
// its oldest entry; that errs towards letting a message pass, never towards refusing one.
const ways = 4

// bucketTable holds token buckets. Shard goroutine only.
type bucketTable struct {
	sets  [][ways]bucket
	seed  uint64
	burst float32
	rate  float32 // per millisecond
}

// bucket is 16 bytes; at is a time in ms that wraps after 49 days, which at worst refills a bucket late once.
type bucket struct {
	key    uint64 // 0 = free
	tokens float32
	at     uint32
}

func newBucketTable(entries, burst int, perSecond float64, seed uint64) *bucketTable {
	return &bucketTable{sets: make([][ways]bucket, setsFor(entries)), seed: seed, burst: float32(burst), rate: float32(perSecond / 1000)}
}

// take takes one token from the bucket named by (a, b) at now (ms). It reports whether there was one, else how long until there is.
func (t *bucketTable) take(a, b uint64, now uint32) (wait time.Duration, ok bool) {
	key := pairHash(a, b, t.seed)
	e := t.entry(key, now)
	e.tokens = min(t.burst, e.tokens+float32(now-e.at)*t.rate)
	e.at = now
	if e.tokens >= 1 {
		e.tokens--
		return 0, true
	}
	ms := min((1-e.tokens)/t.rate, 600_000)
	return max(time.Duration(ms)*time.Millisecond, time.Millisecond), false
}

// entry finds key's bucket, or replaces the free or oldest one of its set by a full one.
func (t *bucketTable) entry(key uint64, now uint32) *bucket {
	set := &t.sets[key&uint64(len(t.sets)-1)]
	oldest := &set[0]
	for i := range set {
		e := &set[i]
		if e.key == key {
			return e
		}
		if oldest.key != 0 && (e.key == 0 || now-e.at > now-oldest.at) {
			oldest = e
		}
	}
	*oldest = bucket{key: key, tokens: t.burst, at: now}
	return oldest
}

// contactTable remembers which account has written to which other one. Shard goroutine only.
type contactTable struct {
	sets [][ways]uint64 // hashes, newest first, 0 = free
	seed uint64
}

func newContactTable(entries int, seed uint64) *contactTable {
	return &contactTable{sets: make([][ways]uint64, setsFor(entries)), seed: seed}
}

// add notes that from has written to to.
func (t *contactTable) add(from, to stanza.Account) {
	key := pairHash(uint64(from), uint64(to), t.seed)
	set := &t.sets[key&uint64(len(t.sets)-1)]
	i := 0
	for i < ways-1 && set[i] != key {
		i++
	}
	copy(set[1:i+1], set[:i])
	set[0] = key
}

// has reports whether from is remembered to have written to to.
func (t *contactTable) has(from, to stanza.Account) bool {
	key := pairHash(uint64(from), uint64(to), t.seed)
	for _, k := range t.sets[key&uint64(len(t.sets)-1)] {
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
