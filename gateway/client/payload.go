package client

import (
	"encoding/binary"
	"errors"
	"time"
	"unicode/utf8"
)

// What stands in the ciphertext slot of a message today, in clear: THIS IS NOT END-TO-END ENCRYPTION; servers can read it. An encrypted
// payload will have another version byte, so that old clients say "unreadable" instead of showing noise.
//
//	version   1 byte, 1
//	kind      1 byte, 1: text
//	sent      uvarint, milliseconds since 1970 by the sender's clock
//	from      1 byte length, the sender's handle: a claim until a look-up confirms it
//	to        1 byte length, the recipient's handle: tells the sender's other devices whom a copy was for
//	text      the rest, UTF-8
const (
	payloadVersion = 1
	payloadText    = 1
	maxHandle      = 32
	maxPayloadTime = 1 << 47 // milliseconds: beyond the year 6000, and time.Time stays exact
)

var errPayload = errors.New("client: payload of an unknown version or malformed")

type payload struct {
	from, to string
	written  time.Time
	text     string
}

// appendPayload appends the encoding of p to dst. Handles are folded ones, at most 32 bytes.
func appendPayload(dst []byte, p *payload) []byte {
	dst = append(dst, payloadVersion, payloadText)
	dst = binary.AppendUvarint(dst, uint64(max(p.written.UnixMilli(), 0)))
	dst = append(dst, byte(len(p.from)))
	dst = append(dst, p.from...)
	dst = append(dst, byte(len(p.to)))
	dst = append(dst, p.to...)
	return append(dst, p.text...)
}

// parsePayload decodes b, which anybody may have written. It copies; error: errPayload.
func parsePayload(b []byte) (payload, error) {
	var p payload
	if len(b) < 2 || b[0] != payloadVersion || b[1] != payloadText {
		return p, errPayload
	}
	ms, n := binary.Uvarint(b[2:])
	if n <= 0 || ms > maxPayloadTime {
		return p, errPayload
	}
	b = b[2+n:]
	var ok bool
	if p.from, b, ok = cutHandle(b); !ok {
		return p, errPayload
	}
	if p.to, b, ok = cutHandle(b); !ok || !utf8.Valid(b) {
		return p, errPayload
	}
	p.written, p.text = time.UnixMilli(int64(ms)).UTC(), string(b)
	return p, nil
}

func cutHandle(b []byte) (handle string, rest []byte, ok bool) {
	if len(b) == 0 || int(b[0]) > maxHandle || len(b) < 1+int(b[0]) {
		return "", nil, false
	}
	n := int(b[0])
	raw := b[1 : 1+n]
	for _, c := range raw {
		if c <= ' ' || c > '~' {
			return "", nil, false
		}
	}
	return string(raw), b[1+n:], true
}
