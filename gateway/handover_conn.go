package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// The messages of a hand-over, on a unix stream socket between two processes of one user. In order: hello and its answer, take; then for
// each page of sessions: sessions (with their sockets beside it), held, yours; and end. A page belongs to the old process until it has
// sent yours, and to the new one when it has that: at no moment may both touch a session, since both would seal with the same nonces.
const (
	msgHello    byte = iota + 1 // both ways: helloText
	msgRefused                  // both ways, text: no hand-over; both go on as they are
	msgTake                     // new: it is ready and listens
	msgSessions                 // old: records, and as many sockets
	msgHeld                     // new: it has them all, untouched
	msgYours                    // old: it has let go of them
	msgEnd                      // old: that was all; it ends
	msgAbort                    // old, text: it keeps what it has left
	msgLeave                    // new, in place of take: no sessions can be moved here; let go of everybody and end
	msgRoll                     // to a supervisor, in place of hello: replace the workers; end or refused comes when that is done
)

const (
	handoverHead = 5 // type, length of the rest (4 bytes)
	// pageSessions is how many sessions move at once: within the 253 sockets that Linux takes in one message.
	pageSessions = 128
	pageBytes    = 1 << 20 // of records, after which a page ends early
	maxHandover  = pageBytes + maxOutbound
	// handoverWait bounds the wait for an answer. One comes within milliseconds, and the other's end is seen at once: this is for a process
	// that hangs, and not for a machine on which a hundred others have the processors.
	handoverWait = 30 * time.Second
)

// handoverConn is one end. Its read and write are each for one goroutine at a time.
type handoverConn struct{ *net.UnixConn }

// send writes one message; fds go beside it and stay the caller's.
func (c handoverConn) send(kind byte, body []byte, fds ...int) error {
	_ = c.SetWriteDeadline(time.Now().Add(handoverWait))
	var head [handoverHead]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(head[:], rights, nil); err != nil {
		return err
	}
	if len(body) == 0 {
		return nil
	}
	_, err := c.Write(body)
	return err
}

// receive reads one message within limit. The sockets that came with it are the caller's, also with an error.
func (c handoverConn) receive(limit time.Duration) (kind byte, body []byte, fds []int, err error) {
	_ = c.SetReadDeadline(time.Now().Add(limit))
	var head [handoverHead]byte
	oob := make([]byte, unix.CmsgSpace(4*pageSessions))
	n, oobn, _, _, err := c.ReadMsgUnix(head[:], oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if oobn > 0 {
		fds = rightsOf(oob[:oobn])
	}
	if err != nil {
		return 0, nil, fds, err
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		return 0, nil, fds, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxHandover {
		return 0, nil, fds, fmt.Errorf("hand-over: a message of %d bytes", size)
	}
	body = make([]byte, size)
	_, err = io.ReadFull(c, body)
	return head[0], body, fds, err
}

func rightsOf(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil // the count shows it
	}
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// want receives a message that must be of that kind and bring no sockets.
func (c handoverConn) want(kind byte, limit time.Duration) ([]byte, error) {
	got, body, fds, err := c.receive(limit)
	closeAll(fds)
	switch {
	case err != nil:
		return nil, err
	case got == msgRefused || got == msgAbort:
		return nil, &refusedError{string(body)}
	case got != kind || len(fds) > 0:
		return nil, fmt.Errorf("hand-over: message %d in place of %d", got, kind)
	}
	return body, nil
}

// refusedError is the other side's own word that there is no hand-over, or no more of it.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return "the other process: " + e.why }

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// handoverHello is what both ends say first. Of the new process, who it wants to replace: both must run on one data directory and for one
// cluster; of the old one, who it is, and what it has.
type handoverHello struct {
	version     uint64
	node        uint64
	worker      uint64 // new: its number on links
	incarnation uint64 // old: which the new one must have
	shards      uint64
	sessions    uint64 // old: so many to move; new: so many it can hold
	port        uint64 // old: where clients connect
	cluster     string
}

var helloMagic = [4]byte{'L', 'C', 'H', 'O'}

func (h *handoverHello) append(dst []byte) []byte {
	dst = append(dst, helloMagic[:]...)
	for _, v := range [...]uint64{h.version, h.node, h.worker, h.incarnation, h.shards, h.sessions, h.port, uint64(len(h.cluster))} {
		dst = binary.AppendUvarint(dst, v)
	}
	return append(dst, h.cluster...)
}

// parseHello reads a hello. Bytes behind it are a later version's.
func parseHello(b []byte) (h handoverHello, err error) {
	if len(b) < len(helloMagic) || [4]byte(b[:4]) != helloMagic {
		return h, errors.New("hand-over: not a gateway at the other end")
	}
	d := recordReader{b: b[4:]}
	for _, v := range [...]*uint64{&h.version, &h.node, &h.worker, &h.incarnation, &h.shards, &h.sessions, &h.port} {
		*v = d.upTo(1<<64 - 1)
	}
	h.cluster = string(d.bytes(64))
	if d.bad {
		return h, errors.New("hand-over: bad hello")
	}
	return h, nil
}
