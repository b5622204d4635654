package stanza

import (
	"errors"
	"testing"
)

func TestPacked(t *testing.T) {
	ids := []uint64{5, 6, 300, MaxID}
	b := AppendPacked(nil, ids)
	if err := ValidPacked(b, len(ids)); err != nil {
		t.Fatal(err)
	}
	it := Packed(b)
	for _, want := range ids {
		if got, ok := it.Next(); got != want || !ok {
			t.Errorf("got %d %v, want %d", got, ok, want)
		}
	}
	if _, ok := it.Next(); ok {
		t.Error("one more")
	}
	for _, c := range []struct {
		name, hex string
		max       int
		want      error
	}{
		{"none", "", 4, ErrMissing},
		{"zero", "00", 4, ErrValue},
		{"distance 0", "05 00", 4, ErrValue},
		{"one too many", "05 01 01", 2, ErrTooMany},
		{"not minimal", "85 00", 4, ErrNotCanonical},
		{"unfinished", "05 85", 4, ErrTruncated},
		{"over MaxID", "ffffffffffffff7f 01", 4, ErrValue},
		{"overflow", "05 ffffffffffffffffff01", 4, ErrValue},
	} {
		if err := ValidPacked(unhex(t, c.hex), c.max); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestCiphers(t *testing.T) {
	body := AppendCipher(AppendCipher(nil, 1, []byte("one")), 300, []byte("two"))
	if n, err := ValidCiphers(body); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	d, cipher, rest, err := NextCipher(body)
	if d != 1 || string(cipher) != "one" || err != nil {
		t.Errorf("%d %q %v", d, cipher, err)
	}
	d, cipher, rest, err = NextCipher(rest)
	if d != 300 || string(cipher) != "two" || len(rest) != 0 || err != nil {
		t.Errorf("%d %q %x %v", d, cipher, rest, err)
	}
	var many []byte
	for i := range MaxDevices + 1 {
		many = AppendCipher(many, Device(i+1), []byte{1})
	}
	for _, c := range []struct {
		name string
		body []byte
		want error
	}{
		{"none", nil, ErrBody},
		{"device 0", unhex(t, "00 01 01"), ErrValue},
		{"device 65536", unhex(t, "808004 01 01"), ErrValue},
		{"device not minimal", unhex(t, "8100 01 01"), ErrNotCanonical},
		{"no length", unhex(t, "01"), ErrTruncated},
		{"past the end", unhex(t, "01 02 01"), ErrTruncated},
		{"empty ciphertext", unhex(t, "01 00"), ErrBody},
		{"repeated", unhex(t, "01 01 01 01 01 01"), ErrNotCanonical},
		{"descending", unhex(t, "02 01 01 01 01 01"), ErrNotCanonical},
		{"33 devices", many, ErrTooMany},
	} {
		if _, err := ValidCiphers(c.body); !errors.Is(err, c.want) || !errors.Is(err, ErrStanza) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
