package wire

import circl "github.com/cloudflare/circl/dh/x25519"

// circl's assembly: an XX responder costs well under half of what it costs with flynn's default (BenchmarkXXResponder,
// BenchmarkXXResponderFlynn), which pays for the base point twice per ephemeral key.

func basePoint(public, private *[KeySize]byte) {
	circl.KeyGen((*circl.Key)(public), (*circl.Key)(private))
}

func sharedSecret(secret, private, public *[KeySize]byte) bool {
	return circl.Shared((*circl.Key)(secret), (*circl.Key)(private), (*circl.Key)(public))
}
