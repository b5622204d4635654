package shard

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
)

func testTables(t testing.TB) Tables {
	t.Helper()
	db, err := pebble.Open("state", &pebble.Options{FS: vfs.NewMem(), DisableWAL: true, FormatMajorVersion: formatVersion})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	tb := Tables{db: db, g: 7}
	for _, g := range []Tables{{db: db, g: 6}, {db: db, g: 8}} { // neighbours that must never be seen
		b := g.Ahead()
		for _, k := range []string{"", "a", "k050", "\xff\xff"} {
			b.Set([]byte(k), []byte("foreign"))
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	return tb
}

type kv struct{ k, v string }

func collect(t testing.TB, scan func(lo, hi []byte, f func(k, v []byte) bool) error, lo, hi []byte, limit int) (out []kv) {
	t.Helper()
	err := scan(lo, hi, func(k, v []byte) bool {
		out = append(out, kv{string(k), string(v)})
		return len(out) < limit
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func modelScan(m map[string]string, lo, hi []byte, limit int) (out []kv) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k >= string(lo) && (hi == nil || k < string(hi)) && len(out) < limit {
			out = append(out, kv{k, m[k]})
		}
	}
	return out
}

// Random operations on an overlay and on a map have the same results, whatever is flushed, cached or evicted.
func TestOverlayAgainstMap(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tb := testTables(t)
		o := NewOverlay(tb, int(seed)*600)
		model := map[string]string{}
		key := func() []byte { return []byte(fmt.Sprintf("k%03d", rng.IntN(100+3000*int(seed%2)))) }
		bound := func() []byte {
			if rng.IntN(6) == 0 {
				return nil
			}
			return key()
		}
		for range 12_000 {
			switch rng.IntN(20) {
			case 0, 1, 2, 3, 4, 5:
				k, v := key(), []byte(fmt.Sprint(rng.Uint32()))[:rng.IntN(2)]
				o.Set(k, v)
				model[string(k)] = string(v)
				clear(k) // the overlay must have copied
				clear(v)
			case 6, 7, 8:
				k := key()
				o.Delete(k)
				delete(model, string(k))
			case 9:
				lo, hi, limit := bound(), bound(), 1+rng.IntN(200)
				if got, want := collect(t, o.Scan, lo, hi, limit), modelScan(model, lo, hi, limit); !slices.Equal(got, want) {
					t.Fatalf("seed %d: scan %q..%q: %v, want %v", seed, lo, hi, got, want)
				}
			case 10:
				if rng.IntN(20) == 0 {
					flushOverlay(t, o)
					if got, want := collect(t, tb.Scan, nil, nil, 1<<30), modelScan(model, nil, nil, 1<<30); !slices.Equal(got, want) {
						t.Fatalf("seed %d: tables after a flush: %v, want %v", seed, got, want)
					}
				}
			default:
				k := key()
				v, ok, err := o.Get(k)
				want, wantOK := model[string(k)]
				if err != nil || ok != wantOK || string(v) != want {
					t.Fatalf("seed %d: %s is %q %v %v, want %q %v", seed, k, v, ok, err, want, wantOK)
				}
			}
			if o.clean.bytes() > len(o.clean.ring) || o.clean.index.Len()*cleanHeader > len(o.clean.ring) {
				t.Fatalf("cache holds %d bytes and %d records in %d bytes", o.clean.bytes(), o.clean.index.Len(), len(o.clean.ring))
			}
		}
	}
}

func flushOverlay(t testing.TB, o *Overlay) {
	t.Helper()
	b := o.t.Ahead()
	o.FlushTo(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if o.Size() != 0 {
		t.Fatalf("%d bytes dirty after a flush", o.Size())
	}
}

func TestOverlaySizes(t *testing.T) {
	o := NewOverlay(testTables(t), 10_000)
	val := bytes.Repeat([]byte("v"), 100)
	for i := range 1000 {
		o.Set([]byte(fmt.Sprint(i)), val)
	}
	o.Set([]byte("1"), val[:50])
	o.Delete([]byte("2"))
	var want int
	for k, r := range o.dirty {
		want += recordSize(len(k), r)
	}
	if o.Size() != want {
		t.Fatalf("size %d, want %d", o.Size(), want)
	}
	flushOverlay(t, o)
	if n := o.clean.index.Len(); o.clean.bytes() > 10_000 || o.clean.bytes() < 9000 || n < 9000/(cleanHeader+3+100) {
		t.Fatalf("cache holds %d records in %d bytes", n, o.clean.bytes())
	}
	heap := testing.AllocsPerRun(100, func() {
		k := []byte("a")
		o.clean.put(k, record{val: val, present: true})
	})
	if heap > 0 {
		t.Errorf("%v allocations to cache a record", heap)
	}
}

func TestOverlayHitAllocatesNothing(t *testing.T) {
	o := NewOverlay(testTables(t), 1<<16)
	k := []byte("key")
	o.Set(k, k)
	get := func() {
		if _, ok, err := o.Get(k); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if n := testing.AllocsPerRun(100, get); n != 0 {
		t.Errorf("%v allocations for a changed record", n)
	}
	flushOverlay(t, o)
	if n := testing.AllocsPerRun(100, get); n != 0 {
		t.Errorf("%v allocations for a cached record", n)
	}
}

func TestTables(t *testing.T) {
	tb := testTables(t)
	b := tb.Ahead()
	for i := range 10 {
		b.Set([]byte{byte('a' + i)}, []byte{byte(i)})
	}
	b.DeleteRange([]byte("c"), []byte("f"))
	b.Delete([]byte("a"))
	if b.Size() == 0 {
		t.Error("an empty batch")
	}
	if _, ok, _ := tb.Get([]byte("b")); ok {
		t.Error("visible before Commit")
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	got := collect(t, tb.Scan, []byte("b"), []byte("h"), 100)
	if fmt.Sprint(got) != fmt.Sprint([]kv{{"b", "\x01"}, {"f", "\x05"}, {"g", "\x06"}}) {
		t.Errorf("%q", got)
	}
	v, ok, err := tb.Get([]byte("j"))
	if !ok || err != nil || v[0] != 9 {
		t.Error(v, ok, err)
	}
	b = tb.Ahead()
	b.DeleteRange(nil, nil)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, tb.Scan, nil, nil, 100); got != nil {
		t.Errorf("%q", got)
	}
	if got := collect(t, Tables{db: tb.db, g: 8}.Scan, nil, nil, 100); len(got) != 4 {
		t.Errorf("the neighbour has %q", got)
	}
	last := Tables{db: tb.db, g: 0xffff}
	b = last.Ahead()
	b.Set([]byte("\xff"), nil)
	b.Commit()
	if got := collect(t, last.Scan, nil, nil, 100); len(got) != 1 {
		t.Errorf("the last group has %q", got)
	}
}

func BenchmarkOverlayScan(b *testing.B) {
	o := NewOverlay(testTables(b), 1<<20)
	for i := range 50_000 {
		o.Set([]byte(fmt.Sprintf("%08d", i*7919%50_000)), []byte("value"))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		k := []byte(fmt.Sprintf("%08d", i%50_000))
		o.Set(append(k, 'x'), k)
		n := 0
		if err := o.Scan(k, nil, func(k, v []byte) bool { n++; return n < 10 }); err != nil {
			b.Fatal(err)
		}
	}
}
