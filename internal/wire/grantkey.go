package wire

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
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

// SigningKey returns the one of keys, newest first, whose grant key and relay secret sign now: the second newest, since the leader of dir/0 tells
// a new key to everybody at once, and what was signed may be faster than what it is to be verified with. So each is known to every mediad and
// turnd for a rotation before it is needed. keys has at least one.
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

// ErrGrantKeys says that bytes are no set of public grant keys.
var ErrGrantKeys = errors.New("wire: malformed grant keys")

// AppendGrantPublics appends 1 to MaxGrantKeys keys, newest first, to dst: for each its ID, 4 bytes big-endian, and the key.
func AppendGrantPublics(dst []byte, keys []GrantPublic) []byte { return appendKeys(dst, keys) }

// ParseGrantPublics reads what AppendGrantPublics wrote; it keeps nothing of b. IDs descend strictly and are not 0. Errors are ErrGrantKeys.
func ParseGrantPublics(b []byte) ([]GrantPublic, error) {
	if keys := parseKeys[GrantPublic](b, MaxGrantKeys); keys != nil {
		return keys, nil
	}
	return nil, ErrGrantKeys
}
