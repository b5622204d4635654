package slab

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

type tableVal struct {
	a uint64
	b uint32
}

// checkTable checks what every operation relies on: sorted, each at its home or behind a gapless run from there.
func checkTable(t *testing.T, table *Table[tableVal], want map[uint64]tableVal) {
	t.Helper()
	if table.Len() != len(want) {
		t.Fatalf("%d entries, want %d", table.Len(), len(want))
	}
	last, n := uint64(0), 0
	for i, h := range table.hashes {
		if h == 0 {
			if table.vals[i] != (tableVal{}) {
				t.Fatalf("place %d is free and not zero", i)
			}
			continue
		}
		n++
		if h <= last {
			t.Fatalf("place %d: not in order", i)
		}
		last = h
		for j := table.home(h); j < i; j++ {
			if table.hashes[j] == 0 {
				t.Fatalf("place %d: free places between home %d and it", i, table.home(h))
			}
		}
		if v, ok := want[table.key(h)]; !ok || v != table.vals[i] {
			t.Fatalf("key %d: %v, want %v (%v)", table.key(h), table.vals[i], v, ok)
		}
	}
	if n != len(want) {
		t.Fatalf("%d entries are there, want %d", n, len(want))
	}
}

// TestTable holds a table against a map over random changes that grow and shrink it.
func TestTable(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		table, want := NewTable[tableVal](), map[uint64]tableVal{}
		defer table.Clear()
		keys := 1 + rng.Uint64N(3000)
		for step := range 6000 {
			key := rng.Uint64N(keys) * (1 + seed<<40)
			if putting := step/2000 != 1; putting == (rng.IntN(5) > 0) {
				v := tableVal{a: rng.Uint64(), b: uint32(step)}
				table.Put(key, v)
				want[key] = v
			} else {
				_, had := want[key]
				if table.Delete(key) != had {
					t.Fatalf("delete of %d, had it: %v", key, had)
				}
				delete(want, key)
			}
			if v := table.Get(key); (v != nil) != (want[key] != tableVal{}) || v != nil && *v != want[key] {
				t.Fatalf("key %d: %v, want %v", key, v, want[key])
			}
			if step%500 == 0 {
				checkTable(t, table, want)
			}
		}
		checkTable(t, table, want)
		for key := range want {
			table.Delete(key)
		}
		checkTable(t, table, nil)
		if table.homes > tableLeast {
			t.Errorf("an empty table keeps %d places", table.homes)
		}
	}
}

// TestTableScan: a walk in pages sees what is there all the time exactly once, though the table grows and shrinks under it.
func TestTableScan(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		table := NewTable[tableVal]()
		defer table.Clear()
		stay := map[uint64]bool{}
		for key := range uint64(1 + rng.IntN(2000)) {
			table.Put(2*key, tableVal{a: 2 * key})
			stay[2*key] = true
		}
		var seen []uint64
		for mark, page := uint64(0), 0; page == 0 || mark != 0; page++ {
			refused := rng.IntN(4) == 0
			mark = table.Scan(mark, 1+rng.IntN(50), func(key uint64, v *tableVal) bool {
				if *v != (tableVal{a: key}) {
					t.Fatalf("key %d: %v", key, *v)
				}
				if refused = refused && rng.IntN(10) == 0; refused {
					return false
				}
				seen = append(seen, key)
				return true
			})
			for range rng.IntN(200) { // the odd ones come and go
				key := 2*rng.Uint64N(4000) + 1
				table.Put(key, tableVal{a: key})
				table.Delete(2*rng.Uint64N(4000) + 1)
			}
		}
		slices.Sort(seen)
		if len(slices.Compact(slices.Clone(seen))) != len(seen) {
			t.Fatal("seen twice")
		}
		for _, key := range seen {
			delete(stay, key)
		}
		if len(stay) > 0 {
			t.Fatalf("%d entries were not seen: %v...", len(stay), slices.Collect(maps.Keys(stay))[0])
		}
	}
}

// TestTableRunAtEnd: the last home's run goes on behind the homes, and when there is no room the table grows and loses nothing.
func TestTableRunAtEnd(t *testing.T) {
	table, want := NewTable[tableVal](), map[uint64]tableVal{}
	defer table.Clear()
	put := func(h uint64) {
		key := table.key(h)
		if key > MaxTableKey {
			return
		}
		want[key] = tableVal{a: h}
		table.Put(key, want[key])
		checkTable(t, table, want)
	}
	for n := uint64(0); len(want) < tableSpill-8; n++ {
		put(^uint64(0) - n)
	}
	if table.homes != tableLeast {
		t.Errorf("%d homes", table.homes)
	}
	for n := uint64(1); table.homes < 3*tableLeast; n++ { // of the last home as long as there are few
		put(^uint64(0) - n<<54)
	}
}

func TestTableCost(t *testing.T) {
	table := NewTable[tableVal]()
	defer table.Clear()
	const entry = 8 + int(unsafe.Sizeof(tableVal{}))
	for key := range uint64(100_000) {
		table.Put(key*16+3, tableVal{a: key})
		if n := table.Len(); n > 1000 && table.Bytes() > n*entry*155/100+tableSpill*entry+2*4096 {
			t.Fatalf("%d bytes for %d entries of %d", table.Bytes(), n, entry)
		}
	}
	if n := testing.AllocsPerRun(1000, func() {
		table.Put(7, tableVal{a: 1})
		table.Get(7)
		table.Delete(7)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("a table of pointers was made")
		}
	}()
	NewTable[*int]()
}

func BenchmarkTable(b *testing.B) {
	table := NewTable[tableVal]()
	defer table.Clear()
	for key := range uint64(125_000) {
		table.Put(key*16+3, tableVal{a: key})
	}
	key := uint64(0)
	for b.Loop() {
		key = (key + 99991) % 125_000
		table.Get(key*16+3).b++
	}
}
