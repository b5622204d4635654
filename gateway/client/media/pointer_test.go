package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPointerRoundTrip(t *testing.T) {
	for _, p := range []Pointer{
		{},
		{Blob: [32]byte{1}, Key: [32]byte{2}, Size: MaxSize},
		{Size: 127, Name: strings.Repeat("ü", 127), Type: "image/png; q=1", Thumbnail: make([]byte, MaxThumbnail), Caption: strings.Repeat("x", MaxCaption)},
		{Size: 128, Caption: "only that"},
	} {
		if err := p.Check(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
		got, err := ParsePointer(p.Append(nil))
		if err != nil || !reflect.DeepEqual(*got, p) {
			t.Errorf("%+v, %v, want %+v", got, err, p)
		}
	}
}

func TestPointerRefusals(t *testing.T) {
	head := make([]byte, HashSize+KeySize)
	with := func(rest ...byte) []byte { return append(bytes.Clone(head), rest...) }
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"no size":             head,
		"short":               head[:40],
		"size in a long form": with(0x80, 0),
		"size out of range":   binary.AppendUvarint(bytes.Clone(head), MaxSize+1),
		"size without end":    with(0xff, 0xff),
		"field 0":             with(1, 0, 1, 'a'),
		"field twice":         with(1, 1, 1, 'a', 1, 1, 'b'),
		"fields not in order": with(1, 2, 1, 'a', 1, 1, 'b'),
		"empty field":         with(1, 1, 0),
		"field beyond end":    with(1, 1, 2, 'a'),
		"field without end":   with(1, 1),
		"name not UTF-8":      with(1, 1, 1, 0xff),
		"type with a newline": with(1, 2, 1, '\n'),
		"length in long form": with(1, 1, 0x81, 0, 'a'),
		"name too long":       append(with(1, 1, 0x80, 2), make([]byte, 256)...),
	} {
		if p, err := ParsePointer(b); !errors.Is(err, ErrPointer) || p != nil {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if p, err := ParsePointer(with(1, 1, 1, 'a', 200, 3, 'n', 'e', 'w')); err != nil || p.Name != "a" {
		t.Errorf("a field of a later version: %+v, %v", p, err)
	}
	for _, p := range []Pointer{{Size: -1}, {Name: "\xff"}, {Type: "ä"}, {Thumbnail: make([]byte, MaxThumbnail+1)}, {Caption: "\xff"}} {
		if p.Check() == nil {
			t.Errorf("%+v passes", p)
		}
	}
}

func TestSafeName(t *testing.T) {
	long := strings.Repeat("ä", 120)
	for name, want := range map[string]string{
		"photo.jpg": "photo.jpg", "../../etc/passwd": "passwd", `..\..\boot.ini`: "boot.ini", "/": "file-00000000", "..": "file-00000000", "": "file-00000000",
		".bashrc": "_bashrc", "a\x1b[2Jb": "a_[2Jb", "in\u202egpj.exe": "in_gpj.exe", "a\nb": "a_b", " x ": "x", "dir/": "dir", "nul\x00": "nul_",
		long + ".jpeg": strings.Repeat("ä", 97) + ".jpeg",
	} {
		p := Pointer{Name: name}
		if got := p.SafeName(); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

func FuzzPointer(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePointer(b)
		if err != nil {
			if p != nil {
				t.Fatal("a pointer beside an error")
			}
			return
		}
		again, err := ParsePointer(p.Append(nil))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
		name := p.SafeName()
		if name == "" || len(name) > maxSafeName || name[0] == '.' || strings.ContainsAny(name, "/\\\x00\n\x1b") || !utf8.ValidString(name) {
			t.Fatalf("%q became the name %q", p.Name, name)
		}
	})
}
