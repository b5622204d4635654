package wire

import (
	"bytes"
	"crypto/cipher"
	"reflect"

	"golang.org/x/crypto/chacha20poly1305"
)

// scratchAEAD is a ChaCha20-Poly1305 whose key is overwritten before each use.
//
// x/crypto wants a new object per key: measured, 32 bytes of garbage with a session key in it and a tenth more time for each frame of
// 64 bytes. So the key field of one object is written behind its back, if this process has seen at its start that the
// object is what we think it is; otherwise key is nil and every use builds a new object.
type scratchAEAD struct {
	aead cipher.AEAD
	key  *[KeySize]byte // inside aead; nil: not to be trusted, rebuild
}

// keyIsPlain says whether the key of this build's AEAD may be overwritten.
var keyIsPlain = checkKeyField()

func newScratchAEAD() scratchAEAD {
	s := scratchAEAD{aead: mustAEAD(&[KeySize]byte{})}
	if keyIsPlain {
		s.key = keyField(s.aead)
	}
	return s
}

// with returns the AEAD of a key, valid until the next call.
func (s *scratchAEAD) with(key *[KeySize]byte) cipher.AEAD {
	if s.key == nil {
		return mustAEAD(key)
	}
	*s.key = *key
	return s.aead
}

func mustAEAD(key *[KeySize]byte) cipher.AEAD {
	a, err := chacha20poly1305.New(key[:])
	if err != nil {
		// The size is right; only a process that enforces FIPS 140 gets here, and Noise's suite is not for it.
		panic("wire: " + err.Error())
	}
	return a
}

// keyField returns the address of the only field of the struct behind a, or nil if it is anything but a pointer to struct{ 32 bytes }.
func keyField(a cipher.AEAD) *[KeySize]byte {
	v := reflect.ValueOf(a)
	if v.Kind() != reflect.Pointer || v.Type().Elem().Kind() != reflect.Struct {
		return nil
	}
	t := v.Type().Elem()
	if t.NumField() != 1 || t.Size() != KeySize || t.Field(0).Type != reflect.TypeFor[[KeySize]byte]() {
		return nil
	}
	return (*[KeySize]byte)(v.UnsafePointer())
}

// checkKeyField overwrites the key of one object and compares it with an honest one: an implementation that derives anything from
// the key when it is built shows here.
func checkKeyField() bool {
	from, to := [KeySize]byte{1, 2, 3}, [KeySize]byte{31: 7, 0: 9}
	a := mustAEAD(&from)
	key := keyField(a)
	if key == nil || *key != from {
		return false
	}
	*key = to
	nonce := make([]byte, chacha20poly1305.NonceSize)
	want := mustAEAD(&to).Seal(nil, nonce, from[:], nil)
	if !bytes.Equal(a.Seal(nil, nonce, from[:], nil), want) {
		return false
	}
	plain, err := a.Open(nil, nonce, want, nil)
	return err == nil && bytes.Equal(plain, from[:])
}
