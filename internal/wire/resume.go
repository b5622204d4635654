package wire

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// Resumption is Noise_NNpsk0_25519_ChaChaPoly_SHA256 with the PSK of a ticket. Message 1 travels behind its ticket in a frame of
// KindResume (AppendResume, ParseResume); message 2 is such a frame without a ticket. Neither has a payload: what an observer has
// recorded of message 1 can be said again, and must have no effect. The first frame under the session's keys proves who is there.
const answerBody = 1 + resumeMessage // kind, e and the tag of an empty payload

// AnswerSize is what AnswerResume appends, in bytes.
const AnswerSize = LenSize + answerBody

// Resumer is the client's side of one resumption: AppendResume, ReadAnswer, each once. After an error of ReadAnswer other than ErrKind the
// connection is unusable; behind use-XX the client goes on with an Initiator. Not safe for concurrent use.
type Resumer struct {
	rng io.Reader
	hs  *noise.HandshakeState
	at  step
}

// NewResumer returns a resumer. rng gives the ephemeral key; nil means crypto/rand.
func NewResumer(rng io.Reader) *Resumer { return &Resumer{rng: rng} }

// AppendResume appends the whole frame with the ticket and message 1 to dst. transcript is every byte of the connection before that
// frame, the preamble that is; borrowed, and it may be dst itself. dst comes back unchanged with an error.
func (r *Resumer) AppendResume(dst, transcript, ticket []byte, psk *[KeySize]byte) ([]byte, error) {
	if !r.at.enter(0) {
		return dst, ErrOrder
	}
	if err := checkTranscript(transcript); err != nil {
		return dst, err
	}
	if len(ticket) == 0 || len(ticket) > MaxTicket {
		return dst, fmt.Errorf("%w: a ticket of %d bytes", ErrHandshakeFrame, len(ticket))
	}
	body := resumeHead + len(ticket) + resumeMessage
	before := binary.BigEndian.AppendUint16(append([]byte(nil), transcript...), uint16(body))
	before = append(before, byte(KindResume))
	before = append(binary.BigEndian.AppendUint16(before, uint16(len(ticket))), ticket...)
	hs, err := newState(noise.DHKey{}, psk[:], r.rng, before)
	if err != nil {
		return dst, err
	}
	msg, _, _, err := hs.WriteMessage(nil, nil)
	if err != nil {
		return dst, fmt.Errorf("%w: message 1: %w", ErrHandshake, err)
	}
	r.hs = hs
	r.at.done(1)
	return AppendResume(dst, ticket, msg), nil
}

// ReadAnswer reads the body of the frame with message 2 and returns the session's keys. Errors: ErrOrder, ErrHandshakeFrame, ErrHandshake;
// ErrKind for a frame of another kind: look at FrameKind first, the server may have answered use-XX or refused.
func (r *Resumer) ReadAnswer(frame []byte) (Keys, error) {
	if !r.at.enter(1) {
		return Keys{}, ErrOrder
	}
	if len(frame) == 0 || Kind(frame[0]) != KindResume {
		return Keys{}, ErrKind
	}
	if len(frame) != answerBody {
		return Keys{}, fmt.Errorf("%w: an answer of %d bytes", ErrHandshakeFrame, len(frame))
	}
	_, up, down, err := r.hs.ReadMessage(nil, frame[1:])
	if err != nil {
		return Keys{}, fmt.Errorf("%w: message 2: %w", ErrHandshake, err)
	}
	r.hs = nil
	r.at.done(2)
	return Keys{RX: down.UnsafeKey(), TX: up.UnsafeKey()}, nil
}

// AnswerResume is the server's side: it reads the body of a resume frame whose ticket held psk, and appends the whole frame with
// message 2 to dst. transcript is every byte of the connection before that frame. rng gives the ephemeral key; nil means crypto/rand. The
// client is not known to be there before its first frame has opened with keys.RX. Borrows all but dst, which comes back unchanged with an
// error: ErrHandshakeFrame, ErrHandshake; the connection is unusable then.
func AnswerResume(dst, transcript, frame []byte, psk *[KeySize]byte, rng io.Reader) (out []byte, keys Keys, err error) {
	ticket, msg, err := ParseResume(frame)
	if err != nil {
		return dst, Keys{}, err
	}
	if err := checkTranscript(transcript); err != nil {
		return dst, Keys{}, err
	}
	w := borrow()
	defer giveBack(w)
	s, e := &w.s, &w.e
	var head [LenSize + resumeHead + MaxTicket]byte
	binary.BigEndian.PutUint16(head[:], uint16(len(frame)))
	n := LenSize + copy(head[LenSize:], frame[:resumeHead+len(ticket)])
	s.start(protocolResume, transcript, head[:n])
	s.mixKeyAndHash(psk)
	re := [KeySize]byte(msg)
	s.mixHash(re[:])
	s.mixKey(&re)
	if _, err := s.open(w, nil, msg[KeySize:]); err != nil {
		return dst, Keys{}, fmt.Errorf("%w: message 1: %w", ErrHandshake, err)
	}
	public, err := newEphemeral(e, rng)
	if err != nil {
		return dst, Keys{}, err
	}
	out, start := beginFrame(dst)
	out = append(append(out, byte(KindResume)), public[:]...)
	s.mixHash(public[:])
	s.mixKey(&public)
	if err := s.mixDH(e, &re); err != nil {
		return dst, Keys{}, err
	}
	out = endFrame(s.seal(w, out, nil), start)
	keys.RX, keys.TX = s.split()
	return out, keys, nil
}
