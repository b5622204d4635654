package wire

import (
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// Finish is what a responder has at the end of the handshake. RX and TX are secret: clear them after copying.
type Finish struct {
	Static  [KeySize]byte // the client's static public key, proved
	Payload []byte        // of message 3: one stanza, not looked at yet; the caller's
	RX, TX  [KeySize]byte // client to server, server to client
}

// Responder is the server's side of one XX handshake: ReadHello, AppendReply, ReadFinish, each once. After any error the connection
// is unusable. Not safe for concurrent use; may move between goroutines. Source: Noise specification, revision 34, section 7.5.
type Responder struct {
	static noise.DHKey
	cert   []byte
	rng    io.Reader
	hs     *noise.HandshakeState
	at     step
}

// NewResponder returns a responder with the server's static key and the certificate of it (at most MaxCertificate bytes), both
// borrowed until the handshake ends. rng gives the ephemeral key; nil means crypto/rand.
func NewResponder(static noise.DHKey, cert []byte, rng io.Reader) *Responder {
	return &Responder{static: static, cert: cert, rng: rng}
}

// ReadHello reads the body of the frame with message 1. transcript is every byte of the connection before that frame, from the
// preamble on, both ways, length prefixes included. Borrows both. Errors: ErrOrder, ErrKind, ErrHandshakeFrame, ErrHandshake.
func (r *Responder) ReadHello(transcript, frame []byte) error {
	if !r.at.enter(0) {
		return ErrOrder
	}
	msg, err := message(frame, helloBody, true)
	if err != nil {
		return err
	}
	if err := checkTranscript(transcript); err != nil {
		return err
	}
	if r.hs, err = newState(false, r.static, r.rng, prologue(transcript, len(frame))); err != nil {
		return err
	}
	if _, _, _, err := r.hs.ReadMessage(nil, msg); err != nil {
		return fmt.Errorf("%w: message 1: %w", ErrHandshake, err)
	}
	r.at.done(1)
	return nil
}

// AppendReply appends the whole frame with message 2 to dst. A client that sent a low-order point gets ErrHandshake here.
// dst comes back unchanged with an error.
func (r *Responder) AppendReply(dst []byte) ([]byte, error) {
	if !r.at.enter(1) {
		return dst, ErrOrder
	}
	if len(r.cert) > MaxCertificate {
		return dst, fmt.Errorf("wire: a certificate of %d bytes, at most %d", len(r.cert), MaxCertificate)
	}
	out, start := beginFrame(dst)
	out, _, _, err := r.hs.WriteMessage(append(out, byte(KindXX)), r.cert)
	if err != nil {
		return dst, fmt.Errorf("%w: message 2: %w", ErrHandshake, err)
	}
	r.at.done(2)
	return endFrame(out, start), nil
}

// ReadFinish reads the body of the frame with message 3, borrowed. Errors: ErrOrder, ErrKind, ErrHandshakeFrame, ErrHandshake.
func (r *Responder) ReadFinish(frame []byte) (Finish, error) {
	if !r.at.enter(2) {
		return Finish{}, ErrOrder
	}
	msg, err := message(frame, finishFixed, false)
	if err != nil {
		return Finish{}, err
	}
	if len(frame) > MaxEarlyBody {
		return Finish{}, fmt.Errorf("%w: message 3 of %d bytes", ErrHandshakeFrame, len(frame))
	}
	payload, up, down, err := r.hs.ReadMessage(nil, msg)
	if err != nil {
		return Finish{}, fmt.Errorf("%w: message 3: %w", ErrHandshake, err)
	}
	f := Finish{Payload: payload, RX: up.UnsafeKey(), TX: down.UnsafeKey()}
	copy(f.Static[:], r.hs.PeerStatic())
	r.hs = nil
	r.at.done(3)
	return f, nil
}
