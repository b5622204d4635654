package turnd

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// torn is a connection that gives what it has in pieces, each as long as the next of cuts says, and then ends.
type torn struct {
	net.Conn
	left []byte
	cuts []byte // none: as much as is wanted
}

func (c *torn) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := len(p)
	if len(c.cuts) > 0 {
		n = min(n, 1+int(c.cuts[0]))
		c.cuts = append(c.cuts[1:], c.cuts[0])
	}
	n = copy(p[:n], c.left)
	c.left = c.left[n:]
	return n, nil
}

func (c *torn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *torn) Close() error                     { return nil }
func (c *torn) SetReadDeadline(time.Time) error  { return nil }
func (c *torn) SetWriteDeadline(time.Time) error { return nil }

// FuzzStream: a stream is cut into messages that are whole and not longer than any that is relayed, however it comes: what it has sent to peers, and
// why it ends, do not depend on the pieces.
func FuzzStream(f *testing.F) {
	id := [12]byte{1}
	send := attr(attrAddr(begin(nil, sendIndication, &id), attrPeer, fuzzPeers[0], &id), attrData, []byte("hello")...)
	data := pad(channelData(minChannel+1, "abcde"))
	f.Add(slices.Concat(data, send, data, begin(nil, bindingRequest, &id)), []byte{0, 4})
	f.Add(slices.Concat(send, data, []byte{0x80}), []byte{8})
	f.Add(slices.Concat(pad(channelData(minChannel+1, string(make([]byte, maxPacket)))), data), []byte{200})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		if n, err := frame(stream); n < 0 || n%4 != 0 || err == nil && (n > len(stream) || n > inBuffer) || err != nil && (n != 0) != errors.Is(err, errTooLong) {
			t.Fatalf("%d of %d bytes, %v", n, len(stream), err)
		}
		tcp := byte(len(fuzzGuests)-1) << 6
		w := newWorld(t, []byte{stepAllocate | tcp, 0, 0, stepChannel | tcp, 0, 1, 0})
		for range 2 {
			w.step()
			w.settle()
		}
		g := w.guests[len(fuzzGuests)-1]
		if list := g.f.table.get(g.addr).peers.Load(); len(list.channels) != 1 {
			t.Fatal("no channel")
		}
		read := func(cuts []byte) (Reason, []string) {
			w.log = nil
			c := &connection{front: g.f, conn: &torn{left: stream, cuts: slices.Clone(cuts)}, client: g.addr, framed: true}
			why := c.serve()
			return why, w.log
		}
		why, whole := read(nil)
		if again, parts := read(cuts); again != why || !slices.Equal(parts, whole) {
			t.Fatalf("in one piece it ends with %v and sends %q, in pieces %v and %q", why, whole, again, parts)
		}
	})
}
