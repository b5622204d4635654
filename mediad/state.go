package mediad

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"linecard.example/internal/stanza"
)

// The state file of an upload, ID.state: a head, written once, then two slots, written in turn, so that a write that is torn leaves
// the other one. All numbers are big-endian. Each part ends with the CRC-32C of all before it in the part; unused bytes are zero.
//
//	head, 2048 bytes  magic "linecard upload 1\n" | account u64 | length u64 | created i64, unix s | length of the metadata u16 | metadata
//	slot, 512 bytes   sequence u64 | phase u8 | offset u64 | expires i64, unix s | hash 32 | length of the sum u16 | sum
//
// The slot with the higher sequence counts. offset bytes of ID.data are durable, and sum is SHA-256 over them as the standard library
// marshals it. hash is the blob's name from phaseComplete on.
const (
	stateMagic = "linecard upload 1\n"
	headSize   = 2048
	slotSize   = 512
	stateSize  = headSize + 2*slotSize
	crcSize    = 4

	headFixed = len(stateMagic) + 8 + 8 + 8 + 2
	slotFixed = 8 + 1 + 8 + 8 + 32 + 2

	maxMeta = headSize - headFixed - crcSize
	maxSum  = slotSize - slotFixed - crcSize
)

// phase is how far an upload is.
type phase uint8

const (
	phaseOpen     phase = 1 // waits for bytes
	phaseComplete phase = 2 // has all bytes, and may be a blob already: the commit is made again after a crash
	phaseFinished phase = 3 // is a blob; the record only tells the client so
)

// record is what the state file says.
type record struct {
	account stanza.Account // head
	length  int64
	created int64
	meta    []byte

	seq     uint64 // slot
	phase   phase
	offset  int64
	expires int64
	hash    blobHash
	sum     []byte
}

// halfMade says that the upload was cut off before its client was told of it: the name of its data did not reach the disk.
func (r *record) halfMade(hasData bool) bool {
	return r.phase == phaseOpen && r.offset == 0 && !hasData
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errRecord  = errors.New("mediad: damaged upload record")
)

// appendHead appends the head to dst.
func (r *record) appendHead(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, stateMagic...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.account))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.length))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.created))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.meta)))
	dst = append(dst, r.meta...)
	return sealPart(dst, start, headSize)
}

// appendSlot appends the slot to dst.
func (r *record) appendSlot(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint64(dst, r.seq)
	dst = append(dst, byte(r.phase))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.offset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.expires))
	dst = append(dst, r.hash[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.sum)))
	dst = append(dst, r.sum...)
	return sealPart(dst, start, slotSize)
}

// slotAt is where the record's slot goes.
func (r *record) slotAt() int64 { return headSize + int64(r.seq%2)*slotSize }

// sealPart fills the part that began at start with zeroes up to size, its checksum included.
func sealPart(dst []byte, start, size int) []byte {
	dst = append(dst, make([]byte, start+size-crcSize-len(dst))...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// openPart checks a part's checksum and returns the rest.
func openPart(b []byte) ([]byte, bool) {
	body, sum := b[:len(b)-crcSize], b[len(b)-crcSize:]
	return body, crc32.Checksum(body, castagnoli) == binary.BigEndian.Uint32(sum)
}

// parseRecord reads a state file. The record is a copy. errRecord: it cannot be trusted.
func parseRecord(b []byte) (record, error) {
	var r record
	if len(b) != stateSize || !r.parseHead(b[:headSize]) {
		return record{}, errRecord
	}
	found := false
	for at := headSize; at < stateSize; at += slotSize {
		s := r
		if s.parseSlot(b[at:at+slotSize]) && (!found || s.seq > r.seq) {
			r, found = s, true
		}
	}
	if !found {
		return record{}, errRecord
	}
	return r, nil
}

func (r *record) parseHead(b []byte) bool {
	body, ok := openPart(b)
	if !ok || !bytes.HasPrefix(body, []byte(stateMagic)) {
		return false
	}
	body = body[len(stateMagic):]
	r.account = stanza.Account(binary.BigEndian.Uint64(body))
	r.length = int64(binary.BigEndian.Uint64(body[8:]))
	r.created = int64(binary.BigEndian.Uint64(body[16:]))
	n := int(binary.BigEndian.Uint16(body[24:]))
	if n > maxMeta || r.length < 0 {
		return false
	}
	r.meta = bytes.Clone(body[26 : 26+n])
	return true
}

func (r *record) parseSlot(b []byte) bool {
	body, ok := openPart(b)
	if !ok {
		return false
	}
	r.seq = binary.BigEndian.Uint64(body)
	r.phase = phase(body[8])
	r.offset = int64(binary.BigEndian.Uint64(body[9:]))
	r.expires = int64(binary.BigEndian.Uint64(body[17:]))
	copy(r.hash[:], body[25:])
	n := int(binary.BigEndian.Uint16(body[57:]))
	if n > maxSum || r.phase < phaseOpen || r.phase > phaseFinished || r.offset < 0 || r.offset > r.length {
		return false
	}
	if r.phase != phaseOpen && r.offset != r.length {
		return false
	}
	r.sum = bytes.Clone(body[59 : 59+n])
	return true
}
