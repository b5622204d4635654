package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A pack is the content of one raft log entry:
//
//	version  1 byte, today 1
//	flags    1 byte: packLead or 0
//	nonce    8 bytes big-endian: the proposing process's random number for this opening of the group
//	seq      8 bytes: the proposer's sequence number, from 1
//	stamp    8 bytes: Unix ms; 0 in a lead pack
//	count    2 bytes: commands
//	commands count times: minimal uvarint length, bytes
const (
	packVersion = 1
	packHeader  = 1 + 1 + 8 + 8 + 8 + 2

	// packLead marks the empty pack by which a leader learns that everything of earlier terms is applied, and its exact term.
	packLead = 1

	// MaxPackCommands and MaxPackBytes bound a pack that is built here; a single larger command travels alone.
	MaxPackCommands = 64
	MaxPackBytes    = 256 << 10
	// MaxCommand is the largest command in bytes.
	MaxCommand = 1 << 20

	// maxDecodeCommands is what a reader accepts, so that the building bound can be raised without stopping older readers.
	maxDecodeCommands = 4096
)

// ErrPack says that a log entry is not a well-formed pack.
var ErrPack = errors.New("shard: malformed pack")

// pack is a decoded pack header with its commands still encoded. It borrows the entry.
type pack struct {
	lead  bool
	nonce uint64
	seq   uint64
	stamp int64
	count int
	body  []byte
}

// putHeader fills the first packHeader bytes of b.
func (p *pack) putHeader(b []byte) {
	b[0], b[1] = packVersion, 0
	if p.lead {
		b[1] = packLead
	}
	binary.BigEndian.PutUint64(b[2:], p.nonce)
	binary.BigEndian.PutUint64(b[10:], p.seq)
	binary.BigEndian.PutUint64(b[18:], uint64(p.stamp))
	binary.BigEndian.PutUint16(b[26:], uint16(p.count))
}

// appendCommand appends one command to a pack's body.
func appendCommand(dst, cmd []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(cmd)))
	return append(dst, cmd...)
}

// decodePack checks all of b, so that a pack is either applied whole or not at all. It allocates only on error.
func decodePack(b []byte) (pack, error) {
	if len(b) < packHeader {
		return pack{}, fmt.Errorf("%w: %d bytes", ErrPack, len(b))
	}
	if b[0] != packVersion || b[1]&^packLead != 0 {
		return pack{}, fmt.Errorf("%w: version %d, flags %#x", ErrPack, b[0], b[1])
	}
	p := pack{
		lead:  b[1]&packLead != 0,
		nonce: binary.BigEndian.Uint64(b[2:]),
		seq:   binary.BigEndian.Uint64(b[10:]),
		stamp: int64(binary.BigEndian.Uint64(b[18:])),
		count: int(binary.BigEndian.Uint16(b[26:])),
		body:  b[packHeader:],
	}
	if p.count > maxDecodeCommands || p.stamp < 0 || (p.lead && p.count != 0) {
		return pack{}, fmt.Errorf("%w: %d commands, stamp %d", ErrPack, p.count, p.stamp)
	}
	rest := p.body
	for i := range p.count {
		var ok bool
		if _, rest, ok = nextCommand(rest); !ok {
			return pack{}, fmt.Errorf("%w: command %d of %d", ErrPack, i, p.count)
		}
	}
	if len(rest) != 0 {
		return pack{}, fmt.Errorf("%w: %d bytes after the last command", ErrPack, len(rest))
	}
	return p, nil
}

// nextCommand splits the first command off body.
func nextCommand(body []byte) (cmd, rest []byte, ok bool) {
	n, k := binary.Uvarint(body)
	if k <= 0 || n > MaxCommand || n > uint64(len(body)-k) || (k > 1 && body[k-1] == 0) {
		return nil, nil, false
	}
	end := k + int(n)
	return body[k:end:end], body[end:], true
}
