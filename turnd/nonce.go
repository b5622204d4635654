package turnd

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"time"
)

// nonceLife is how long a nonce is good for; then the client is told another one.
const nonceLife = 30 * time.Minute

// nonces makes and checks nonces without keeping any. They are pion's no more than their shape is: pion's have 80 bytes, which would
// more than double the answer that strangers get, and are good for whoever shows them; these have 12, and are good for one address. Forty bits of
// MAC do: who guesses one can have an old nonce pass, and still needs the password. The cookies of DTLS are made alike. Safe for concurrent use.
type nonces struct {
	key  [32]byte
	life time.Duration
	now  func() time.Time
}

const (
	nonceSize = 12 // of base64
	rawNonce  = 9  // 4 bytes of time, 5 of MAC
)

func newNonces(life time.Duration, now func() time.Time) *nonces {
	n := &nonces{life: life, now: now}
	_, _ = rand.Read(n.key[:]) // never fails: crypto/rand ends the process instead
	return n
}

// append appends a nonce for a client.
func (n *nonces) append(dst []byte, client netip.AddrPort) []byte {
	raw := n.make(uint32(n.now().Unix()), client)
	return base64.RawURLEncoding.AppendEncode(dst, raw[:])
}

// valid reports whether a nonce was made for the client, not too long ago.
func (n *nonces) valid(nonce []byte, client netip.AddrPort) bool {
	var raw [rawNonce]byte
	if len(nonce) != nonceSize {
		return false
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(raw[:], nonce); err != nil {
		return false
	}
	made := binary.BigEndian.Uint32(raw[:])
	want := n.make(made, client)
	age := n.now().Unix() - int64(made)
	return hmac.Equal(raw[:], want[:]) && age >= -1 && age < int64(n.life/time.Second)
}

func (n *nonces) make(made uint32, client netip.AddrPort) (raw [rawNonce]byte) {
	binary.BigEndian.PutUint32(raw[:], made)
	mac := hmac.New(sha256.New, n.key[:])
	mac.Write(raw[:4])
	ip := client.Addr().As16()
	mac.Write(ip[:])
	mac.Write(binary.BigEndian.AppendUint16(nil, client.Port()))
	var sum [sha256.Size]byte
	copy(raw[4:], mac.Sum(sum[:0]))
	return raw
}
