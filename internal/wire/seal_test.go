package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealers returns the sealer of this build and one as it is where the key may not be overwritten.
func sealers() map[string]*Sealer {
	return map[string]*Sealer{"in use": NewSealer(), "rebuilding": {aead: scratchAEAD{}}}
}

func TestKeyMayBeOverwritten(t *testing.T) {
	if !keyIsPlain {
		t.Fatal("the AEAD of x/crypto has changed: it works, but each frame allocates; see aead.go")
	}
}

func TestSeal(t *testing.T) {
	for name, s := range sealers() {
		for i, n := range []int{0, 1, 16, 64, 1000, MaxPlain} {
			key := [KeySize]byte(fill(byte(i)))
			nonce := uint64(i)<<32 | 5
			plain := bytes.Repeat([]byte{byte(n)}, n)
			ref, err := chacha20poly1305.New(key[:])
			if err != nil {
				t.Fatal(err)
			}
			want := ref.Seal([]byte("ab"), binary.LittleEndian.AppendUint64(make([]byte, 4), nonce), plain, nil)
			got := s.Seal([]byte("ab"), &key, nonce, plain)
			if !bytes.Equal(got, want) || len(got) != 2+n+TagSize {
				t.Fatalf("%s: %d bytes sealed differently", name, n)
			}
			frame := s.AppendSealedFrame([]byte("ab"), &key, nonce, plain)
			if !bytes.Equal(body(t, frame[2:]), want[2:]) {
				t.Fatalf("%s: frame of %d bytes", name, n)
			}
			if out, err := s.Open([]byte("cd"), &key, nonce, want[2:]); err != nil || !bytes.Equal(out[2:], plain) || string(out[:2]) != "cd" {
				t.Fatalf("%s: %d bytes do not open: %v", name, n, err)
			}
		}
		if key := [KeySize]byte(fill(1)); s.aead.key != nil {
			s.Seal(nil, &key, 0, nil)
			if key != [KeySize]byte(fill(1)) {
				t.Fatal("the caller's key has changed")
			}
		}
	}
}

func TestOpenInPlace(t *testing.T) {
	s, key := NewSealer(), [KeySize]byte(fill(1))
	sealed := s.Seal(nil, &key, 3, []byte("hello"))
	if out, err := s.Open(sealed[:0], &key, 3, sealed); err != nil || string(out) != "hello" {
		t.Fatal(out, err)
	}
	plain := append(make([]byte, 0, 64), "hello"...)
	if out := s.Seal(plain[:0], &key, 3, plain); len(out) != 5+TagSize {
		t.Fatal(out)
	}
}

func TestChangedFrames(t *testing.T) {
	for name, s := range sealers() {
		key := [KeySize]byte(fill(1))
		sealed := s.Seal(nil, &key, 3, []byte("a stanza or two"))
		fail := func(what string, key [KeySize]byte, nonce uint64, b []byte) {
			t.Helper()
			out, err := s.Open([]byte("x"), &key, nonce, b)
			if !errors.Is(err, ErrOpen) || string(out) != "x" {
				t.Errorf("%s, %s: %q %v", name, what, out, err)
			}
		}
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 0x20
			fail("changed", key, 3, bad)
			fail("cut", key, 3, sealed[:i])
		}
		fail("longer", key, 3, append(bytes.Clone(sealed), 0))
		fail("another nonce", key, 4, sealed)
		fail("a nonce 2^32 higher", key, 3|1<<32, sealed)
		fail("another key", [KeySize]byte(fill(2)), 3, sealed)
	}
}

func TestSealingAllocatesNothing(t *testing.T) {
	s, key := NewSealer(), [KeySize]byte(fill(1))
	for _, n := range []int{0, 3, 64, 1024, MaxPlain} {
		plain := make([]byte, n)
		sealed := s.Seal(nil, &key, 9, plain)
		dst := make([]byte, 0, MaxBody+LenSize)
		if a := testing.AllocsPerRun(100, func() {
			s.Seal(dst, &key, 9, plain)
			s.AppendSealedFrame(dst, &key, 9, plain)
			if _, err := s.Open(dst, &key, 9, sealed); err != nil {
				panic(err)
			}
		}); a != 0 {
			t.Errorf("%d bytes: %v allocations", n, a)
		}
	}
}
