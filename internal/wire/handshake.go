package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

const (
	// MaxTranscript is the longest transcript before message 1, in bytes: a preamble, a resume frame of the greatest size before bound
	// and its answer.
	MaxTranscript = PreambleSize + LenSize + MaxEarlyBody + LenSize + MaxEarlyBody

	helloBody   = 1 + KeySize                               // kind, e
	replyFixed  = 1 + KeySize + KeySize + TagSize + TagSize // kind, e, s, payload's tag
	finishFixed = 1 + KeySize + TagSize + TagSize           // kind, s, payload's tag
	// MaxReply is the longest frame with message 2, in bytes.
	MaxReply = LenSize + replyFixed + MaxCertificate
	// MaxFinishPayload is the longest payload of message 3, in bytes.
	MaxFinishPayload = MaxEarlyBody - finishFixed
)

var (
	// ErrHandshake: a handshake message that was cut, changed or made with other keys or another prologue. The connection is unusable.
	ErrHandshake = errors.New("wire: handshake failed")
	// ErrOrder: a method called out of turn, or after an error.
	ErrOrder = errors.New("wire: handshake message out of order")
)

// Names of the handshakes, of which Noise's hash begins.
const (
	protocolXX     = "Noise_XX_25519_ChaChaPoly_SHA256"
	protocolResume = "Noise_NNpsk0_25519_ChaChaPoly_SHA256"
)

var suite = noise.NewCipherSuite(DH, noise.CipherChaChaPoly, noise.HashSHA256)

// Keys are the session keys of one side: RX opens what it receives, TX seals what it sends. Secret: clear them after use.
type Keys struct{ RX, TX [KeySize]byte }

// prologue is transcript, this frame's length prefix and its kind byte: everything before the first byte of the Noise message.
func prologue(transcript []byte, body int) []byte {
	p := make([]byte, 0, len(transcript)+LenSize+1)
	p = append(p, transcript...)
	p = binary.BigEndian.AppendUint16(p, uint16(body))
	return append(p, byte(KindXX))
}

// newState starts a client's handshake: of XX, or of NNpsk0 if there is a psk. nil rng means crypto/rand.
func newState(static noise.DHKey, psk []byte, rng io.Reader, prologue []byte) (*noise.HandshakeState, error) {
	pattern := noise.HandshakeXX
	if psk != nil {
		pattern = noise.HandshakeNN
	}
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   suite,
		Random:        rng,
		Pattern:       pattern,
		Initiator:     true,
		Prologue:      prologue,
		PresharedKey:  psk,
		StaticKeypair: static,
	})
	if err != nil {
		return nil, fmt.Errorf("wire: start a handshake: %w", err)
	}
	return hs, nil
}

// message returns the Noise message of an XX frame whose body has at least (exact: just) so many bytes. Errors: ErrKind,
// ErrHandshakeFrame.
func message(body []byte, size int, exact bool) ([]byte, error) {
	if len(body) == 0 || Kind(body[0]) != KindXX {
		return nil, ErrKind
	}
	if len(body) < size || exact && len(body) != size {
		return nil, fmt.Errorf("%w: a message of %d bytes", ErrHandshakeFrame, len(body))
	}
	return body[1:], nil
}

func checkTranscript(transcript []byte) error {
	if len(transcript) < PreambleSize || len(transcript) > MaxTranscript {
		return fmt.Errorf("%w: a transcript of %d bytes", ErrHandshake, len(transcript))
	}
	return nil
}

// step guards the order of the three messages: it hands out each number once, and none after a failure.
type step uint8

const failed step = 255

// enter reports whether the handshake is at want, and leaves it failed until done is called.
func (s *step) enter(want step) bool {
	ok := *s == want
	*s = failed
	return ok
}

func (s *step) done(next step) { *s = next }
