package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"linecard.example/internal/stanza"
)

// Kind is the first byte of the body of every handshake frame.
type Kind byte

const (
	// KindXX carries a message of the XX handshake, in both directions.
	KindXX Kind = 1
	// KindResume carries a ticket and the first message of the resume handshake upwards, and its second message downwards.
	KindResume Kind = 2
	// KindUseXX answers a resume that the server does not take: the client goes on with XX on the same connection.
	KindUseXX Kind = 3
	// KindRefused ends the connection: reason and retry-after.
	KindRefused Kind = 4
)

const (
	// MaxTicket is the longest ticket, in bytes.
	MaxTicket = 512
	// MaxHintRetry is the longest retry-after that ParseRefused reports.
	MaxHintRetry = 10 * time.Minute

	resumeHead    = 1 + 2             // kind, ticket's length
	resumeMessage = KeySize + TagSize // a message of NNpsk0: an ephemeral key and the tag of an empty payload
	refusedBody   = 1 + 2 + 4
)

var (
	// ErrKind: a handshake frame of a kind that may not stand here.
	ErrKind = errors.New("wire: unexpected kind of handshake frame")
	// ErrHandshakeFrame: a handshake frame that does not have the form of its kind.
	ErrHandshakeFrame = errors.New("wire: malformed handshake frame")
)

// FrameKind returns the kind of a handshake frame; ErrKind when body is empty or the kind unknown.
func FrameKind(body []byte) (Kind, error) {
	if len(body) == 0 {
		return 0, fmt.Errorf("%w: empty body", ErrKind)
	}
	k := Kind(body[0])
	if k < KindXX || k > KindRefused {
		return 0, fmt.Errorf("%w: %d", ErrKind, k)
	}
	return k, nil
}

// AppendRefused appends a whole refused frame to dst. retryAfter counts in milliseconds, from 0 to 2^32-1, and is clamped.
func AppendRefused(dst []byte, reason stanza.Reason, retryAfter time.Duration) []byte {
	dst, start := beginFrame(dst)
	dst = append(dst, byte(KindRefused))
	dst = binary.BigEndian.AppendUint16(dst, uint16(reason))
	ms := min(max(retryAfter.Milliseconds(), 0), math.MaxUint32)
	return endFrame(binary.BigEndian.AppendUint32(dst, uint32(ms)), start)
}

// ParseRefused reads the body of a refused frame. Anybody on the path can have written it: retryAfter is clamped to MaxHintRetry, and
// a client may neither give up nor forget keys because of it. The reason may be one that this version does not know.
func ParseRefused(body []byte) (reason stanza.Reason, retryAfter time.Duration, err error) {
	if len(body) != refusedBody || Kind(body[0]) != KindRefused {
		return 0, 0, fmt.Errorf("%w: refused", ErrHandshakeFrame)
	}
	ms := binary.BigEndian.Uint32(body[3:])
	return stanza.Reason(binary.BigEndian.Uint16(body[1:])), min(time.Duration(ms)*time.Millisecond, MaxHintRetry), nil
}

// AppendUseXX appends a whole use-XX frame to dst.
func AppendUseXX(dst []byte) []byte {
	return AppendFrame(dst, []byte{byte(KindUseXX)})
}

// ParseUseXX reports whether body is a use-XX frame: its kind and nothing else.
func ParseUseXX(body []byte) error {
	if len(body) != 1 || Kind(body[0]) != KindUseXX {
		return fmt.Errorf("%w: use-XX", ErrHandshakeFrame)
	}
	return nil
}

// AppendResume appends a whole resume frame to dst: kind, ticket length (2 bytes, big-endian), ticket, Noise message. It panics on a
// ticket or a message that ParseResume would not take.
func AppendResume(dst, ticket, message []byte) []byte {
	if len(ticket) == 0 || len(ticket) > MaxTicket || len(message) != resumeMessage {
		panic("wire: resume frame out of bounds")
	}
	dst, start := beginFrame(dst)
	dst = append(dst, byte(KindResume))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(ticket)))
	dst = append(dst, ticket...)
	return endFrame(append(dst, message...), start)
}

// ParseResume splits the body of a resume frame. The results are views into body.
func ParseResume(body []byte) (ticket, message []byte, err error) {
	if len(body) < resumeHead || Kind(body[0]) != KindResume {
		return nil, nil, fmt.Errorf("%w: resume", ErrHandshakeFrame)
	}
	n, rest := int(binary.BigEndian.Uint16(body[1:])), body[resumeHead:]
	if n == 0 || n > MaxTicket || len(rest) != n+resumeMessage {
		return nil, nil, fmt.Errorf("%w: resume with a ticket of %d in %d bytes", ErrHandshakeFrame, n, len(body))
	}
	return rest[:n], rest[n:], nil
}
