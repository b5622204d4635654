package wire

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
)

// GrantKey is a key that gateways sign grants with. Its ID is in the grant; a cluster never uses one twice.
type GrantKey struct {
	ID   uint32
	Seed [ed25519.SeedSize]byte // secret
}

// String names the key without giving it away, whoever prints it.
func (k GrantKey) String() string { return fmt.Sprintf("grant key %d", k.ID) }

// Format is String for every verb: none is a way around it.
func (k GrantKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

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

// MaxGrantKeys is how many grant keys are known at once, at most.
const MaxGrantKeys = 8

const grantKeySize = 4 + ed25519.SeedSize

// ErrGrantKeys says that bytes are no set of grant keys.
var ErrGrantKeys = errors.New("wire: malformed grant keys")

// AppendGrantKeys appends 1 to MaxGrantKeys keys, newest first, to dst: for each its ID, 4 bytes big-endian, and the seed.
func AppendGrantKeys(dst []byte, keys []GrantKey) []byte {
	for i := range keys {
		dst = binary.BigEndian.AppendUint32(dst, keys[i].ID)
		dst = append(dst, keys[i].Seed[:]...)
	}
	return dst
}

// ParseGrantKeys reads what AppendGrantKeys wrote; it keeps nothing of b. IDs descend strictly and are not 0. Errors are ErrGrantKeys.
func ParseGrantKeys(b []byte) ([]GrantKey, error) {
	var keys []GrantKey
	err := eachGrantKey(b, func(id uint32, key [grantKeySize - 4]byte) { keys = append(keys, GrantKey{ID: id, Seed: key}) })
	return keys, err
}

// AppendGrantPublics appends 1 to MaxGrantKeys public keys, newest first, to dst, in the same form.
func AppendGrantPublics(dst []byte, keys []GrantPublic) []byte {
	for i := range keys {
		dst = binary.BigEndian.AppendUint32(dst, keys[i].ID)
		dst = append(dst, keys[i].Key[:]...)
	}
	return dst
}

// ParseGrantPublics reads what AppendGrantPublics wrote, under the rules of ParseGrantKeys.
func ParseGrantPublics(b []byte) ([]GrantPublic, error) {
	var keys []GrantPublic
	err := eachGrantKey(b, func(id uint32, key [grantKeySize - 4]byte) { keys = append(keys, GrantPublic{ID: id, Key: key}) })
	return keys, err
}

// eachGrantKey gives the keys of a set to take, in their order, once all of it is found good.
func eachGrantKey(b []byte, take func(id uint32, key [grantKeySize - 4]byte)) error {
	n := len(b) / grantKeySize
	if n < 1 || n > MaxGrantKeys || len(b)%grantKeySize != 0 {
		return ErrGrantKeys
	}
	last := uint64(1) << 32
	for r := b; len(r) > 0; r = r[grantKeySize:] {
		id := uint64(binary.BigEndian.Uint32(r))
		if id == 0 || id >= last {
			return ErrGrantKeys
		}
		last = id
	}
	for r := b; len(r) > 0; r = r[grantKeySize:] {
		take(binary.BigEndian.Uint32(r), [grantKeySize - 4]byte(r[4:]))
	}
	return nil
}
