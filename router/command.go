package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"linecard.example/internal/roster"
	"linecard.example/internal/stanza"
)

// A command is one entry of a dir/N log: version byte, operation byte, then the operation's fields in a fixed order. Numbers are
// minimal uvarints, keys and digests have their fixed length, strings a one-byte length. Nothing follows the last field: every
// command has exactly one encoding.
const commandVersion = 1

type operation uint8

const (
	opFacts        operation = 1  // shards, cluster, region unless it is 0: written once, the first entry of a group
	opRegister     operation = 2  // handle, key, create, id
	opLink         operation = 3  // account, by, key
	opUnlink       operation = 4  // account, by, device
	opDropDone     operation = 5  // account, device
	opNote         operation = 6  // account, device, id
	opInviteCreate operation = 7  // digest, until
	opInviteRedeem operation = 8  // digest, key, handle
	opInviteExpire operation = 9  // until: forget invites that ended before
	opTicketKey    operation = 10 // id, key
	opRoster       operation = 11 // roster.Roster
	opAnnounce     operation = 12 // roster.Member
	opLeave        operation = 13 // name of a member
)

const (
	maxHandle  = 32
	maxCluster = 64
	keySize    = 32
	digestSize = 16
	maxCommand = 2 + roster.MaxSize // no command is longer
)

// command is a decoded entry. text borrows the entry.
type command struct {
	op      operation
	create  bool // register: may make a new account (open mode, or a redeemed invite)
	device  stanza.Device
	by      stanza.Device // link, unlink: the asking device, which must still be the account's; 0 = none asked
	account stanza.Account
	id      uint64 // register, note: the highest id that the device has used; ticket key: the key's
	until   int64  // ms since 1970
	shards  int
	region  stanza.Region
	text    []byte // handle, name, or an encoding of package roster
	key     [keySize]byte
	digest  [digestSize]byte
}

var errCommand = errors.New("router: malformed command")

// append appends c's encoding to dst.
func (c *command) append(dst []byte) []byte {
	dst = append(dst, commandVersion, byte(c.op))
	switch c.op {
	case opFacts:
		dst = binary.AppendUvarint(dst, uint64(c.shards))
		dst = appendRegion(appendText(dst, c.text), c.region)
	case opRegister:
		dst = appendText(dst, c.text)
		dst = append(dst, c.key[:]...)
		dst = append(dst, flag(c.create))
		dst = binary.AppendUvarint(dst, c.id)
	case opLink:
		dst = binary.AppendUvarint(dst, uint64(c.account))
		dst = binary.AppendUvarint(dst, uint64(c.by))
		dst = append(dst, c.key[:]...)
	case opUnlink:
		dst = binary.AppendUvarint(dst, uint64(c.account))
		dst = binary.AppendUvarint(dst, uint64(c.by))
		dst = binary.AppendUvarint(dst, uint64(c.device))
	case opDropDone:
		dst = binary.AppendUvarint(dst, uint64(c.account))
		dst = binary.AppendUvarint(dst, uint64(c.device))
	case opNote:
		dst = binary.AppendUvarint(dst, uint64(c.account))
		dst = binary.AppendUvarint(dst, uint64(c.device))
		dst = binary.AppendUvarint(dst, c.id)
	case opInviteCreate:
		dst = append(dst, c.digest[:]...)
		dst = binary.AppendUvarint(dst, uint64(c.until))
	case opInviteRedeem:
		dst = append(dst, c.digest[:]...)
		dst = append(dst, c.key[:]...)
		dst = appendText(dst, c.text)
	case opInviteExpire:
		dst = binary.AppendUvarint(dst, uint64(c.until))
	case opTicketKey:
		dst = binary.AppendUvarint(dst, c.id)
		dst = append(dst, c.key[:]...)
	case opRoster, opAnnounce:
		dst = append(dst, c.text...)
	case opLeave:
		dst = appendText(dst, c.text)
	}
	return dst
}

// decodeCommand reads one whole command; c borrows b. It checks every bound before it uses a length.
func decodeCommand(b []byte) (c command, err error) {
	if len(b) < 2 || len(b) > maxCommand {
		return c, fmt.Errorf("%w: %d bytes", errCommand, len(b))
	}
	if b[0] != commandVersion {
		return c, fmt.Errorf("%w: version %d", errCommand, b[0])
	}
	c.op = operation(b[1])
	r := reader{b: b[2:]}
	switch c.op {
	case opFacts:
		c.shards = int(r.uint(1 << 14))
		c.text = r.text(maxCluster)
		c.region = r.region()
	case opRegister:
		c.text = r.text(maxHandle)
		r.fixed(c.key[:])
		c.create = r.uint(1) == 1
		c.id = r.uint(maxUint)
	case opLink:
		c.account, c.by = r.account(), r.device()
		r.fixed(c.key[:])
	case opUnlink:
		c.account, c.by, c.device = r.account(), r.device(), r.device()
	case opDropDone:
		c.account, c.device = r.account(), r.device()
	case opNote:
		c.account, c.device = r.account(), r.device()
		c.id = r.uint(maxUint)
	case opInviteCreate:
		r.fixed(c.digest[:])
		c.until = int64(r.uint(maxStamp))
	case opInviteRedeem:
		r.fixed(c.digest[:])
		r.fixed(c.key[:])
		c.text = r.text(maxHandle)
	case opInviteExpire:
		c.until = int64(r.uint(maxStamp))
	case opTicketKey:
		c.id = r.uint(math.MaxUint32)
		r.fixed(c.key[:])
	case opRoster:
		c.text = r.rest(func(b []byte) error { _, err := roster.Parse(b); return err })
	case opAnnounce:
		c.text = r.rest(func(b []byte) error { _, err := roster.ParseMember(b); return err })
	case opLeave:
		c.text = r.text(roster.MaxName)
	default:
		return c, fmt.Errorf("%w: operation %d", errCommand, b[1])
	}
	if r.bad || len(r.b) != 0 {
		return c, fmt.Errorf("%w: operation %d", errCommand, b[1])
	}
	return c, nil
}

const (
	maxUint    = 1<<64 - 1
	maxStamp   = 1<<56 - 1
	maxAccount = 1<<34 - 1
	maxDevice  = 1<<16 - 1
)

// reader takes fields off a command or a record. After the first fault everything it returns is zero and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > most || (n > 1 && r.b[n-1] == 0) {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// region returns what appendRegion appended: nothing is region 0.
func (r *reader) region() stanza.Region {
	if r.bad || len(r.b) == 0 {
		return 0
	}
	v := r.uint(uint64(stanza.MaxRegion))
	if v == 0 {
		r.fail()
	}
	return stanza.Region(v)
}

func appendRegion(dst []byte, r stanza.Region) []byte {
	if r == 0 {
		return dst
	}
	return append(dst, byte(r))
}

func (r *reader) account() stanza.Account { return stanza.Account(r.uint(maxAccount)) }
func (r *reader) device() stanza.Device   { return stanza.Device(r.uint(maxDevice)) }

func (r *reader) fixed(dst []byte) {
	if len(r.b) < len(dst) {
		r.fail()
		return
	}
	copy(dst, r.b)
	r.b = r.b[len(dst):]
}

// text returns a view of a string with a one-byte length, 1 to most bytes.
func (r *reader) text(most int) []byte {
	if len(r.b) == 0 || r.b[0] == 0 || int(r.b[0]) > most || len(r.b) < 1+int(r.b[0]) {
		r.fail()
		return nil
	}
	s := r.b[1 : 1+int(r.b[0])]
	r.b = r.b[1+len(s):]
	return s
}

// rest returns a view of all that is left, which check must take.
func (r *reader) rest(check func([]byte) error) []byte {
	s := r.b
	if r.b = nil; check(s) != nil {
		r.fail()
		return nil
	}
	return s
}

func appendText(dst, s []byte) []byte { return append(append(dst, byte(len(s))), s...) }

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}
