package wire

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// HashSize is the length of a StaticHash in bytes.
const HashSize = 16

// StaticHash names a device's static key where the key itself is not to be: in a ticket and between router and gateway. It is the first half
// of SHA-256("linecard static key" || static). 128 bits are enough: a second device would have to match the one that a ticket names.
func StaticHash(static [KeySize]byte) (h [HashSize]byte) {
	const domain = "linecard static key"
	var in [len(domain) + KeySize]byte
	copy(in[:], domain)
	copy(in[len(domain):], static[:])
	sum := sha256.Sum256(in[:])
	copy(h[:], sum[:])
	return h
}

// TicketKey is a key that gateways seal and open tickets with. Its ID is in the ticket; a cluster never uses one twice.
type TicketKey struct {
	ID  uint32
	Key [KeySize]byte
}

// String names the key without giving it away, whoever prints it.
func (k TicketKey) String() string { return fmt.Sprintf("ticket key %d", k.ID) }

// GoString is String: %#v is no way around it.
func (k TicketKey) GoString() string { return k.String() }

// MaxTicketKeys is how many keys are valid at once, at most.
const MaxTicketKeys = 8

// ErrTicketKeys says that bytes are no set of ticket keys.
var ErrTicketKeys = errors.New("wire: malformed ticket keys")

// AppendTicketKeys appends 1 to MaxTicketKeys keys, newest first, to dst: for each its ID, 4 bytes big-endian, and the key.
func AppendTicketKeys(dst []byte, keys []TicketKey) []byte { return appendKeys(dst, keys) }

// ParseTicketKeys reads what AppendTicketKeys wrote; it keeps nothing of b. IDs descend strictly and are not 0. Errors are ErrTicketKeys.
func ParseTicketKeys(b []byte) ([]TicketKey, error) {
	if keys := parseKeys[TicketKey](b, MaxTicketKeys); keys != nil {
		return keys, nil
	}
	return nil, ErrTicketKeys
}
