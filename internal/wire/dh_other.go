//go:build !amd64

package wire

import "golang.org/x/crypto/curve25519"

// circl has assembly for amd64 only; elsewhere it is portable code without the tables and the field arithmetic of the standard
// library, which curve25519 stands on. Not measured yet on arm64: run this package's BenchmarkXXResponder there before changing it.

func basePoint(public, private *[KeySize]byte) {
	p, err := curve25519.X25519(private[:], curve25519.Basepoint)
	if err != nil {
		// A clamped scalar is never a multiple of the base point's order.
		panic("wire: X25519 of the base point: " + err.Error())
	}
	*public = [KeySize]byte(p)
}

func sharedSecret(secret, private, public *[KeySize]byte) bool {
	s, err := curve25519.X25519(private[:], public[:])
	if err != nil {
		return false
	}
	*secret = [KeySize]byte(s)
	return true
}
