package wire

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// GrantKey is a key that gateways sign grants with. It is worked out from the ticket key with its ID: who has the one has the other, and
// they rotate together. The ID is in the grant.
type GrantKey struct {
	ID   uint32
	Seed [ed25519.SeedSize]byte // secret
}

// String names the key without giving it away, whoever prints it.
func (k GrantKey) String() string { return fmt.Sprintf("grant key %d", k.ID) }

// Format is String for every verb: none is a way around it.
func (k GrantKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// GrantKey returns the grant key that belongs to k. Its public half says nothing about k.
func (k *TicketKey) GrantKey() GrantKey {
	mac := hmac.New(sha256.New, k.Key[:])
	mac.Write([]byte("linecard grant key 1"))
	return GrantKey{ID: k.ID, Seed: [ed25519.SeedSize]byte(mac.Sum(nil))}
}

// SigningKey returns the one of keys, newest first, whose grant key signs now: the second newest, since the leader of dir/0 tells a new
// key to everybody at once, and a grant may be faster than what it is to be verified with. So each is known to every mediad for a
// rotation before its first grant comes. keys has at least one.
func SigningKey(keys []TicketKey) *TicketKey { return &keys[min(1, len(keys)-1)] }

// Public returns what mediads verify with.
func (k *GrantKey) Public() GrantPublic {
	private := ed25519.NewKeyFromSeed(k.Seed[:])
	return GrantPublic{ID: k.ID, Key: [ed25519.PublicKeySize]byte(private.Public().(ed25519.PublicKey))}
}

// Signer returns the key in the form that signs: that takes as long to work out as a signature.
func (k *GrantKey) Signer() *GrantSigner {
	return &GrantSigner{id: k.ID, private: ed25519.NewKeyFromSeed(k.Seed[:])}
}

// GrantSigner is a GrantKey ready to sign. Safe for concurrent use.
type GrantSigner struct {
	id      uint32
	private ed25519.PrivateKey
}

// GrantPublic is the public half of a GrantKey.
type GrantPublic struct {
	ID  uint32
	Key [ed25519.PublicKeySize]byte
}

// MaxGrantKeys is how many public keys are known at once, at most: one for each ticket key.
const MaxGrantKeys = MaxTicketKeys

const grantPublicSize = 4 + ed25519.PublicKeySize

// ErrGrantKeys says that bytes are no set of public grant keys.
var ErrGrantKeys = errors.New("wire: malformed grant keys")

// AppendGrantPublics appends 1 to MaxGrantKeys keys, newest first, to dst: for each its ID, 4 bytes big-endian, and the key.
func AppendGrantPublics(dst []byte, keys []GrantPublic) []byte {
	for i := range keys {
		dst = binary.BigEndian.AppendUint32(dst, keys[i].ID)
		dst = append(dst, keys[i].Key[:]...)
	}
	return dst
}

// ParseGrantPublics reads what AppendGrantPublics wrote; it keeps nothing of b. IDs descend strictly and are not 0. Errors are ErrGrantKeys.
func ParseGrantPublics(b []byte) ([]GrantPublic, error) {
	n := len(b) / grantPublicSize
	if n < 1 || n > MaxGrantKeys || len(b)%grantPublicSize != 0 {
		return nil, ErrGrantKeys
	}
	keys := make([]GrantPublic, n)
	for i := range keys {
		r := b[i*grantPublicSize:]
		keys[i] = GrantPublic{ID: binary.BigEndian.Uint32(r), Key: [ed25519.PublicKeySize]byte(r[4:])}
		if keys[i].ID == 0 || i > 0 && keys[i].ID >= keys[i-1].ID {
			return nil, ErrGrantKeys
		}
	}
	return keys, nil
}
