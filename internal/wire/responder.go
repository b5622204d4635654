package wire

import (
	"crypto/rand"
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
	at     step
	s      symmetric
	e, re  [KeySize]byte // own ephemeral private key, the client's ephemeral public key
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
	if len(r.static.Private) != KeySize || len(r.static.Public) != KeySize {
		return fmt.Errorf("%w: the server's static key: %w", ErrHandshake, ErrKeyShare)
	}
	head := [LenSize + 1]byte{byte(len(frame) >> 8), byte(len(frame)), byte(KindXX)}
	r.s.start(protocolXX, transcript, head[:])
	r.re = [KeySize]byte(msg)
	r.s.mixHash(r.re[:])
	r.s.mixHash(nil) // the empty payload
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
	public, err := newEphemeral(&r.e, r.rng)
	if err != nil {
		return dst, err
	}
	w := borrow()
	defer giveBack(w)
	out, start := beginFrame(dst)
	out = append(append(out, byte(KindXX)), public[:]...)
	r.s.mixHash(public[:])
	if err := r.s.mixDH(&r.e, &r.re); err != nil { // ee
		return dst, err
	}
	out = r.s.seal(w, out, r.static.Public)
	if err := r.s.mixDH((*[KeySize]byte)(r.static.Private), &r.re); err != nil { // es
		return dst, err
	}
	out = r.s.seal(w, out, r.cert)
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
	w := borrow()
	defer giveBack(w)
	defer r.wipe()
	var f Finish
	if _, err := r.s.open(w, f.Static[:0], msg[:KeySize+TagSize]); err != nil {
		return Finish{}, fmt.Errorf("%w: message 3: the static key: %w", ErrHandshake, err)
	}
	if err := r.s.mixDH(&r.e, &f.Static); err != nil { // se
		return Finish{}, err
	}
	if f.Payload, err = r.s.open(w, nil, msg[KeySize+TagSize:]); err != nil {
		return Finish{}, fmt.Errorf("%w: message 3: %w", ErrHandshake, err)
	}
	f.RX, f.TX = r.s.split()
	r.at.done(3)
	return f, nil
}

// wipe forgets the secrets.
func (r *Responder) wipe() { r.s, r.e = symmetric{}, [KeySize]byte{} }

// newEphemeral makes a key pair of the next 32 bytes of rng; nil means crypto/rand.
func newEphemeral(private *[KeySize]byte, rng io.Reader) (public [KeySize]byte, err error) {
	if rng == nil {
		_, _ = rand.Read(private[:]) // never fails: it ends the process rather
	} else if _, err := io.ReadFull(rng, private[:]); err != nil {
		return public, fmt.Errorf("%w: an ephemeral key: %w", ErrHandshake, err)
	}
	basePoint(&public, private)
	return public, nil
}
