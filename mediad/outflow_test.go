package mediad

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
)

// spyListener hands out connections that record how bytes reach the kernel.
type spyListener struct {
	net.Listener
	files, other atomic.Int64 // bytes: by the kernel from a file, from memory
}

type spyConn struct {
	*net.TCPConn
	spy *spyListener
}

func (l *spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return spyConn{c.(*net.TCPConn), l}, nil
}

func (c spyConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.spy.other.Add(int64(n))
	return n, err
}

// ReadFrom is where net/http ends when nothing on the way hides it. net.TCPConn calls sendfile for an *os.File, alone or under one
// io.LimitedReader, and copies through memory for all else.
func (c spyConn) ReadFrom(src io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(src)
	inner := src
	if l, ok := src.(*io.LimitedReader); ok {
		inner = l.R
	}
	if _, ok := inner.(*os.File); ok {
		c.spy.files.Add(n)
	} else {
		c.spy.other.Add(n)
	}
	return n, err
}

func newSpy(t *testing.T) *spyListener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	mustDo(t, err)
	return &spyListener{Listener: ln}
}

// TestSendfile: of a blob on disk only the first bytes, which net/http sends with the header, go through memory.
func TestSendfile(t *testing.T) {
	spy := newSpy(t)
	s := newSiteOn(t, spy)
	const size, head = 20<<20 + 5, 1 << 10
	data := bytesOf(4, size)
	h := s.put(data)
	for _, c := range []struct{ from, to int }{{0, size}, {12345, 9 << 20}, {size - 70000, size}} {
		spy.files.Store(0)
		spy.other.Store(0)
		a := s.do("GET", blobsPath+"/"+h.String(), s.downloadGrant(h), []string{"Range", fmt.Sprintf("bytes=%d-%d", c.from, c.to-1)}, nil)
		s.wantStatus(a, http.StatusPartialContent)
		if a.body != string(data[c.from:c.to]) {
			t.Fatalf("%d to %d: another body", c.from, c.to)
		}
		files, other := spy.files.Load(), spy.other.Load()
		if want := int64(c.to - c.from); files < want-head || files > want || other > 2*head {
			t.Errorf("%d to %d: the kernel sent %d bytes from the file, %d came through memory", c.from, c.to, files, other)
		}
	}
}
