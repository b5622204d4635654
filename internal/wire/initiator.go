package wire

import (
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// Initiator is the client's side of one XX handshake: AppendHello, ReadReply, AppendFinish, each once. After any error the connection
// is unusable. Not safe for concurrent use. Source: Noise specification, revision 34, section 7.5.
type Initiator struct {
	static noise.DHKey
	rng    io.Reader
	hs     *noise.HandshakeState
	at     step
}

// NewInitiator returns an initiator with the client's static key, borrowed until the handshake ends. rng gives the ephemeral key; nil
// means crypto/rand.
func NewInitiator(static noise.DHKey, rng io.Reader) *Initiator {
	return &Initiator{static: static, rng: rng}
}

// AppendHello appends the whole frame with message 1 to dst. transcript is every byte of the connection before that frame, from the
// preamble on, both ways, length prefixes included; borrowed, and it may be dst itself. dst comes back unchanged with an error.
func (i *Initiator) AppendHello(dst, transcript []byte) ([]byte, error) {
	if !i.at.enter(0) {
		return dst, ErrOrder
	}
	if err := checkTranscript(transcript); err != nil {
		return dst, err
	}
	var err error
	if i.hs, err = newState(i.static, nil, i.rng, prologue(transcript, helloBody)); err != nil {
		return dst, err
	}
	out, start := beginFrame(dst)
	out, _, _, err = i.hs.WriteMessage(append(out, byte(KindXX)), nil)
	if err != nil {
		return dst, fmt.Errorf("%w: message 1: %w", ErrHandshake, err)
	}
	i.at.done(1)
	return endFrame(out, start), nil
}

// ReadReply reads the body of the frame with message 2 and has verify judge the server's static key and certificate before message 3
// can be written, so that an impostor never sees the client's identity. verify borrows its arguments and must not be nil; its error
// is wrapped. A frame of another kind is ErrKind: look at FrameKind first, the server may have answered use-XX or refused.
func (i *Initiator) ReadReply(frame []byte, verify func(static, cert []byte) error) error {
	if !i.at.enter(1) {
		return ErrOrder
	}
	msg, err := message(frame, replyFixed, false)
	if err != nil {
		return err
	}
	cert, _, _, err := i.hs.ReadMessage(nil, msg)
	if err != nil {
		return fmt.Errorf("%w: message 2: %w", ErrHandshake, err)
	}
	if err := verify(i.hs.PeerStatic(), cert); err != nil {
		return fmt.Errorf("wire: the server's identity: %w", err)
	}
	i.at.done(2)
	return nil
}

// AppendFinish appends the whole frame with message 3 to dst and returns the session's keys. payload, borrowed, is one stanza of at
// most MaxFinishPayload bytes. dst comes back unchanged with an error.
func (i *Initiator) AppendFinish(dst, payload []byte) ([]byte, Keys, error) {
	if !i.at.enter(2) {
		return dst, Keys{}, ErrOrder
	}
	if len(payload) > MaxFinishPayload {
		return dst, Keys{}, fmt.Errorf("wire: a payload of %d bytes in message 3, at most %d", len(payload), MaxFinishPayload)
	}
	out, start := beginFrame(dst)
	out, up, down, err := i.hs.WriteMessage(append(out, byte(KindXX)), payload)
	if err != nil {
		return dst, Keys{}, fmt.Errorf("%w: message 3: %w", ErrHandshake, err)
	}
	keys := Keys{RX: down.UnsafeKey(), TX: up.UnsafeKey()}
	i.hs = nil
	i.at.done(3)
	return endFrame(out, start), keys, nil
}
