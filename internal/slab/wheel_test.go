package slab

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"
)

func newWheel(t *testing.T, horizon int) *Wheel {
	t.Helper()
	w := NewWheel(100*time.Millisecond, horizon)
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func collect(w *Wheel, ticks int) (slots []uint32) {
	w.Advance(ticks, func(slot, _ uint32) { slots = append(slots, slot) })
	return slots
}

func TestWheelComesDueOnItsTick(t *testing.T) {
	// Round after round, so that bucket numbers wrap; deadlines up to ten horizons ahead; and now itself wraps.
	for _, start := range []uint32{0, 1000, math.MaxUint32 - 40} {
		w := newWheel(t, 6) // 8 buckets
		w.now = start
		for in := 1; in <= 80; in++ {
			if !w.Arm(uint32(in), uint32(in)+7, in) {
				t.Fatal("not armed")
			}
		}
		for tick := 1; tick <= 80; tick++ {
			w.Advance(1, func(slot, gen uint32) {
				if slot != uint32(tick) || gen != slot+7 {
					t.Fatalf("start %d: slot %d gen %d at tick %d", start, slot, gen, tick)
				}
			})
			if w.Len() != 80-tick {
				t.Fatalf("start %d: %d armed after tick %d", start, w.Len(), tick)
			}
		}
	}
}

func TestWheelStepsOfManyTicks(t *testing.T) {
	w := newWheel(t, 8)
	for in := 30; in >= 1; in-- {
		w.Arm(uint32(in), 1, in)
	}
	if got := collect(w, 5); !slices.Equal(got, []uint32{1, 2, 3, 4, 5}) {
		t.Fatal(got)
	}
	if got := collect(w, 0); got != nil {
		t.Fatal(got)
	}
	if got := collect(w, -3); got != nil {
		t.Fatal(got)
	}
	got := collect(w, 20) // above the horizon: all that is due, in any order
	slices.Sort(got)
	if len(got) != 20 || got[0] != 6 || got[19] != 25 || w.Len() != 5 {
		t.Fatal(got, w.Len())
	}
	if got := collect(w, math.MaxInt64); len(got) != 5 {
		t.Fatal(got)
	}
}

func TestWheelOrderWithinATick(t *testing.T) {
	w := newWheel(t, 8)
	for slot := range uint32(5) {
		w.Arm(slot, 1, 3)
	}
	if got := collect(w, 3); !slices.Equal(got, []uint32{0, 1, 2, 3, 4}) {
		t.Fatal(got)
	}
}

func TestWheelArmsFromTheCallback(t *testing.T) {
	w := newWheel(t, 4)
	w.Arm(1, 1, 1)
	fired := 0
	again := func(slot, gen uint32) {
		fired++
		w.Arm(slot, gen, 0) // clamped to the next tick
		if fired%2 == 0 {
			w.Arm(slot, gen+1, 4) // the very bucket that is being visited
		}
	}
	w.Advance(1, again)
	if fired != 1 || w.Len() != 1 {
		t.Fatal(fired, w.Len())
	}
	w.Advance(3, again) // counts from the new now: not due twice in one step
	if fired != 2 || w.Len() != 2 {
		t.Fatal(fired, w.Len())
	}
}

func TestWheelFarthest(t *testing.T) {
	w := newWheel(t, 4)
	w.Arm(1, 1, math.MaxInt)
	if got := collect(w, farthest-1); got != nil {
		t.Fatal(got)
	}
	if got := collect(w, 1); len(got) != 1 {
		t.Fatal(got)
	}
}

func TestWheelTicks(t *testing.T) {
	w := newWheel(t, 4)
	for d, want := range map[time.Duration]int{
		-1: 1, 0: 1, 1: 1, 100 * time.Millisecond: 1, 101 * time.Millisecond: 2, time.Second: 10, math.MaxInt64: farthest,
	} {
		if got := w.Ticks(d); got != want {
			t.Errorf("Ticks(%v) = %d, want %d", d, got, want)
		}
	}
}

// TestWheelAgainstMap arms and advances at random; a map knows what must come due.
func TestWheelAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	w := newWheel(t, 64)
	w.now = math.MaxUint32 - 3000
	now := 0
	due := map[uint32]int{}
	id := uint32(0)
	for range 20_000 {
		if rng.IntN(4) > 0 {
			in := 1 + rng.IntN(1+rng.IntN(500))
			w.Arm(id, id^0xFFFF, in)
			due[id] = now + in
			id++
			continue
		}
		ticks := rng.IntN(1 + rng.IntN(100))
		now += ticks
		w.Advance(ticks, func(slot, gen uint32) {
			at, ok := due[slot]
			if !ok || at > now || gen != slot^0xFFFF {
				t.Fatalf("timer %d came at %d, due %d (known %v)", slot, now, at, ok)
			}
			delete(due, slot)
		})
		for slot, at := range due {
			if at <= now {
				t.Fatalf("timer %d due at %d is missing at %d", slot, at, now)
			}
		}
		if w.Len() != len(due) {
			t.Fatalf("Len %d, want %d", w.Len(), len(due))
		}
	}
}

func TestWheelCosts(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n != 16 {
		t.Fatalf("an entry has %d bytes", n)
	}
	w := newWheel(t, 64)
	w.Arm(1, 1, 1)
	w.Advance(1, func(uint32, uint32) {})
	if n := testing.AllocsPerRun(100, func() {
		for i := range uint32(100) {
			w.Arm(i, 1, int(i))
		}
		w.Advance(200, func(uint32, uint32) {})
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
	if len(w.chunks) != 1 {
		t.Fatalf("%d chunks: entries are not used again", len(w.chunks))
	}
}

func TestWheelClose(t *testing.T) {
	w := newWheel(t, 4)
	w.Arm(1, 1, 1)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := collect(w, 10); got != nil || w.Len() != 0 {
		t.Fatal(got)
	}
	w.Arm(2, 1, 1)
	if got := collect(w, 1); !slices.Equal(got, []uint32{2}) {
		t.Fatal(got)
	}
}

func BenchmarkWheel(b *testing.B) {
	w := NewWheel(time.Second, 1024)
	defer w.Close()
	for i := range uint32(100_000) {
		w.Arm(i, 1, int(i%1500))
	}
	b.ReportAllocs()
	for b.Loop() {
		w.Advance(1, func(slot, gen uint32) { w.Arm(slot, gen, 1500) })
	}
}

// TestWheelGivesBack: a burst of timers leaves one chunk behind when they are over, and the wheel goes on.
func TestWheelGivesBack(t *testing.T) {
	w := NewWheel(time.Second, 8)
	t.Cleanup(func() { _ = w.Close() })
	for round := range 2 {
		for i := range uint32(3 << entryShift) {
			w.Arm(i, 1, 1+int(i%3))
		}
		fired := 0
		count := func(uint32, uint32) { fired++ }
		w.Advance(2, count)
		if len(w.chunks) != 3 {
			t.Fatalf("%d chunks with timers armed", len(w.chunks))
		}
		w.Advance(1, count)
		if fired != 3<<entryShift || len(w.chunks) != 1 {
			t.Fatalf("round %d: %d of %d timers, %d chunks left", round, fired, 3<<entryShift, len(w.chunks))
		}
	}
}
