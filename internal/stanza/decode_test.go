package stanza

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

// unhex decodes hex with spaces.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// badStanzas break one rule each. Key bytes: 04 id, 0c account, 10 device, 21 ids, 53 devices; a0-a3 the unknown attribute 40 as
// varint, bytes, fixed8, list.
var badStanzas = []struct {
	name, hex string
	want      error
}{
	{"nothing", "", ErrTruncated},
	{"tag alone", "05", ErrTruncated},
	{"tag 0", "00 00", ErrTag},
	{"raw tag 0", "80 01 01", ErrTag},
	{"length past the end", "01 02 04", ErrTruncated},
	{"length unfinished", "01 80", ErrTruncated},
	{"length not minimal", "05 80 00", ErrNotCanonical},
	{"length over 64 bits", "05 80 80 80 80 80 80 80 80 80 02", ErrNotCanonical},
	{"length over 10 bytes", "05 80 80 80 80 80 80 80 80 80 80 01", ErrNotCanonical},
	{"length over the limit", "05 ff ff 03", ErrTooLong},
	{"raw without body", "85 00", ErrNotCanonical},
	{"body mark without attributes", "05 02 ff 01", ErrNotCanonical},
	{"body mark without body", "07 03 04 01 ff", ErrNotCanonical},
	{"attribute 0", "07 02 00 01", ErrNotCanonical},
	{"attribute 0 as list", "07 02 03 00", ErrNotCanonical},
	{"attribute 63", "07 02 fc 01", ErrNotCanonical},
	{"attribute 63 as bytes", "07 02 fd 00", ErrNotCanonical},
	{"attribute repeated", "07 04 04 01 04 01", ErrNotCanonical},
	{"attributes descending", "07 04 0c 01 04 01", ErrNotCanonical},
	{"unknown attribute repeated in another type", "07 04 a0 01 a1 00", ErrNotCanonical},
	{"varint unfinished", "07 02 04 80", ErrTruncated},
	{"varint missing", "07 01 04", ErrTruncated},
	{"varint not minimal", "07 03 04 81 00", ErrNotCanonical},
	{"varint over 64 bits", "07 0b 04 ff ff ff ff ff ff ff ff ff 02", ErrNotCanonical},
	{"bytes past the end", "07 03 21 02 01", ErrTruncated},
	{"bytes length not minimal", "07 03 21 80 00", ErrNotCanonical},
	{"bytes length huge", "07 0b 21 ff ff ff ff ff ff ff ff ff 01", ErrTruncated},
	{"fixed8 short", "07 08 a2 01 02 03 04 05 06 07", ErrTruncated},
	{"known attribute of another type", "07 02 05 00", ErrWireType},
	{"known attribute of another type in a record", "0c 05 53 03 02 11 00", ErrWireType},
	{"list past the end", "0c 02 53 01", ErrTruncated},
	{"record past the end of its list", "0c 03 53 01 01", ErrTruncated},
	{"record length not minimal", "0c 04 53 02 80 00", ErrNotCanonical},
	{"record with body mark", "0c 07 53 05 04 10 01 ff 01", ErrNotCanonical},
	{"record descending", "0c 07 53 05 04 10 01 04 01", ErrNotCanonical},
	{"four lists deep", "7f 0b a3 09 08 a3 06 05 a3 03 02 a3 00", nil},
	{"five lists deep", "7f 0e a3 0c 0b a3 09 08 a3 06 05 a3 03 02 a3 00", ErrTooDeep},
}

func TestDecodeCanonical(t *testing.T) {
	for _, c := range badStanzas {
		b := unhex(t, c.hex)
		v, rest, err := Decode(b)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
			continue
		}
		if c.want == nil {
			continue
		}
		if !errors.Is(err, ErrStanza) {
			t.Errorf("%s: %v does not wrap ErrStanza", c.name, err)
		}
		if v.Tag != 0 || v.Raw() != nil || rest != nil {
			t.Errorf("%s: a view beside the error", c.name)
		}
	}
}

func TestDecodeEveryTruncation(t *testing.T) {
	whole := sampleStanzas(t)["refused, compressed"]
	for i := range whole {
		if _, _, err := Decode(whole[:i]); !errors.Is(err, ErrTruncated) {
			t.Fatalf("first %d of %d bytes: %v", i, len(whole), err)
		}
	}
}

func TestDecodeUnknown(t *testing.T) {
	// Tag 99; attributes 40 varint, 41 bytes, 42 fixed8, 43 list of one record; a body; then a ping.
	b := unhex(t, "63 18 a0 96 01 a5 02 6869 aa 0102030405060708 af 03 02 10 07 ff 0a0b 05 00")
	v, rest, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := v.Uint(40); v.Tag != 99 || n != 150 || !ok {
		t.Errorf("tag %d, attribute 40 = %d %v", v.Tag, n, ok)
	}
	if s, ok := v.Bytes(41); string(s) != "hi" || !ok {
		t.Errorf("attribute 41 = %q %v", s, ok)
	}
	if f, ok := v.Fixed(42); f != [8]byte{1, 2, 3, 4, 5, 6, 7, 8} || !ok {
		t.Errorf("attribute 42 = %v %v", f, ok)
	}
	list, ok := v.List(43)
	rec, ok2 := list.Next()
	if n, ok3 := rec.Uint(AttrDevice); n != 7 || !ok || !ok2 || !ok3 {
		t.Errorf("attribute 43: device %d %v %v %v", n, ok, ok2, ok3)
	}
	if _, more := list.Next(); more {
		t.Error("a second record")
	}
	if !bytes.Equal(v.Body(), []byte{10, 11}) || !bytes.Equal(v.Raw(), b[:len(b)-2]) || !bytes.Equal(rest, []byte{5, 0}) {
		t.Errorf("body %x raw %x rest %x", v.Body(), v.Raw(), rest)
	}
}

func TestAccessorsAbsent(t *testing.T) {
	v, _, err := Decode(unhex(t, "63 04 a0 01 a5 00"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []Attr{0, 1, 39, 42, 62, 63, 64, 255} {
		_, u := v.Uint(a)
		_, b := v.Bytes(a)
		_, f := v.Fixed(a)
		_, l := v.List(a)
		if u || b || f || l || v.Has(a) {
			t.Errorf("attribute %d: %v %v %v %v %v", a, u, b, f, l, v.Has(a))
		}
	}
	if _, ok := v.Bytes(40); ok {
		t.Error("a varint read as bytes")
	}
	if _, ok := v.Uint(41); ok {
		t.Error("bytes read as a varint")
	}
	if _, ok := (View{}).Uint(1); ok || (View{}).Body() != nil {
		t.Error("the zero View is not empty")
	}
}

func TestDecodeFrame(t *testing.T) {
	ping := []byte{5, 0}
	for _, c := range []struct {
		name  string
		plain []byte
		want  error
		count int
	}{
		{"empty", nil, ErrTruncated, 0},
		{"flags alone", []byte{0}, ErrTruncated, 0},
		{"flags set", []byte{1, 5, 0}, ErrFlags, 0},
		{"one", []byte{0, 5, 0}, nil, 1},
		{"three", []byte{0, 5, 0, 6, 0, 5, 0}, nil, 3},
		{"trailing byte", []byte{0, 5, 0, 5}, ErrTruncated, 1},
		{"256", append([]byte{0}, bytes.Repeat(ping, 256)...), nil, 256},
		{"257", append([]byte{0}, bytes.Repeat(ping, 257)...), ErrTooMany, 256},
		{"too long", make([]byte, MaxFrame+1), ErrTooLong, 0},
	} {
		count := 0
		err := DecodeFrame(c.plain, func(View) error { count++; return nil })
		if !errors.Is(err, c.want) || count != c.count {
			t.Errorf("%s: %v after %d, want %v after %d", c.name, err, count, c.want, c.count)
		}
	}
	stop := errors.New("stop")
	if err := DecodeFrame([]byte{0, 5, 0, 5, 0}, func(View) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of each: %v", err)
	}
}

func TestLargestStanza(t *testing.T) {
	for body, want := range map[int]error{MaxStanza - 4: nil, MaxStanza - 3: ErrTooLong} {
		b := Begin(nil, TagMessage)
		enc := b.End(make([]byte, body))
		if _, _, err := Decode(enc); !errors.Is(err, want) {
			t.Errorf("%d bytes encoded: %v, want %v", len(enc), err, want)
		}
	}
}

func TestBuilderLengths(t *testing.T) {
	for _, n := range []int{0, 1, 100, 122, 123, 124, 125, 126, 127, 128, 129, 16378, 16379, 16380, 16384, 60000} {
		for _, withBody := range []bool{false, true} {
			b := Begin([]byte("before"), 99)
			b.Uint(40, math.MaxUint64)
			var body []byte
			if withBody {
				body = bytes.Repeat([]byte{7}, n)
			} else {
				b.Bytes(41, bytes.Repeat([]byte{7}, n))
			}
			enc := b.End(body)
			v, rest, err := Decode(enc[len("before"):])
			if err != nil || len(rest) != 0 || string(enc[:6]) != "before" {
				t.Fatalf("%d: %v, %d left", n, err, len(rest))
			}
			got, _ := v.Bytes(41)
			if withBody {
				got = v.Body()
			}
			if u, _ := v.Uint(40); u != math.MaxUint64 || len(got) != n {
				t.Errorf("%d: %d, %d bytes", n, u, len(got))
			}
		}
	}
}

func TestBuilderPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"tag 0":             func() { Begin(nil, 0) },
		"tag 128":           func() { Begin(nil, 128) },
		"descending":        func() { b := Begin(nil, 1); b.Uint(AttrAccount, 1); b.Uint(AttrID, 1) },
		"repeated":          func() { b := Begin(nil, 1); b.Uint(AttrID, 1); b.Uint(AttrID, 1) },
		"attribute 63":      func() { b := Begin(nil, 1); b.Uint(63, 1) },
		"wire type":         func() { b := Begin(nil, 1); b.Bytes(AttrID, nil) },
		"packed repeats":    func() { AppendPacked(nil, []uint64{4, 4}) },
		"packed zero":       func() { AppendPacked(nil, []uint64{0}) },
		"devices descend":   func() { AppendDevices(nil, []DeviceKey{{Device: 2}, {Device: 1}}) },
		"device 0":          func() { AppendDevices(nil, []DeviceKey{{}}) },
		"33 devices":        func() { AppendDevices(nil, make([]DeviceKey, MaxDevices+1)) },
		"after not below":   func() { (&MessageUp{ID: 3, After: 3}).Append(nil) },
		"read after beyond": func() { (&ReadUp{ID: 3, After: 4}).Append(nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
