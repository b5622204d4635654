package wire

import "encoding/binary"

// numbered is a key with the number that it goes by: TicketKey, GrantPublic, RelaySecret. Sets of them have one form: newest first, for each its
// ID, 4 bytes big-endian, and the key.
type numbered interface {
	~struct {
		ID  uint32
		Key [KeySize]byte
	}
}

const numberedSize = 4 + KeySize

func appendKeys[K numbered](dst []byte, keys []K) []byte {
	for i := range keys {
		k := TicketKey(keys[i])
		dst = binary.BigEndian.AppendUint32(dst, k.ID)
		dst = append(dst, k.Key[:]...)
	}
	return dst
}

// parseKeys returns nil unless b is a set of 1 to most keys whose IDs descend strictly and are not 0.
func parseKeys[K numbered](b []byte, most int) []K {
	n := len(b) / numberedSize
	if n < 1 || n > most || len(b)%numberedSize != 0 {
		return nil
	}
	keys := make([]K, n)
	last := uint32(0)
	for i := range keys {
		r := b[i*numberedSize:]
		id := binary.BigEndian.Uint32(r)
		if id == 0 || i > 0 && id >= last {
			return nil
		}
		last = id
		keys[i] = K(TicketKey{ID: id, Key: [KeySize]byte(r[4:])})
	}
	return keys
}
