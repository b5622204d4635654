package stanza

import (
	"errors"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Account is the number of an account: counter x shards + shard, 1..MaxAccount; 0 is none. Never reused.
type Account uint64

// Device is the number of a device under its account: from 1, at most MaxDevice, never reused; 0 is none.
type Device uint32

// Group names a raft group: dir/N is N, queue/N is 0x8000|N.
type Group uint16

// Ranges of the address types.
const (
	MaxAccount Account = 1<<34 - 1
	MaxDevice  Device  = 1<<16 - 1
	MaxDevices         = 32 // devices of an account at one time
	MaxHandle          = 32 // bytes of a handle
)

const queueBit Group = 0x8000

// ErrBadHandle says that a handle is not 1-32 of [a-z0-9._-] after folding.
var ErrBadHandle = errors.New("stanza: handle is not 1-32 of [a-z0-9._-]")

// DirGroup returns the directory's group of a shard (0..32767).
func DirGroup(shard int) Group { return Group(shard) &^ queueBit }

// QueueGroup returns the queues' group of a shard (0..32767).
func QueueGroup(shard int) Group { return Group(shard) | queueBit }

// Shard returns the shard number of g.
func (g Group) Shard() int { return int(g &^ queueBit) }

// IsQueue reports whether g holds queues; otherwise it holds the directory.
func (g Group) IsQueue() bool { return g&queueBit != 0 }

// String returns "dir/3" or "queue/3". It allocates: for start-up, logs and pre-resolved metric labels.
func (g Group) String() string {
	if g.IsQueue() {
		return "queue/" + strconv.Itoa(g.Shard())
	}
	return "dir/" + strconv.Itoa(g.Shard())
}

// ShardOf returns the shard of an account: a mod shards. shards must be positive.
func ShardOf(a Account, shards int) int { return int(uint64(a) % uint64(shards)) }

// HandleShard returns the shard that creates the account of a folded handle: xxhash64 mod shards. shards must be positive.
func HandleShard(folded string, shards int) int {
	return int(xxhash.Sum64String(folded) % uint64(shards))
}

// FoldHandle returns h in ASCII lower case, or ErrBadHandle. It does not keep h.
func FoldHandle(h []byte) (string, error) {
	if len(h) == 0 || len(h) > MaxHandle {
		return "", ErrBadHandle
	}
	var folded [MaxHandle]byte
	for i, c := range h {
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return "", ErrBadHandle
		}
		folded[i] = c
	}
	return string(folded[:len(h)]), nil
}
