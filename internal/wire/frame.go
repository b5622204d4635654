package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// MaxBody is the longest body of a frame, in bytes.
	MaxBody = 65535
	// TagSize is what sealing adds to a plaintext, in bytes.
	TagSize = 16
	// MaxPlain is the longest plaintext that fits into one sealed frame, in bytes.
	MaxPlain = MaxBody - TagSize
	// LenSize is the length prefix of a frame, in bytes.
	LenSize = 2
	// PreambleSize is the preamble, in bytes.
	PreambleSize = 4
	// MaxEarlyBody is the longest body that a server takes before the session is bound, in bytes.
	MaxEarlyBody = 1024
)

// Preamble is what a client sends first: a magic number, the major version and the minor version.
var Preamble = [PreambleSize]byte{'L', 'C', 1, 0}

var (
	// ErrPreamble: the other side speaks something else.
	ErrPreamble = errors.New("wire: not a linecard client")
	// ErrVersion: the other side speaks another major version.
	ErrVersion = errors.New("wire: unsupported protocol version")
)

// CheckPreamble judges the first PreambleSize bytes of a connection; fewer are ErrPreamble. Any minor version will do: what it adds
// is skipped by who does not know it. Borrows b.
func CheckPreamble(b []byte) error {
	if len(b) < PreambleSize || b[0] != Preamble[0] || b[1] != Preamble[1] {
		return ErrPreamble
	}
	if b[2] != Preamble[2] {
		return fmt.Errorf("%w: %d.%d, want %d", ErrVersion, b[2], b[3], Preamble[2])
	}
	return nil
}

// AppendFrame appends body as a frame to dst. It panics on a body above MaxBody: the caller has bounded it already.
func AppendFrame(dst, body []byte) []byte {
	dst, start := beginFrame(dst)
	return endFrame(append(dst, body...), start)
}

// FrameLen returns the length of the body that follows the length prefix b begins with; ok is false when b has not even the prefix.
// A body may be empty as far as framing goes; nothing in the protocol is.
func FrameLen(b []byte) (body int, ok bool) {
	if len(b) < LenSize {
		return 0, false
	}
	return int(binary.BigEndian.Uint16(b)), true
}

// beginFrame appends room for a length prefix; endFrame fills it in once the body stands behind it.
func beginFrame(dst []byte) (out []byte, start int) {
	return append(dst, 0, 0), len(dst)
}

func endFrame(dst []byte, start int) []byte {
	n := len(dst) - start - LenSize
	if n > MaxBody {
		panic("wire: frame body above MaxBody")
	}
	binary.BigEndian.PutUint16(dst[start:], uint16(n))
	return dst
}
