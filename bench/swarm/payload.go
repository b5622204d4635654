package swarm

import "encoding/binary"

// What stands in a message's ciphertext. It is none, and no text either: gateway/client shows it as unreadable, by its first byte. A swarm
// session that gets a text of gateway/client acks it and counts it as arrived.
//
//	version  1 byte, fe
//	kind     1 byte: 1 of Pairs, 2 of Letters
//	zero     2 bytes
//	run      8 bytes, big-endian: which order it belongs to
//	number   8 bytes: of Pairs the pair and then its message, 4 bytes each; of Letters the letter's number
//	time     8 bytes: when it was meant to be sent, nanoseconds of CLOCK_MONOTONIC, which the processes of one machine share
//	filling  the low byte of the number, to the end
const (
	payloadVersion = 0xfe
	kindPairs      = 1
	kindLetters    = 2
)

type payload struct {
	kind   byte
	run    uint64
	number uint64
	time   int64
}

// appendPayload appends size bytes, at least MinSize.
func appendPayload(dst []byte, p *payload, size int) []byte {
	dst = append(dst, payloadVersion, p.kind, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, p.run)
	dst = binary.BigEndian.AppendUint64(dst, p.number)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.time))
	for range size - MinSize {
		dst = append(dst, byte(p.number))
	}
	return dst
}

// parsePayload reads what appendPayload wrote. ours is false for what others sent; whole is false when the filling is another one.
func parsePayload(b []byte) (p payload, ours, whole bool) {
	if len(b) < MinSize || b[0] != payloadVersion || b[1] != kindPairs && b[1] != kindLetters {
		return p, false, false
	}
	p = payload{
		kind: b[1], run: binary.BigEndian.Uint64(b[4:]), number: binary.BigEndian.Uint64(b[12:]),
		time: int64(binary.BigEndian.Uint64(b[20:])),
	}
	for _, c := range b[MinSize:] {
		if c != byte(p.number) {
			return p, true, false
		}
	}
	return p, true, true
}
