package turnd

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// connection is one of a client, over TCP, TLS or DTLS: the carrier of what it is sent. Safe for concurrent use, but for serve.
type connection struct {
	front  *front
	conn   net.Conn
	client netip.AddrPort
	framed bool // messages follow each other without bounds
	skip   int  // bytes to come of a message that is too long; serve's
	over   atomic.Bool

	// Guarded by out: what is being written, by one at a time.
	out     sync.Mutex
	renewed time.Time // when the write deadline was set

	// Guarded by mu: what post left for a goroutine of its own to write.
	mu      sync.Mutex
	pending [][]byte
	writing bool
}

// maxPending is how many answers may wait for a connection whose client takes in nothing; then it is closed.
const maxPending = 16

// stay is how often it is looked whether a connection that nothing comes from has an allocation still.
const stay = time.Minute

// longestFrame is the longest message that is handled.
const longestFrame = maxPacket + headroom

// inBuffer is what a connection's messages are read into: the longest one has room.
const inBuffer = 4 << 10

var (
	errNotTURN = errors.New("turnd: not TURN")
	errTooLong = errors.New("turnd: message too long")
)

// serve reads messages until the connection ends, and ends the client's allocation with it.
func (c *connection) serve() Reason {
	why := c.read()
	c.close(why)
	return why
}

// close ends the connection and the allocation. It may be called twice.
func (c *connection) close(why Reason) {
	c.over.Store(true) // before the look: learn looks the other way around
	_ = c.conn.Close()
	if a := c.front.table.get(c.client); a != nil && a.via == carrier(c) {
		a.end(why)
	}
}

func (c *connection) gone() bool { return c.over.Load() }

func (c *connection) stream() bool { return c.framed }

// read handles messages until there are no more. It sets a deadline only when the one before it has passed: a client without an allocation
// by then is closed, whatever else it sent.
func (c *connection) read() Reason {
	buf := make([]byte, inBuffer)
	have := 0
	_ = c.conn.SetReadDeadline(time.Now().Add(c.front.server.cfg.HandshakeTimeout.D()))
	defer func() { _ = c.conn.SetReadDeadline(time.Time{}) }() // over DTLS that is a timer, which would outlast the connection
	for {
		n, err := c.conn.Read(buf[have:])
		have += n
		if n > 0 {
			used, bad := c.take(buf[:have])
			if bad != nil {
				return NotTURN
			}
			have = copy(buf, buf[used:have])
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err):
			if c.front.table.get(c.client) == nil {
				return Idle
			}
			_ = c.conn.SetReadDeadline(time.Now().Add(stay))
		default:
			return PeerClosed
		}
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// take handles the messages that are whole in p and returns how many bytes they were. What is too long is passed by.
func (c *connection) take(p []byte) (used int, err error) {
	if !c.framed {
		c.front.packet(p, c.client, c)
		return len(p), nil
	}
	for {
		n := min(c.skip, len(p)-used)
		c.skip -= n
		used += n
		n, err = frame(p[used:])
		if errors.Is(err, errTooLong) {
			c.front.server.count.drop(TooLarge)
			c.skip = n
			continue
		}
		if n == 0 || err != nil {
			return used, err
		}
		c.front.packet(p[used:used+n], c.client, c)
		used += n
	}
}

// frame returns how long the message is that p begins with (RFC 5766 2.1, 11.5), 0 if it is not whole yet, and errNotTURN if it is none. With
// errTooLong it is ChannelData with more than any packet that is relayed, and need not be whole.
func frame(p []byte) (n int, err error) {
	if len(p) < 4 {
		return 0, nil
	}
	switch p[0] >> 6 {
	case 0:
		n = headerSize + int(binary.BigEndian.Uint16(p[2:]))
		if n%4 != 0 || n > longestFrame || len(p) >= 8 && binary.BigEndian.Uint32(p[4:]) != magicCookie {
			return 0, errNotTURN
		}
	case 1:
		n = 4 + (int(binary.BigEndian.Uint16(p[2:]))+3)&^3
	default:
		return 0, errNotTURN
	}
	if n > longestFrame {
		return n, errTooLong
	}
	if n > len(p) {
		return 0, nil
	}
	return n, nil
}

// deliver writes a message. It waits while the client takes in nothing, which holds up those who send to this client, and the kernel drops
// for them; after Config.WriteTimeout the connection is closed.
func (c *connection) deliver(p []byte, _ netip.AddrPort) error {
	c.out.Lock()
	defer c.out.Unlock()
	limit := c.front.server.cfg.WriteTimeout.D()
	if now := time.Now(); now.Sub(c.renewed) > limit/4 { // not for each packet
		c.renewed = now
		_ = c.conn.SetWriteDeadline(now.Add(limit + limit/4))
	}
	_, err := c.conn.Write(p)
	if err != nil {
		go c.close(PeerClosed) // part of a message may be out
	}
	return err
}

// post is deliver without waiting, for answers: they are written by a goroutine that there is only while there are some.
func (c *connection) post(p []byte, to netip.AddrPort) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) >= maxPending || c.over.Load() {
		go c.close(PeerClosed)
		return net.ErrClosed
	}
	c.pending = append(c.pending, slices.Clone(p))
	if !c.writing {
		c.writing = true
		go c.write(to)
	}
	return nil
}

func (c *connection) write(to netip.AddrPort) {
	for {
		c.mu.Lock()
		if len(c.pending) == 0 {
			c.writing, c.pending = false, nil
			c.mu.Unlock()
			return
		}
		p := c.pending[0]
		c.pending = c.pending[1:]
		c.mu.Unlock()
		_ = c.deliver(p, to) // closes the connection when it fails
	}
}
