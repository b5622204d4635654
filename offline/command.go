package offline

import (
	"encoding/binary"
	"errors"

	"linecard.example/internal/stanza"
)

// operation says what a log entry does. The numbers are on disk: they only grow.
type operation uint8

const (
	opMessage        operation = 1  // a message for devices of one account
	opRead           operation = 2  // a read receipt, numbered like a message
	opAck            operation = 3  // a device has everything up to a sequence
	opReceipt        operation = 4  // delivered receipts for a device of ours
	opConfirm        operation = 5  // the sender's shard has stored receipts of ours
	opExpireQueues   operation = 6  // messages and tombstones of a range of queues
	opDrop           operation = 7  // a device was unlinked
	opExpireStreams  operation = 8  // last ids of a range of streams
	opExpireReceipts operation = 9  // pending receipts
	opForward        operation = 10 // a message from another region
	opForwardRead    operation = 11 // a read receipt from there
	opOut            operation = 12 // a message or read receipt for another region
	opSent           operation = 13 // the other region has what it was sent up to a sequence, or will never take it
)

const (
	commandVersion = 1
	maxCommand     = stanza.MaxFrame + 128
	// perQueue bounds how many entries one expiry command takes from one queue, so that one log entry stays short.
	perQueue = 256
)

// command is a decoded log entry: version byte, operation byte, fields in the order below (uvarints), then the body. Which fields an
// operation has stands at codec.fields. Account and device name the queue; from and fromDevice who sent it.
type command struct {
	op         operation
	from       stanza.Account
	fromDevice stanza.Device
	id         uint64
	after      uint64 // 0: absent
	account    stanza.Account
	device     stanza.Device
	maxEntries uint64 // limits of a queue as the leader's configuration had them
	maxBytes   uint64
	upTo       uint64 // last sequence acked
	tag        stanza.Tag
	reason     stanza.Reason // with TagUndelivered
	again      bool          // a receipt that may have been sent before
	cut        int64
	cutTombs   int64
	lo, hi     [2]uint64 // range of keys; hi zero: no end
	body       []byte    // ciphertexts, packed ids, a stanza, or what was refused: appendFailure; borrows the entry
}

var errCommand = errors.New("offline: bad command")

// appendCommand appends c to dst. The caller has checked the fields; decodeCommand checks them again.
func appendCommand(dst []byte, c *command) []byte {
	w := codec{b: append(dst, commandVersion, byte(c.op)), writes: true}
	w.fields(c)
	return append(w.b, c.body...)
}

// decodeCommand reads a log entry into c, whose body borrows b. It bounds and checks everything, and leaves c half-filled on error.
func decodeCommand(b []byte, c *command) error {
	if len(b) < 2 || len(b) > maxCommand || b[0] != commandVersion {
		return errCommand
	}
	*c = command{op: operation(b[1])}
	if c.op < opMessage || c.op > opSent {
		return errCommand
	}
	r := codec{b: b[2:]}
	r.fields(c)
	if r.bad {
		return errCommand
	}
	c.body = r.b
	return c.checkBody()
}

func (c *command) checkBody() error {
	switch c.op {
	case opMessage, opForward:
		if _, err := stanza.ValidCiphers(c.body); err != nil {
			return errCommand
		}
	case opRead, opForwardRead, opReceipt, opConfirm:
		if stanza.ValidPacked(c.body, stanza.MaxPacked) != nil {
			return errCommand
		}
	case opOut:
		if to, id := parseOut(c.body); to != c.account || id != c.id {
			return errCommand
		}
	case opSent:
		return c.checkFailures()
	default:
		if len(c.body) != 0 {
			return errCommand
		}
	}
	return nil
}

// codec walks fields in either direction, so that writing and reading cannot differ. Reading, it takes them off b; after the first
// fault bad is set and b is empty.
type codec struct {
	b      []byte
	writes bool
	bad    bool
}

// fields walks the fields of c's operation in their order.
func (w *codec) fields(c *command) {
	switch c.op {
	case opMessage, opRead, opForward, opForwardRead, opOut:
		w.account(&c.from)
		w.device(&c.fromDevice)
		w.uint(&c.id, stanza.MaxID)
		w.bad = w.bad || c.id == 0 // receipts are packed, and those begin at 1
		w.uint(&c.after, stanza.MaxID)
		w.account(&c.account)
		if c.op == opRead || c.op == opForwardRead {
			w.device(&c.device)
		}
		w.limits(c)
	case opAck:
		w.queue(c)
		w.uint(&c.upTo, stanza.MaxID)
	case opReceipt:
		w.queue(c)
		w.account(&c.from)
		w.source(c)
		w.flag(&c.again)
		w.limits(c)
	case opConfirm:
		w.queue(c)
		w.account(&c.from)
		w.source(c)
	case opSent:
		w.account(&c.account)
		w.uint(&c.upTo, stanza.MaxID)
	case opExpireQueues, opExpireStreams:
		w.stamp(&c.cut)
		w.stamp(&c.cutTombs)
		for i := range c.lo {
			w.uint(&c.lo[i], maxQueueKey)
			w.uint(&c.hi[i], maxQueueKey)
		}
	case opDrop:
		w.queue(c)
	case opExpireReceipts:
		w.stamp(&c.cut)
	}
}

func (w *codec) queue(c *command) {
	w.account(&c.account)
	w.device(&c.device)
}

func (w *codec) limits(c *command) {
	w.uint(&c.maxEntries, 1<<40)
	w.uint(&c.maxBytes, 1<<50)
}

func (w *codec) uint(v *uint64, limit uint64) {
	if w.writes {
		w.b = binary.AppendUvarint(w.b, *v)
		return
	}
	n, size := binary.Uvarint(w.b)
	if size <= 0 || n > limit || (size > 1 && w.b[size-1] == 0) {
		w.bad, w.b = true, nil
		return
	}
	*v, w.b = n, w.b[size:]
}

func (w *codec) account(a *stanza.Account) {
	v := uint64(*a)
	w.uint(&v, uint64(stanza.MaxAccount))
	w.bad = w.bad || v == 0
	*a = stanza.Account(v)
}

func (w *codec) device(d *stanza.Device) {
	v := uint64(*d)
	w.uint(&v, uint64(stanza.MaxDevice))
	w.bad = w.bad || v == 0
	*d = stanza.Device(v)
}

func (w *codec) stamp(s *int64) {
	v := uint64(*s)
	w.uint(&v, stanza.MaxID)
	*s = int64(v)
}

func (w *codec) tag(t *stanza.Tag) {
	v := uint64(*t)
	w.uint(&v, 127)
	*t = stanza.Tag(v)
}

// source is what a receipt says: its tag, and with undelivered the reason.
func (w *codec) source(c *command) {
	w.tag(&c.tag)
	if c.tag == stanza.TagUndelivered {
		w.reason(&c.reason)
	}
}

func (w *codec) reason(r *stanza.Reason) {
	v := uint64(*r)
	w.uint(&v, 1<<16-1)
	w.bad = w.bad || v == 0
	*r = stanza.Reason(v)
}

func (w *codec) flag(f *bool) {
	v := uint64(0)
	if *f {
		v = 1
	}
	w.uint(&v, 1)
	*f = v == 1
}
