package offline

import (
	"encoding/binary"

	"linecard.example/internal/stanza"
)

// queueKey names a queue: account<<16 | device. Device 0 is no device: the queue of what is on its way to an account of another region.
type queueKey uint64

func keyOf(a stanza.Account, d stanza.Device) queueKey { return queueKey(uint64(a)<<16 | uint64(d)) }

// maxQueueKey is the end of all queues' keys.
const maxQueueKey = uint64(stanza.MaxAccount+1) << 16

func (k queueKey) account() stanza.Account { return stanza.Account(k >> 16) }
func (k queueKey) device() stanza.Device   { return stanza.Device(k & 0xffff) }

// streamKey names a stream: who writes to whom.
type streamKey struct {
	to   stanza.Account
	from queueKey
}

// receiptKey names what receipts are coalesced by: the device that they are for, the account that they come from, and why they say that
// messages were not delivered, 0 when they were.
type receiptKey struct {
	to   queueKey
	from stanza.Account
	why  stanza.Reason
}

const whyShift = 40

// source is from and why in one number of a table key.
func (k receiptKey) source() uint64 { return uint64(k.why)<<whyShift | uint64(k.from) }

func receiptKeyOf(key []byte) receiptKey {
	source := keyPart(key, 1)
	return receiptKey{to: queueKey(keyPart(key, 0)), from: stanza.Account(source & (1<<whyShift - 1)), why: stanza.Reason(source >> whyShift)}
}

// Prefixes of table keys. Numbers in keys are 8 bytes, big-endian.
const (
	tableMessage = 'm' // queue, sequence -> record
	tableQueue   = 'q' // queue -> heads, counters, raised marks, tombstone; written with F
	tableStream  = 's' // recipient account, sender -> last id; written with F
	tableReceipt = 'r' // receiptKey -> pending receipts; written with F
	tableAhead   = 'a' // queue, first sequence -> end of a run of records written ahead since the last flush
	tableTotals  = 'x' // entries, bytes; written with F
)

func appendKey(dst []byte, table byte, parts ...uint64) []byte {
	dst = append(dst, table)
	for _, p := range parts {
		dst = binary.BigEndian.AppendUint64(dst, p)
	}
	return dst
}

func keyPart(key []byte, n int) uint64 { return binary.BigEndian.Uint64(key[1+8*n:]) }

// recordKind is the kind of a queue's entry. The numbers are on disk.
type recordKind uint8

const (
	recordMessage   recordKind = 1
	recordRead      recordKind = 2
	recordDelivered recordKind = 3
	// recordUndelivered is a receipt that says that messages were not, or not whole.
	recordUndelivered recordKind = 4
	// recordOut is a message or read receipt for an account of another region.
	recordOut recordKind = 5

	siblingBit = 0x80 // of the kind byte: a list of siblings follows
)

// record is an entry of a queue, decoded; siblings and body borrow. Encoded, in memory as in tables: kind byte, log index (8 bytes,
// big-endian), from, then for messages and what is on its way out fromDevice and id, for undelivered the reason, then stamp, then siblings (count, and device and sequence of each),
// all uvarints; the body is the rest. A record never changes: what happens to an entry later is kept beside it.
type record struct {
	kind       recordKind
	index      uint64 // of the log entry
	from       stanza.Account
	fromDevice stanza.Device
	id         uint64
	stamp      int64
	why        stanza.Reason // undelivered
	siblings   siblings      // the message's copies in other queues of the account
	body       []byte        // ciphertext, packed ids, or the stanza for the other region
}

// siblings is an encoded list of (device, sequence).
type siblings struct {
	n int
	b []byte
}

func (l *siblings) next() (d stanza.Device, seq uint64, ok bool) {
	if l.n == 0 {
		return 0, 0, false
	}
	dev, a := binary.Uvarint(l.b)
	seq, b := binary.Uvarint(l.b[max(a, 0):])
	if a <= 0 || b <= 0 {
		return 0, 0, false
	}
	l.n--
	l.b = l.b[a+b:]
	return stanza.Device(dev), seq, true
}

func (l *siblings) add(d stanza.Device, seq uint64) {
	l.n++
	l.b = binary.AppendUvarint(binary.AppendUvarint(l.b, uint64(d)), seq)
}

func appendRecord(dst []byte, r *record) []byte {
	kind := byte(r.kind)
	if r.siblings.n > 0 {
		kind |= siblingBit
	}
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint64(dst, r.index)
	dst = binary.AppendUvarint(dst, uint64(r.from))
	switch r.kind {
	case recordMessage, recordOut:
		dst = binary.AppendUvarint(dst, uint64(r.fromDevice))
		dst = binary.AppendUvarint(dst, r.id)
	case recordUndelivered:
		dst = binary.AppendUvarint(dst, uint64(r.why))
	}
	dst = binary.AppendUvarint(dst, uint64(r.stamp))
	if r.siblings.n > 0 {
		dst = append(dst, byte(r.siblings.n))
		dst = append(dst, r.siblings.b...)
	}
	return append(dst, r.body...)
}

// decodeRecord reads an encoded record; false when it is damaged.
func decodeRecord(b []byte, r *record) bool {
	if len(b) < 9 {
		return false
	}
	kind := b[0]
	*r = record{kind: recordKind(kind &^ siblingBit), index: binary.BigEndian.Uint64(b[1:])}
	if r.kind < recordMessage || r.kind > recordOut {
		return false
	}
	f := codec{b: b[9:]}
	f.account(&r.from)
	switch r.kind {
	case recordMessage, recordOut:
		f.device(&r.fromDevice)
		f.uint(&r.id, stanza.MaxID)
	case recordUndelivered:
		f.reason(&r.why)
	}
	f.stamp(&r.stamp)
	if kind&siblingBit != 0 && !f.bad {
		if len(f.b) == 0 {
			return false
		}
		r.siblings = siblings{n: int(f.b[0]), b: f.b[1:]}
		if f.b = r.siblings.skip(); f.b == nil {
			return false
		}
	}
	r.body = f.b
	return !f.bad
}

// skip returns what follows the list, nil when it is damaged.
func (l siblings) skip() []byte {
	for l.n > 0 {
		if _, _, ok := l.next(); !ok {
			return nil
		}
	}
	return l.b
}

// entryCharge is what an entry counts against a queue's byte limit besides its body.
const entryCharge = 64

func (r *record) charge() int64 { return int64(len(r.body)) + entryCharge }

// stampOf returns the stamp of an encoded record, 0 when it is damaged.
func stampOf(b []byte) int64 {
	var r record
	if !decodeRecord(b, &r) {
		return 0
	}
	return r.stamp
}
