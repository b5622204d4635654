package offline

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sort"
)

// memTables are tables in memory with the durability of a database without a log: batches are durable in order, so a crash keeps a
// prefix of them, at least up to the last sync.
type memTables struct {
	rows    map[string]string
	journal []memBatch // since base
	base    map[string]string
	err     error // of every reading and writing
}

type memBatch struct {
	t       *memTables
	changes []memChange
}

type memChange struct {
	op  byte // s, d, r
	key string
	val string
}

func newMemTables() *memTables {
	return &memTables{rows: map[string]string{}, base: map[string]string{}}
}

func (t *memTables) Get(key []byte) ([]byte, bool, error) {
	if t.err != nil {
		return nil, false, t.err
	}
	v, ok := t.rows[string(key)]
	return []byte(v), ok, nil
}

func (t *memTables) Scan(lower, upper []byte, f func(k, v []byte) bool) error {
	if t.err != nil {
		return t.err
	}
	var keys []string
	for k := range t.rows {
		if k >= string(lower) && (upper == nil || k < string(upper)) {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		if !f([]byte(k), []byte(t.rows[k])) {
			break
		}
	}
	return nil
}

func (t *memTables) ahead() batch { return &memBatch{t: t} }

func (b *memBatch) Set(k, v []byte) {
	b.changes = append(b.changes, memChange{op: 's', key: string(k), val: string(v)})
}
func (b *memBatch) Delete(k []byte) {
	b.changes = append(b.changes, memChange{op: 'd', key: string(k)})
}
func (b *memBatch) DeleteRange(lo, hi []byte) {
	b.changes = append(b.changes, memChange{op: 'r', key: string(lo), val: string(hi)})
}
func (b *memBatch) Commit() error {
	if b.t.err != nil {
		return b.t.err
	}
	b.t.journal = append(b.t.journal, *b)
	b.apply(b.t.rows)
	return nil
}

func (b *memBatch) apply(rows map[string]string) {
	for _, c := range b.changes {
		switch c.op {
		case 's':
			rows[c.key] = c.val
		case 'd':
			delete(rows, c.key)
		case 'r':
			for k := range rows {
				if k >= c.key && k < c.val {
					delete(rows, k)
				}
			}
		}
	}
}

// sync makes everything durable.
func (t *memTables) sync() {
	for i := range t.journal {
		t.journal[i].apply(t.base)
	}
	t.journal = nil
}

// crash loses a random number of the last batches that were not synced.
func (t *memTables) crash(rng *rand.Rand) {
	keep := rng.IntN(len(t.journal) + 1)
	for i := range keep {
		t.journal[i].apply(t.base)
	}
	t.journal = nil
	t.rows = map[string]string{}
	for k, v := range t.base {
		t.rows[k] = v
	}
}

// count returns the rows of a table.
func (t *memTables) count(table byte) int {
	n := 0
	for k := range t.rows {
		if k[0] == table {
			n++
		}
	}
	return n
}

// contains reports whether any row holds the marker.
func (t *memTables) contains(marker []byte) bool {
	for _, v := range t.rows {
		if bytes.Contains([]byte(v), marker) {
			return true
		}
	}
	return false
}

func sortedKeys[K interface{ ~uint64 }, V any](m map[K]V) []K {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
