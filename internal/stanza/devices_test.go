package stanza

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
)

func TestDeviceListForm(t *testing.T) {
	for _, n := range []int{0, 1, 13, 14, MaxDevices} {
		keys := deviceKeys(n)
		list := AppendDevices([]byte{}, keys)
		s := Result{ID: 1, Account: 2, Version: 3, Devices: DeviceList{List: list}}
		v, _, err := Decode(s.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if compressed := v.Has(AttrZsize); compressed != (len(list) > 512) || v.Has(AttrDevices) == compressed {
			t.Errorf("%d devices, %d bytes: compressed %v", n, len(list), compressed)
		}
		got, err := ParseResult(v)
		if err != nil {
			t.Fatal(err)
		}
		if devices, err := got.Devices.Keys(nil); err != nil || !slices.Equal(devices, keys) {
			t.Errorf("%d devices: %v, %v", n, devices, err)
		}
	}
	if r, err := (DeviceList{}).Records(); err != nil || r.rest != nil || !(DeviceList{}).None() {
		t.Error("the zero list is not none")
	}
}

func TestDeviceListFaults(t *testing.T) {
	rec := func(f func(b *Builder)) []byte {
		b := BeginRecord(nil)
		f(&b)
		return b.EndRecord()
	}
	key := make([]byte, KeySize)
	full := func(d uint64) []byte { return rec(func(b *Builder) { b.Uint(AttrDevice, d); b.Bytes(AttrKey, key) }) }
	var many []byte
	for i := range MaxDevices + 1 {
		many = append(many, full(uint64(i+1))...)
	}
	for _, c := range []struct {
		name string
		list []byte
		want error
	}{
		{"no key", rec(func(b *Builder) { b.Uint(AttrDevice, 1) }), ErrMissing},
		{"no device", rec(func(b *Builder) { b.Bytes(AttrKey, key) }), ErrMissing},
		{"empty record", rec(func(*Builder) {}), ErrMissing},
		{"short key", rec(func(b *Builder) { b.Uint(AttrDevice, 1); b.Bytes(AttrKey, key[1:]) }), ErrValue},
		{"device 0", full(0), ErrNotCanonical},
		{"device 65536", full(1 << 16), ErrValue},
		{"repeated", append(full(1), full(1)...), ErrNotCanonical},
		{"33 devices", many, ErrTooMany},
	} {
		for _, l := range []DeviceList{{List: c.list}, {zsize: len(c.list), zbody: compress(c.list)}} {
			if _, err := l.Keys(nil); !errors.Is(err, c.want) || !errors.Is(err, ErrStanza) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
	}
}

func TestDecompressBounds(t *testing.T) {
	list := AppendDevices(nil, deviceKeys(MaxDevices))
	good := compress(list)
	bomb := compress(make([]byte, 64<<20))
	for _, c := range []struct {
		name string
		body []byte
		size int
	}{
		{"smaller than said", good, len(list) + 1},
		{"larger than said", good, len(list) - 1},
		{"no zstd", []byte("no zstd"), 7},
		{"cut off", good[:len(good)-1], len(list)},
		{"two frames", append(slices.Clone(good), good...), len(list)},
		{"64 MiB of zeros, as one byte", bomb, 1},
		{"64 MiB of zeros, as the most", bomb, MaxList},
		{"no attributes inside", compress(bytes.Repeat([]byte{0xff}, 600)), 600},
	} {
		if _, err := (DeviceList{zsize: c.size, zbody: c.body}).Records(); !errors.Is(err, ErrStanza) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Twice the frame's size is fine for a receiver when the size says so.
	double := append(slices.Clone(good), good...)
	if got, err := decompress(double, 2*len(list)); err != nil || len(got) != 2*len(list) {
		t.Errorf("two frames with their size: %d bytes, %v", len(got), err)
	}
}

// The coders are shared: run with -race.
func TestCodersConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			keys := deviceKeys(MaxDevices - i)
			list := AppendDevices(nil, keys)
			for range 50 {
				got, err := DeviceList{zsize: len(list), zbody: compress(list)}.Keys(nil)
				if err != nil || !slices.Equal(got, keys) {
					t.Errorf("%d devices: %v", len(keys), err)
					return
				}
			}
		})
	}
	wg.Wait()
}
