package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Crowd is the client's side of XX and of resumption for a load generator, which is thousands of clients at once and shares the machine with the server
// that it measures. All of its handshakes have one ephemeral key: so making that, and its Diffie-Hellman with the server's static key,
// is done once and not for each, and a handshake costs two Diffie-Hellmans instead of three and a key pair, a resumption one. It leaves next to no garbage. The
// server sees and does what it always does.
//
// The price is forward secrecy, and the ephemeral key is in memory for good. Nothing but load may be sent by it: clients have Initiator.
// Not safe for concurrent use.
type Crowd struct {
	e, public [KeySize]byte
	rs, es    [KeySize]byte // the server's static key of the last handshake, and e's Diffie-Hellman with it
	cert      []byte        // scratch
}

// CrowdHello is one handshake of a Crowd between message 1 and message 2. It holds no pointer.
type CrowdHello struct{ s symmetric }

// NewCrowd makes the key of a crowd. rng gives it; nil means crypto/rand.
func NewCrowd(rng io.Reader) (*Crowd, error) {
	c := &Crowd{}
	var err error
	c.public, err = newEphemeral(&c.e, rng)
	return c, err
}

// AppendHello appends the whole frame with message 1 to dst and keeps what the handshake needs in h. transcript is as for Initiator.
// dst comes back unchanged with an error.
func (c *Crowd) AppendHello(h *CrowdHello, dst, transcript []byte) ([]byte, error) {
	if err := checkTranscript(transcript); err != nil {
		return dst, err
	}
	head := [LenSize + 1]byte{0, helloBody, byte(KindXX)}
	h.s.start(protocolXX, transcript, head[:])
	h.s.mixHash(c.public[:])
	h.s.mixHash(nil) // the empty payload
	dst = append(dst, head[:]...)
	return append(dst, c.public[:]...), nil
}

// AppendFinish reads the body of the frame with message 2, has verify judge the server as in Initiator.ReadReply, appends the whole frame
// with message 3 to dst and returns the session's keys. private is the client's static key; payload is one stanza of at most
// MaxFinishPayload bytes. Borrows all but dst, which comes back unchanged with an error; the connection is unusable then. Errors: ErrKind,
// ErrHandshakeFrame, ErrHandshake, that of verify.
func (c *Crowd) AppendFinish(h *CrowdHello, dst, frame []byte, verify func(static, cert []byte) error, private *[KeySize]byte,
	payload []byte) (out []byte, keys Keys, err error) {
	msg, err := message(frame, replyFixed, false)
	if err != nil {
		return dst, Keys{}, err
	}
	if len(payload) > MaxFinishPayload {
		return dst, Keys{}, fmt.Errorf("wire: a payload of %d bytes in message 3, at most %d", len(payload), MaxFinishPayload)
	}
	w := borrow()
	defer giveBack(w)
	re := [KeySize]byte(msg)
	if err := c.readReply(w, &h.s, &re, msg[KeySize:], verify); err != nil {
		return dst, Keys{}, err
	}
	public := PublicKey(*private)
	out, start := beginFrame(dst)
	out = h.s.seal(w, append(out, byte(KindXX)), public[:])
	if err := h.s.mixDH(private, &re); err != nil { // se
		return dst, Keys{}, err
	}
	out = h.s.seal(w, out, payload)
	keys.TX, keys.RX = h.s.split()
	h.s = symmetric{}
	return endFrame(out, start), keys, nil
}

// readReply goes through message 2 behind the server's ephemeral key.
func (c *Crowd) readReply(w *workspace, s *symmetric, re *[KeySize]byte, msg []byte, verify func(static, cert []byte) error) error {
	s.mixHash(re[:])
	if err := s.mixDH(&c.e, re); err != nil { // ee
		return err
	}
	var rs [KeySize]byte
	if _, err := s.open(w, rs[:0], msg[:KeySize+TagSize]); err != nil {
		return fmt.Errorf("%w: message 2: the static key: %w", ErrHandshake, err)
	}
	if c.rs != rs {
		if !sharedSecret(&c.es, &c.e, &rs) {
			c.rs = [KeySize]byte{}
			return fmt.Errorf("%w: %w", ErrHandshake, ErrKeyShare)
		}
		c.rs = rs
	}
	s.mixKey(&c.es)
	var err error
	if c.cert, err = s.open(w, c.cert[:0], msg[KeySize+TagSize:]); err != nil {
		return fmt.Errorf("%w: message 2: %w", ErrHandshake, err)
	}
	if err := verify(rs[:], c.cert); err != nil {
		return fmt.Errorf("wire: the server's identity: %w", err)
	}
	return nil
}

// AppendResume is Resumer.AppendResume with the crowd's ephemeral key.
func (c *Crowd) AppendResume(h *CrowdHello, dst, transcript, ticket []byte, psk *[KeySize]byte) ([]byte, error) {
	if err := checkTranscript(transcript); err != nil {
		return dst, err
	}
	if len(ticket) == 0 || len(ticket) > MaxTicket {
		return dst, fmt.Errorf("%w: a ticket of %d bytes", ErrHandshakeFrame, len(ticket))
	}
	w := borrow()
	defer giveBack(w)
	var head [LenSize + resumeHead + MaxTicket]byte
	b := binary.BigEndian.AppendUint16(head[:0], uint16(resumeHead+len(ticket)+resumeMessage))
	b = binary.BigEndian.AppendUint16(append(b, byte(KindResume)), uint16(len(ticket)))
	b = append(b, ticket...)
	h.s.start(protocolResume, transcript, b)
	h.s.mixKeyAndHash(psk)
	h.s.mixHash(c.public[:])
	h.s.mixKey(&c.public)
	dst = append(append(dst, b...), c.public[:]...)
	return h.s.seal(w, dst, nil), nil
}

// ReadAnswer is Resumer.ReadAnswer.
func (c *Crowd) ReadAnswer(h *CrowdHello, frame []byte) (keys Keys, err error) {
	if len(frame) == 0 || Kind(frame[0]) != KindResume {
		return Keys{}, ErrKind
	}
	if len(frame) != answerBody {
		return Keys{}, fmt.Errorf("%w: an answer of %d bytes", ErrHandshakeFrame, len(frame))
	}
	w := borrow()
	defer giveBack(w)
	re := [KeySize]byte(frame[1:])
	h.s.mixHash(re[:])
	h.s.mixKey(&re)
	if err := h.s.mixDH(&c.e, &re); err != nil {
		return Keys{}, err
	}
	if _, err := h.s.open(w, nil, frame[1+KeySize:]); err != nil {
		return Keys{}, fmt.Errorf("%w: message 2: %w", ErrHandshake, err)
	}
	keys.TX, keys.RX = h.s.split()
	h.s = symmetric{}
	return keys, nil
}
