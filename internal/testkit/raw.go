package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/flynn/noise"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// Raw is a client without any policy: it says just the bytes that a test wants said, and shows what comes back as it comes. One
// goroutine may write while another reads.
//
// Its handshake can be walked step by step (Preamble, Hello, ReadReply, Finish), each returning the bytes instead of writing them, so
// that a test can change, cut, repeat or hold them back. The server's certificate is not judged.
type Raw struct {
	net.Conn
	Key   noise.DHKey // static
	Bound stanza.Bound

	init    *wire.Initiator
	keys    wire.Keys
	opener  *wire.Sealer
	opened  uint64
	sealer  *wire.Sealer
	sealed  uint64
	pending []stanza.View // of the last frame read
}

// Refused is a refused frame that a Raw has read.
type Refused struct {
	Reason     stanza.Reason
	RetryAfter time.Duration
}

func (e *Refused) Error() string { return "refused: " + e.Reason.String() }

// DialRaw connects and says nothing. Every read and write fails after a generous limit. The test closes the connection.
func DialRaw(addr string) (*Raw, error) { return dialRaw(addr, &net.Dialer{}) }

func dialRaw(addr string, d *net.Dialer) (*Raw, error) {
	key, err := wire.GenerateKeypair(nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Raw{Conn: conn, Key: key, opener: wire.NewSealer(), sealer: wire.NewSealer()}, conn.SetDeadline(time.Now().Add(waitLimit))
}

// Hello returns the preamble and the frame with message 1.
func (r *Raw) Hello() ([]byte, error) {
	b := append([]byte(nil), wire.Preamble[:]...)
	return r.HelloAfter(b, b)
}

// HelloAfter appends the frame with message 1 to dst; transcript is everything said on the connection before it, both ways.
func (r *Raw) HelloAfter(dst, transcript []byte) ([]byte, error) {
	r.init = wire.NewInitiator(r.Key, nil)
	return r.init.AppendHello(dst, transcript)
}

// ReadReply reads message 2.
func (r *Raw) ReadReply() error {
	body, err := r.ReadBody()
	if err != nil {
		return err
	}
	return r.init.ReadReply(body, func(_, _ []byte) error { return nil })
}

// Finish returns the frame with message 3. From then on the keys are those of the session.
func (r *Raw) Finish(payload []byte) ([]byte, error) {
	finish, keys, err := r.init.AppendFinish(nil, payload)
	r.keys = keys
	return finish, err
}

// Shake runs the whole handshake up to message 3, with the payload in it.
func (r *Raw) Shake(payload []byte) error {
	hello, err := r.Hello()
	if err != nil {
		return err
	}
	if _, err := r.Write(hello); err != nil {
		return err
	}
	if err := r.ReadReply(); err != nil {
		return err
	}
	finish, err := r.Finish(payload)
	if err != nil {
		return err
	}
	_, err = r.Write(finish)
	return err
}

// Register makes a session by registering a handle.
func (r *Raw) Register(handle string) error {
	reg := stanza.Register{Handle: []byte(handle)}
	if err := r.Shake(reg.Append(nil)); err != nil {
		return err
	}
	return r.WaitBound()
}

// Resume writes the preamble and a resume frame with what an earlier bound gave, and reads the server's answer: the keys are those of the session
// then, and the next that it says must be bind.
func (r *Raw) Resume(value []byte) error {
	psk, ticket, _ := wire.SplitTicketValue(value)
	init := wire.NewResumer(nil)
	b, err := init.AppendResume(wire.Preamble[:wire.PreambleSize:wire.PreambleSize], wire.Preamble[:], ticket, &psk)
	if err != nil {
		return err
	}
	if _, err := r.Write(b); err != nil {
		return err
	}
	body, err := r.ReadBody()
	if err != nil {
		return err
	}
	r.keys, err = init.ReadAnswer(body)
	return err
}

// WaitTickets waits until the gateway gives tickets: routers tell it the keys a moment after the start.
func (s *System) WaitTickets() {
	s.t.Helper()
	key, err := wire.GenerateKeypair(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	Eventually(s.t, "bound has a ticket", func() bool {
		r, err := DialRaw(s.Server)
		if err != nil {
			return false
		}
		defer r.Close()
		r.Key = key // the same account each time
		return r.Register("tickets") == nil && len(r.Bound.Ticket) > 0
	})
}

// WaitBound reads the session's first stanza.
func (r *Raw) WaitBound() error {
	v, err := r.Next()
	if err != nil {
		return err
	}
	if v.Tag == stanza.TagClose {
		return closedBy(v)
	}
	r.Bound, err = stanza.ParseBound(v)
	return err
}

// Closed is a close stanza that a Raw or a Lean has read.
type Closed struct{ Reason stanza.Reason }

func (e *Closed) Error() string { return "closed: " + e.Reason.String() }

// closedBy returns a close stanza as an error.
func closedBy(v stanza.View) error {
	c, err := stanza.ParseClose(v)
	if err != nil {
		return err
	}
	return &Closed{Reason: c.Reason}
}

// ReadBody reads one frame's body, sealed or not; a refused frame comes as *Refused.
func (r *Raw) ReadBody() ([]byte, error) {
	var head [wire.LenSize]byte
	if _, err := io.ReadFull(r.Conn, head[:]); err != nil {
		return nil, err
	}
	n, _ := wire.FrameLen(head[:])
	body := make([]byte, n)
	if _, err := io.ReadFull(r.Conn, body); err != nil {
		return nil, err
	}
	if reason, wait, err := wire.ParseRefused(body); err == nil {
		return nil, &Refused{Reason: reason, RetryAfter: wait}
	}
	return body, nil
}

// Next reads the next stanza of the session. The view stays valid.
func (r *Raw) Next() (stanza.View, error) {
	for len(r.pending) == 0 {
		body, err := r.ReadBody()
		if err != nil {
			return stanza.View{}, err
		}
		plain, err := r.opener.Open(nil, &r.keys.RX, r.opened, body)
		if err != nil {
			return stanza.View{}, err
		}
		r.opened++
		err = stanza.DecodeFrame(plain, func(v stanza.View) error {
			r.pending = append(r.pending, v)
			return nil
		})
		if err != nil {
			return stanza.View{}, err
		}
	}
	v := r.pending[0]
	r.pending = r.pending[1:]
	return v, nil
}

// Seal returns a sealed frame with these stanzas in it. Frames must be written in the order in which they were sealed.
func (r *Raw) Seal(stanzas ...[]byte) []byte {
	plain := []byte{0}
	for _, s := range stanzas {
		plain = append(plain, s...)
	}
	return r.SealPlain(plain)
}

// SealPlain seals a frame's whole plaintext, flags byte included.
func (r *Raw) SealPlain(plain []byte) []byte {
	f := r.sealer.AppendSealedFrame(nil, &r.keys.TX, r.sealed, plain)
	r.sealed++
	return f
}

// Say writes one frame with these stanzas in it.
func (r *Raw) Say(stanzas ...[]byte) error {
	_, err := r.Write(r.Seal(stanzas...))
	return err
}

// Farewell is how a server ended a connection.
type Farewell struct {
	Reason  stanza.Reason // 0: it said none
	Refused bool          // in a refused frame; else in a close stanza
}

// Farewell reads to the end of the connection. Stanzas in front of it are given to each, which may be nil. A reset, or a frame cut
// short, is an end too: a server that closes while bytes come in cannot help it.
func (r *Raw) Farewell(each func(stanza.View)) (f Farewell, err error) {
	for {
		v, err := r.Next()
		var refused *Refused
		switch {
		case errors.As(err, &refused) && f.Reason == 0:
			f = Farewell{refused.Reason, true}
			continue
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
			return f, nil
		case err != nil:
			return f, err
		}
		if f.Reason != 0 {
			return f, fmt.Errorf("%s behind the end", v.Tag)
		}
		if v.Tag == stanza.TagClose {
			c, err := stanza.ParseClose(v)
			if err != nil {
				return f, err
			}
			f.Reason = c.Reason
		} else if each != nil {
			each(v)
		}
	}
}
