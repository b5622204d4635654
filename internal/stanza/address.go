package stanza

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Account is the number of an account: its home region in the top bits, below them counter x shards + shard; 1..MaxAccount, 0 is none.
// Never reused.
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
	MaxRegion  Region  = 15
)

// Region is the number of a region: a cluster that is the home of accounts. A cluster that was founded without one is region 0.
type Region uint8

const regionShift = 30

// Region returns the home region of a. That of a number above MaxAccount means nothing.
func (a Account) Region() Region { return Region(a >> regionShift) }

// First returns the number below all accounts of r; the last one is First of the next region - 1.
func (r Region) First() Account { return Account(r) << regionShift }

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

// SplitHandle takes the region off a name as a client may look it up, name@region: the number is decimal, without zeros in front, 0 to
// MaxRegion. Without an @, or with something else behind it, the handle is h itself and ok is false; FoldHandle refuses an @ in it.
func SplitHandle(h []byte) (handle []byte, r Region, ok bool) {
	i := bytes.IndexByte(h, '@')
	if i < 0 {
		return h, 0, false
	}
	digits := h[i+1:]
	if len(digits) == 0 || len(digits) > 2 || len(digits) == 2 && digits[0] == '0' {
		return h, 0, false
	}
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return h, 0, false
		}
		n = n*10 + int(c-'0')
	}
	if n > int(MaxRegion) {
		return h, 0, false
	}
	return h[:i], Region(n), true
}
