package slab

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"unsafe"
)

// session is as large as a slot may be, and has fields of every alignment.
type session struct {
	rx, tx  [32]byte
	account uint64
	n       uint32
	state   uint8
	_       [51]byte
}

func newSlab(t *testing.T, max uint32) *Slab[session] {
	t.Helper()
	s, err := New[session](max)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustAlloc(t *testing.T, s *Slab[session]) (uint32, uint32, *session) {
	t.Helper()
	slot, gen, p, ok := s.Alloc()
	if !ok {
		t.Fatalf("no slot at %d of %d", s.Len(), s.Cap())
	}
	if *p != (session{}) {
		t.Fatalf("slot %d is not zero", slot)
	}
	return slot, gen, p
}

func TestTypesThatMayNotLiveHere(t *testing.T) {
	refused := map[string]error{}
	try := func(name string, err error) { refused[name] = err }
	_, err := New[*int](1)
	try("pointer", err)
	_, err = New[struct {
		a int
		b [2]struct{ s string }
	}](1)
	try("string deep inside", err)
	_, err = New[[]byte](1)
	try("slice", err)
	_, err = New[any](1)
	try("interface", err)
	_, err = New[func()](1)
	try("func", err)
	_, err = New[uintptr](1)
	try("uintptr", err)
	_, err = New[[129]byte](1)
	try("129 bytes", err)
	_, err = New[struct{}](1)
	try("nothing", err)
	_, err = New[int](0)
	try("no capacity", err)
	_, err = New[int](MaxSlots + 1)
	try("too much capacity", err)
	for name, err := range refused {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New[session](MaxSlots); err != nil {
		t.Error(err)
	}
}

func TestReleaseZeroesAndMakesStale(t *testing.T) {
	s := newSlab(t, 10)
	slot, gen, p := mustAlloc(t, s)
	raw := unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
	for i := range raw {
		raw[i] = 0xAA
	}
	if s.Get(slot, gen) != p || s.At(slot) != p || s.Gen(slot) != gen || gen == 0 {
		t.Fatal("the slot is not found under its name")
	}
	s.Release(slot)
	for i, b := range raw {
		if b != 0 {
			t.Fatalf("byte %d of a released slot is %#x", i, b)
		}
	}
	if s.Get(slot, gen) != nil || s.Gen(slot) != 0 || s.Len() != 0 {
		t.Fatal("a released slot is still found")
	}
	again, gen2, _ := mustAlloc(t, s)
	if again != slot || gen2 == gen {
		t.Fatalf("slot %d gen %d, then slot %d gen %d", slot, gen, again, gen2)
	}
	if s.Get(slot, gen) != nil || s.Get(slot, gen2) == nil {
		t.Fatal("a stale generation names the new session")
	}
	for _, name := range [][2]uint32{{slot, 0}, {1, 1}, {9, 1}, {1 << 31, 1}, {noSlot, gen2}, {inUse, gen2}} {
		if s.Get(name[0], name[1]) != nil {
			t.Errorf("%v names a session", name)
		}
	}
}

func TestGenerationWrapsPastZero(t *testing.T) {
	s := newSlab(t, 1)
	slot, _, _ := mustAlloc(t, s)
	s.meta(slot).gen = 1<<32 - 1
	s.Release(slot)
	if _, gen, _ := mustAlloc(t, s); gen != 1 {
		t.Fatalf("generation %d after the last one", gen)
	}
}

func TestDoubleReleasePanics(t *testing.T) {
	s := newSlab(t, 4)
	slot, _, _ := mustAlloc(t, s)
	s.Release(slot)
	for _, slot := range []uint32{slot, 1, 100_000} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("release of slot %d", slot)
				}
			}()
			s.Release(slot)
		}()
	}
}

func TestCapacityAndChunks(t *testing.T) {
	const n = 2*chunkSlots + 5
	s := newSlab(t, n)
	seen := make([]*session, n)
	for i := range n {
		slot, _, p := mustAlloc(t, s)
		if slot != uint32(i) || uintptr(unsafe.Pointer(p))%unsafe.Alignof(*p) != 0 {
			t.Fatalf("allocation %d is slot %d at %p", i, slot, p)
		}
		p.account, seen[i] = uint64(i), p
	}
	if _, _, _, ok := s.Alloc(); ok || s.Len() != n || s.Cap() != n {
		t.Fatalf("%d of %d live, and one more", s.Len(), s.Cap())
	}
	for i, p := range seen {
		if s.At(uint32(i)) != p || p.account != uint64(i) {
			t.Fatalf("slot %d has moved or was overwritten", i)
		}
	}
	s.Release(chunkSlots)
	if slot, _, _ := mustAlloc(t, s); slot != chunkSlots {
		t.Fatalf("slot %d", slot)
	}
}

func TestScan(t *testing.T) {
	s := newSlab(t, 100)
	if next := s.Scan(0, 10, func(uint32, uint32, *session) { t.Fatal("empty") }); next != 0 {
		t.Fatal(next)
	}
	for range 25 {
		mustAlloc(t, s)
	}
	for slot := uint32(0); slot < 25; slot += 3 {
		s.Release(slot)
	}
	var got []uint32
	rounds := 0
	for from := uint32(0); ; {
		from = s.Scan(from, 10, func(slot, gen uint32, p *session) {
			if s.Get(slot, gen) != p {
				t.Fatalf("slot %d gen %d", slot, gen)
			}
			got = append(got, slot)
			s.Release(slot)
		})
		if rounds++; from == 0 {
			break
		}
	}
	if rounds != 3 || len(got) != 16 || s.Len() != 0 {
		t.Fatalf("%d calls, %d slots, %d live", rounds, len(got), s.Len())
	}
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Fatalf("order %v", got)
		}
	}
	if next := s.Scan(5000, 10, nil); next != 0 {
		t.Fatal(next)
	}
}

// TestSlabAgainstMap does random operations on a slab and on a map.
func TestSlabAgainstMap(t *testing.T) {
	type name struct{ slot, gen uint32 }
	rng := rand.New(rand.NewPCG(1, 2))
	s := newSlab(t, 300)
	live := map[name]uint64{}
	dead := map[name]bool{}
	var names []name
	for step := range 20_000 {
		if rng.IntN(5) < 3 {
			slot, gen, p, ok := s.Alloc()
			if ok != (len(live) < 300) {
				t.Fatalf("step %d: ok %v with %d live", step, ok, len(live))
			}
			if ok {
				p.account = rng.Uint64()
				n := name{slot, gen}
				if _, used := live[n]; used || dead[n] || p.n != 0 {
					t.Fatalf("step %d: %v given out twice", step, n)
				}
				live[n] = p.account
				names = append(names, n)
			}
		} else if len(names) > 0 {
			i := rng.IntN(len(names))
			n := names[i]
			names[i] = names[len(names)-1]
			names = names[:len(names)-1]
			s.Release(n.slot)
			delete(live, n)
			dead[n] = true
		}
		if s.Len() != len(live) {
			t.Fatalf("step %d: Len %d, want %d", step, s.Len(), len(live))
		}
	}
	for n, account := range live {
		if p := s.Get(n.slot, n.gen); p == nil || p.account != account {
			t.Fatalf("%v is lost", n)
		}
	}
	for n := range dead {
		if s.Get(n.slot, n.gen) != nil {
			t.Fatalf("%v is stale and found", n)
		}
	}
}

func heapObjects() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapObjects
}

func TestNoHeapPerSlot(t *testing.T) {
	const n = 100_000
	before := heapObjects()
	s := newSlab(t, n)
	w := NewWheel(1, 1024)
	defer w.Close()
	for range n {
		slot, gen, _, ok := s.Alloc()
		if !ok || !w.Arm(slot, gen, int(slot%5000)) {
			t.Fatal("out of memory")
		}
	}
	after := heapObjects()
	t.Logf("%d heap objects more for %d slots and timers", int64(after)-int64(before), n)
	if after > before+200 { // a few dozen: a chunk has a slice header and an entry in x/sys's table of maps
		t.Fatalf("%d heap objects for %d slots and timers", after-before, n)
	}
	runtime.KeepAlive(s)
}

func TestSlabAllocatesNothing(t *testing.T) {
	s := newSlab(t, 100)
	mustAlloc(t, s)
	if n := testing.AllocsPerRun(100, func() {
		slot, gen, _, _ := s.Alloc()
		if s.Get(slot, gen) == nil {
			panic("lost")
		}
		s.Release(slot)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestCloseLeavesAnEmptySlab(t *testing.T) {
	s := newSlab(t, 10)
	slot, gen, _ := mustAlloc(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s.Get(slot, gen) != nil || s.Len() != 0 {
		t.Fatal("something is left")
	}
	mustAlloc(t, s)
}

func BenchmarkAllocRelease(b *testing.B) {
	s, err := New[session](1000)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		slot, _, _, _ := s.Alloc()
		s.Release(slot)
	}
}
