package client

import (
	"encoding/binary"
	"errors"
	"time"
	"unicode/utf8"

	"linecard.example/gateway/client/media"
)

// What stands in the ciphertext slot of a message today, in clear: THIS IS NOT END-TO-END ENCRYPTION; servers can read it. An encrypted
// payload will have another version byte, so that old clients say "unreadable" instead of showing noise.
//
//	version   1 byte, 1
//	kind      1 byte, 1: text, 2: a file
//	sent      uvarint, milliseconds since 1970 by the sender's clock
//	from      1 byte length, the sender's handle: a claim until a look-up confirms it
//	to        1 byte length, the recipient's handle: tells the sender's other devices whom a copy was for
//	text      the rest, UTF-8; of a file the pointer to it
const (
	payloadVersion = 1
	payloadText    = 1
	payloadFile    = 2
	maxHandle      = 32
	maxPayloadTime = 1 << 47 // milliseconds: beyond the year 6000, and time.Time stays exact
)

var errPayload = errors.New("client: payload of an unknown version or malformed")

type payload struct {
	from, to string
	written  time.Time
	text     string
	file     *media.Pointer // nil: the payload is a text
}

// appendPayload appends the encoding of p to dst. Handles are folded ones, at most 32 bytes; a file's pointer passes its Check.
func appendPayload(dst []byte, p *payload) []byte {
	kind := byte(payloadText)
	if p.file != nil {
		kind = payloadFile
	}
	dst = append(dst, payloadVersion, kind)
	dst = binary.AppendUvarint(dst, uint64(max(p.written.UnixMilli(), 0)))
	dst = append(dst, byte(len(p.from)))
	dst = append(dst, p.from...)
	dst = append(dst, byte(len(p.to)))
	dst = append(dst, p.to...)
	if p.file != nil {
		return p.file.Append(dst)
	}
	return append(dst, p.text...)
}

// parsePayload decodes b, which anybody may have written. It copies; error: errPayload.
func parsePayload(b []byte) (payload, error) {
	var p payload
	if len(b) < 2 || b[0] != payloadVersion || b[1] != payloadText && b[1] != payloadFile {
		return p, errPayload
	}
	kind := b[1]
	ms, n := binary.Uvarint(b[2:])
	if n <= 0 || ms > maxPayloadTime {
		return p, errPayload
	}
	b = b[2+n:]
	var ok bool
	if p.from, b, ok = cutHandle(b); !ok {
		return p, errPayload
	}
	if p.to, b, ok = cutHandle(b); !ok {
		return p, errPayload
	}
	p.written = time.UnixMilli(int64(ms)).UTC()
	if kind == payloadFile {
		var err error
		if p.file, err = media.ParsePointer(b); err != nil {
			return p, errPayload
		}
		p.text = p.file.Caption
		return p, nil
	}
	if !utf8.Valid(b) {
		return p, errPayload
	}
	p.text = string(b)
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
