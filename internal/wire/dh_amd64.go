package wire

import circl "github.com/cloudflare/circl/dh/x25519"

// circl's assembly, where flynn/noise's default pays for the base point twice: once for the ephemeral key, and once more when the
// standard library makes a private key of its bytes (BenchmarkDH, BenchmarkKeypair; an XX responder is three and one of them).

func basePoint(public, private *[KeySize]byte) {
	circl.KeyGen((*circl.Key)(public), (*circl.Key)(private))
}

func sharedSecret(secret, private, public *[KeySize]byte) bool {
	return circl.Shared((*circl.Key)(secret), (*circl.Key)(private), (*circl.Key)(public))
}
