package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// A Home keeps the ticket of its last session in a file of its own and not in the journal, because it is worth no sync: one that a power
// failure takes, or tears, costs a full handshake; one that it brings back was used, which is harmless, once.
//
//	checksum  4 bytes, big-endian: CRC-32C of the rest
//	value     the psk and the ticket, as they came with bound
//
// An empty file is no ticket.

// readTicket loads the ticket; what is not one is none.
func (h *Home) readTicket() error {
	b, err := os.ReadFile(h.path("ticket"))
	if err != nil || len(b) < 4 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return nil
	}
	if _, _, ok := wire.SplitTicketValue(b[4:]); ok {
		h.ticket = b[4:]
	}
	return nil
}

// putTicket keeps a copy of the ticket that came with bound; empty: none came, and the one there is was used. Nothing depends on the file: a disk that
// fails is noticed by the journal.
func (h *Home) putTicket(value []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.ticket)
	if h.ticket = bytes.Clone(value); h.dir == "" {
		return
	}
	var file []byte
	if len(value) > 0 {
		file = append(binary.BigEndian.AppendUint32(nil, crc32.Checksum(value, castagnoli)), value...)
	}
	_ = os.WriteFile(h.path("ticket"), file, 0o600)
}

// takeTicket returns a copy of the ticket, nil if there is none.
func (h *Home) takeTicket() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.ticket)
}

// errAnswer: a server answered a resume with something that is no answer to it.
var errAnswer = errors.New("handshake: unexpected answer to a resume")

// inDoubt is the doubt from which on a client does XX: a failed resume, or two connections in a row that were lost before bound.
const inDoubt = 2

// weigh puts the ticket in doubt, or clears it, by what a server said to whoever had shown it. A close is the server's word: the ticket
// goes if it was for more than want of time or room, or a client that such a close stops would show it again when it is started anew.
func (c *Client) weigh(err error) {
	var hint *HintError
	var closed *CloseError
	switch {
	case c.doubt == 0: // it was not shown
	case errors.As(err, &hint):
		c.doubt = doubtAfter(hint.Reason)
	case errors.As(err, &closed):
		if c.doubt = doubtAfter(closed.Reason); c.doubt > 0 {
			c.home.putTicket(nil)
		}
	}
}

// doubtAfter returns the doubt in a ticket that was refused: none if it was for want of time or room.
func doubtAfter(r Reason) int {
	if retry := r.Retry(); retry == stanza.RetryNow || retry == stanza.RetryLater || r == stanza.ReasonHandshakeTimeout {
		return 0
	}
	return inDoubt
}

// resume tries to come back by ticket. done: f has the keys of the session and bind is written. Otherwise, without an error, the server
// wants XX on the same connection, and transcript is what was said so far.
//
// The ticket is dropped with bound or a close of the server's, never because somebody says so in clear, nor when the server has answered and
// then has no room for the session: the router may be gone, the gateway full or about to leave. One whose resume failed is in doubt, and the next attempt is
// XX, so that no ticket gone bad keeps the client out. But not because the server is too busy, and not because one connection was lost: with
// all that come back, XX is what a busy server can do least.
func (c *Client) resume(f *frameConn, value []byte) (transcript []byte, done bool, err error) {
	psk, ticket, _ := wire.SplitTicketValue(value)
	r := wire.NewResumer(nil)
	out, err := r.AppendResume(bytes.Clone(wire.Preamble[:]), wire.Preamble[:], ticket, &psk)
	if err != nil {
		return nil, false, err
	}
	c.doubt++
	body, err := f.ask(out)
	if err != nil {
		return nil, false, err
	}
	lost := c.doubt
	c.doubt = inDoubt
	switch kind, _ := wire.FrameKind(body); kind {
	case wire.KindUseXX:
		if err := wire.ParseUseXX(body); err != nil {
			return nil, false, err
		}
		c.doubt = 0
		return wire.AppendUseXX(out), false, nil
	case wire.KindResume:
	default:
		return nil, false, errAnswer
	}
	if f.keys, err = r.ReadAnswer(body); err != nil {
		return nil, false, err
	}
	c.doubt = lost
	return nil, true, f.write(append([]byte{0}, c.introduction()...), time.Now())
}
