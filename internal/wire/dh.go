package wire

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// KeySize is every key of this package: X25519 keys, public and private, and session keys, in bytes.
const KeySize = 32

// ErrKeyShare: a public key of the wrong length, or a point of low order, whose shared secret anybody knows.
var ErrKeyShare = errors.New("wire: bad key share")

// DH is X25519 (RFC 7748) for flynn/noise: the fastest implementation of this architecture (dh_*.go say which, and what was
// measured). It refuses low-order points. Safe for concurrent use.
var DH noise.DHFunc = x25519{}

type x25519 struct{}

func (x25519) GenerateKeypair(rng io.Reader) (noise.DHKey, error) { return GenerateKeypair(rng) }
func (x25519) DHLen() int                                         { return KeySize }
func (x25519) DHName() string                                     { return "25519" }

func (x25519) DH(private, public []byte) ([]byte, error) {
	if len(private) != KeySize || len(public) != KeySize {
		return nil, ErrKeyShare
	}
	var secret [KeySize]byte
	if !sharedSecret(&secret, (*[KeySize]byte)(private), (*[KeySize]byte)(public)) {
		return nil, ErrKeyShare
	}
	return secret[:], nil
}

// GenerateKeypair makes an X25519 key pair of the next 32 bytes of rng; nil means crypto/rand. The slices are the caller's.
func GenerateKeypair(rng io.Reader) (noise.DHKey, error) {
	if rng == nil {
		rng = rand.Reader
	}
	var private [KeySize]byte
	if _, err := io.ReadFull(rng, private[:]); err != nil {
		return noise.DHKey{}, fmt.Errorf("wire: generate a key pair: %w", err)
	}
	return KeypairOf(private), nil
}

// KeypairOf returns the key pair of a private key. The slices are the caller's.
func KeypairOf(private [KeySize]byte) noise.DHKey {
	public := PublicKey(private)
	return noise.DHKey{Private: private[:], Public: public[:]}
}

// PublicKey returns the public key of a private key.
func PublicKey(private [KeySize]byte) [KeySize]byte {
	var public [KeySize]byte
	basePoint(&public, &private)
	return public
}
