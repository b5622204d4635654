package swarm

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"linecard.example/internal/wire"
)

// names gives sessions their handles and static keys, so that none of it is kept: both follow from the configuration and the number.
type names struct {
	prefix string
	seed   [sha256.Size]byte
	first  uint64
}

func newNames(c *Config) names {
	return names{prefix: c.Prefix, seed: sha256.Sum256([]byte("linecard swarm " + c.Seed)), first: uint64(c.First)}
}

// appendHandle appends the handle of a session to dst.
func (n *names) appendHandle(dst []byte, session uint32) []byte {
	return strconv.AppendUint(append(dst, n.prefix...), n.first+uint64(session), 36)
}

// private returns the static private key of a session: one hash.
func (n *names) private(session uint32) [wire.KeySize]byte {
	var in [sha256.Size + 8]byte
	copy(in[:], n.seed[:])
	binary.BigEndian.PutUint64(in[sha256.Size:], n.first+uint64(session))
	return sha256.Sum256(in[:])
}
