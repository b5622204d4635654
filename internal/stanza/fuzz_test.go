package stanza

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
)

// FuzzStanza: whatever decodes has exactly this encoding, and what a parser takes out of it survives being appended and parsed.
func FuzzStanza(f *testing.F) {
	for _, enc := range sampleStanzas(f) {
		f.Add(enc)
	}
	for _, c := range badStanzas {
		f.Add(unhex(f, c.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, rest, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrStanza) {
				t.Fatalf("%v does not wrap ErrStanza", err)
			}
			return
		}
		if !bytes.Equal(append(slices.Clone(v.Raw()), rest...), b) {
			t.Fatal("raw and rest are not the input")
		}
		if again := rebuild(v); !bytes.Equal(again, v.Raw()) {
			t.Fatalf("%x built again: %x", v.Raw(), again)
		}
		for _, p := range parsers {
			checkParser(t, p, v)
		}
		_, _ = ValidCiphers(v.Body())
	})
}

// checkParser checks that parse, append, parse gives the same again. Bytes may differ: unknown attributes are not kept.
func checkParser(t *testing.T, p parser, v View) {
	s, err := p.parse(v)
	if err != nil {
		if !errors.Is(err, ErrStanza) {
			t.Fatalf("%s: %v does not wrap ErrStanza", p.name, err)
		}
		return
	}
	enc := s.Append(nil)
	if len(enc) > MaxStanza { // a list that came plain and does not shrink
		return
	}
	w, rest, err := Decode(enc)
	if err != nil || len(rest) != 0 {
		t.Fatalf("%s: %+v appended as %x: %v", p.name, s, enc, err)
	}
	again, err := p.parse(w)
	if err != nil {
		t.Fatalf("%s: %+v appended as %x: %v", p.name, s, enc, err)
	}
	if !sameLists(s, again) {
		t.Fatalf("%s: %+v, again %+v", p.name, s, again)
	}
}

// sameLists compares like reflect.DeepEqual, but empty optional bytes equal none and a device list equals its compressed form.
func sameLists(a, b appender) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.Kind() != reflect.Pointer {
		return a == b
	}
	x, y = x.Elem(), y.Elem()
	for i := range x.NumField() {
		fx, fy := x.Field(i).Interface(), y.Field(i).Interface()
		switch m := fx.(type) {
		case []byte:
			if !bytes.Equal(m, fy.([]byte)) {
				return false
			}
		case DeviceList:
			if !sameRecords(m, fy.(DeviceList)) {
				return false
			}
		default:
			if fx != fy {
				return false
			}
		}
	}
	return true
}

func sameRecords(a, b DeviceList) bool {
	x, err1 := a.Records()
	y, err2 := b.Records()
	return (err1 == nil) == (err2 == nil) && bytes.Equal(x.rest, y.rest) && a.None() == b.None()
}

// rebuild encodes a view again, attribute by attribute.
func rebuild(v View) []byte {
	b := Begin(nil, v.Tag)
	rebuildAttrs(&b, v.attrSet)
	return b.End(v.Body())
}

func rebuildAttrs(b *Builder, s attrSet) {
	for a := range Attr(MaxAttr + 1) {
		if n, ok := s.Uint(a); ok {
			b.Uint(a, n)
		}
		if p, ok := s.Bytes(a); ok {
			b.Bytes(a, p)
		}
		if f, ok := s.Fixed(a); ok {
			b.Fixed(a, f)
		}
		if l, ok := s.List(a); ok {
			var list []byte
			for rec, more := l.Next(); more; rec, more = l.Next() {
				r := BeginRecord(list)
				rebuildAttrs(&r, rec.attrSet)
				list = r.EndRecord()
			}
			b.List(a, list)
		}
	}
}

// FuzzFrame: the stanzas of a frame are the whole frame, in order, and none beyond the limit.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, byte(TagPing), 0})
	frame := []byte{0}
	for _, enc := range sampleStanzas(f) {
		f.Add(append([]byte{0}, enc...))
		frame = append(frame, enc...)
	}
	f.Add(frame)
	f.Add(append([]byte{0}, bytes.Repeat([]byte{byte(TagPing), 0}, MaxStanzas+1)...))
	f.Fuzz(func(t *testing.T, plain []byte) {
		var seen []byte
		count := 0
		err := DecodeFrame(plain, func(v View) error {
			seen = append(seen, v.Raw()...)
			count++
			return nil
		})
		if err == nil && (count == 0 || plain[0] != 0 || !bytes.Equal(seen, plain[1:])) {
			t.Fatalf("%d stanzas %x of %x", count, seen, plain)
		}
		if err != nil && !errors.Is(err, ErrStanza) {
			t.Fatalf("%v does not wrap ErrStanza", err)
		}
		if count > MaxStanzas {
			t.Fatalf("%d stanzas", count)
		}
	})
}

// FuzzDeviceList: a compressed list never holds other than the size said, and devices survive both forms.
func FuzzDeviceList(f *testing.F) {
	for _, n := range []int{0, 1, 14, MaxDevices} {
		list := AppendDevices(nil, deviceKeys(n))
		f.Add(list, len(list), false)
		f.Add(compress(list), len(list), true)
	}
	f.Add(compress(make([]byte, 1<<20)), 100, true)
	f.Fuzz(func(t *testing.T, b []byte, size int, packed bool) {
		list := DeviceList{zsize: size, zbody: b}
		if !packed {
			if checkRecords(b, 1) != nil {
				return
			}
			list = DeviceList{List: b}
		} else if size < 1 || size > MaxList {
			return
		}
		records, err := list.Records()
		if err == nil && packed && len(records.rest) != size {
			t.Fatalf("%d bytes, said %d", len(records.rest), size)
		}
		keys, err := list.Keys(nil)
		if err != nil {
			if !errors.Is(err, ErrStanza) {
				t.Fatalf("%v does not wrap ErrStanza", err)
			}
			return
		}
		plain := AppendDevices(nil, keys)
		for _, l := range []DeviceList{{List: plain}, {zsize: len(plain), zbody: compress(plain)}} {
			if again, err := l.Keys(nil); err != nil || !slices.Equal(again, keys) {
				t.Fatalf("%v, again %v: %v", keys, again, err)
			}
		}
	})
}
