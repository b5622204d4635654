package gateway

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/flynn/noise"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// raw is a client without any policy.
type raw struct {
	t        testing.TB
	conn     net.Conn
	keys     wire.Keys
	rx, tx   uint64
	sealer   *wire.Sealer
	pending  []stanza.View // of the last frame
	account  stanza.Account
	early    []byte // everything both ways before message 1
	identity noise.DHKey
}

func (h *harness) dial() *raw {
	h.t.Helper()
	c := h.dialOnly()
	conn := c.conn
	h.t.Cleanup(func() { conn.Close() })
	return c
}

// dialOnly is dial without a clean-up.
func (h *harness) dialOnly() *raw {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.g.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	return newRaw(h.t, conn)
}

func newRaw(t testing.TB, conn net.Conn) *raw {
	identity, _ := wire.GenerateKeypair(nil)
	return &raw{t: t, conn: conn, sealer: wire.NewSealer(), identity: identity}
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// frame reads one frame's body; io.EOF at the end of the connection.
func (c *raw) frame() ([]byte, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(patience)) // of each: a test of many frames may take longer on a busy machine
	var head [2]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return nil, err
	}
	n, _ := wire.FrameLen(head[:])
	body := make([]byte, n)
	_, err := io.ReadFull(c.conn, body)
	return body, err
}

// preamble sends the preamble.
func (c *raw) preamble() {
	c.early = append(c.early, wire.Preamble[:]...)
	c.write(wire.Preamble[:])
}

// handshake runs XX with payload in message 3.
func (c *raw) handshake(payload []byte) {
	c.t.Helper()
	i := wire.NewInitiator(c.identity, nil)
	hello, err := i.AppendHello(nil, c.early)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(hello)
	reply, err := c.frame()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := i.ReadReply(reply, func(static, cert []byte) error { return nil }); err != nil {
		c.t.Fatal(err)
	}
	finish, keys, err := i.AppendFinish(nil, payload)
	if err != nil {
		c.t.Fatal(err)
	}
	c.keys = keys
	c.write(finish)
}

// connect makes a bound session of an account's device 1.
func (h *harness) bind(account stanza.Account) *raw {
	h.t.Helper()
	c := h.dial()
	c.preamble()
	b := stanza.Bind{Account: account, Device: 1}
	c.handshake(b.Append(nil))
	v := c.wantTag(stanza.TagBound)
	bound, err := stanza.ParseBound(v)
	if err != nil {
		h.t.Fatal(err)
	}
	c.account = bound.Account
	return c
}

// send seals stanzas into one frame and writes it.
func (c *raw) send(stanzas ...[]byte) {
	c.t.Helper()
	c.write(c.seal(stanzas...))
}

func (c *raw) seal(stanzas ...[]byte) []byte {
	plain := []byte{0}
	for _, s := range stanzas {
		plain = append(plain, s...)
	}
	f := c.sealer.AppendSealedFrame(nil, &c.keys.TX, c.tx, plain)
	c.tx++
	return f
}

// next returns the next stanza.
func (c *raw) next() (stanza.View, error) {
	for len(c.pending) == 0 {
		body, err := c.frame()
		if err != nil {
			return stanza.View{}, err
		}
		plain, err := c.sealer.Open(nil, &c.keys.RX, c.rx, body)
		if err != nil {
			return stanza.View{}, err
		}
		c.rx++
		err = stanza.DecodeFrame(plain, func(v stanza.View) error {
			c.pending = append(c.pending, v)
			return nil
		})
		if err != nil {
			return stanza.View{}, err
		}
	}
	v := c.pending[0]
	c.pending = c.pending[1:]
	return v, nil
}

func (c *raw) wantTag(tag stanza.Tag) stanza.View {
	c.t.Helper()
	v, err := c.next()
	if err != nil {
		c.t.Fatalf("waiting for %v: %v", tag, err)
	}
	if v.Tag != tag {
		c.t.Fatalf("got %v %x, want %v", v.Tag, v.Raw(), tag)
	}
	return v
}

// wantClose reads a close stanza with that reason, and then the end of the connection.
func (c *raw) wantClose(reason stanza.Reason) stanza.Close {
	c.t.Helper()
	cl, err := stanza.ParseClose(c.wantTag(stanza.TagClose))
	if err != nil || cl.Reason != reason {
		c.t.Fatalf("closed with %v (%v), want %v", cl.Reason, err, reason)
	}
	if _, err := c.frame(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("behind the close: %v, want EOF", err)
	}
	c.conn.Close()
	return cl
}

// wantRefused reads a refused handshake frame with that reason, and then the end.
func (c *raw) wantRefused(reason stanza.Reason) time.Duration {
	c.t.Helper()
	body, err := c.frame()
	if err != nil {
		c.t.Fatalf("waiting to be refused: %v", err)
	}
	got, retryAfter, err := wire.ParseRefused(body)
	if err != nil || got != reason {
		c.t.Fatalf("refused with %v (%v), want %v", got, err, reason)
	}
	if _, err := c.frame(); err == nil {
		c.t.Fatal("something behind the refusal")
	}
	return retryAfter
}

// ids reads ack stanzas until n ids came.
func (c *raw) ids(n int) []uint64 {
	c.t.Helper()
	var got []uint64
	for len(got) < n {
		a, err := stanza.ParseAck(c.wantTag(stanza.TagAck))
		if err != nil {
			c.t.Fatal(err)
		}
		it := stanza.Packed(a.IDs)
		for id, ok := it.Next(); ok; id, ok = it.Next() {
			got = append(got, id)
		}
	}
	return got
}

func message(id uint64, to stanza.Account, text string) []byte {
	m := stanza.MessageUp{ID: id, Account: to, Version: 1, Body: stanza.AppendCipher(nil, 1, []byte(text))}
	return m.Append(nil)
}

func delivery(id uint64, text string) []byte {
	m := stanza.MessageDown{ID: id, From: 9, FromDevice: 1, SentAt: 1, Body: []byte(text)}
	return m.Append(nil)
}

// ask sends the query and returns the result, which must be one.
func (c *raw) ask(q stanza.Query) stanza.Result {
	c.t.Helper()
	c.send(q.Append(nil))
	r, err := stanza.ParseResult(c.wantTag(stanza.TagResult))
	if err != nil || r.ID != q.ID {
		c.t.Fatalf("%+v, %v", r, err)
	}
	return r
}

// refusedQuery sends the query and returns why it is refused.
func (c *raw) refusedQuery(q stanza.Query) stanza.QueryError {
	c.t.Helper()
	c.send(q.Append(nil))
	e, err := stanza.ParseQueryError(c.wantTag(stanza.TagError))
	if err != nil || e.ID != q.ID {
		c.t.Fatalf("%+v, %v", e, err)
	}
	return e
}
