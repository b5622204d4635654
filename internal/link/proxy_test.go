package link

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy stands between dialler and server, to break connections in ways that neither end announces.
type proxy struct {
	lis  net.Listener
	dest string
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	muted bool
}

func newProxy(t *testing.T, dest string) *proxy {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{lis: lis, dest: dest}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		lis.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.lis.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.lis.Accept()
		if err != nil {
			return
		}
		d, err := net.Dial("tcp", p.dest)
		if err != nil {
			c.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, c, d)
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(c, d) })
		p.wg.Go(func() { p.copy(d, c) })
	}
}

func (p *proxy) copy(dst, src net.Conn) {
	defer dst.Close()
	_, _ = io.Copy(filter{p, dst}, src)
}

type filter struct {
	p   *proxy
	dst net.Conn
}

func (f filter) Write(b []byte) (int, error) {
	f.p.mu.Lock()
	muted := f.p.muted
	f.p.mu.Unlock()
	if muted {
		return len(b), nil
	}
	return f.dst.Write(b)
}

// mute swallows all bytes.
func (p *proxy) mute(on bool) {
	p.mu.Lock()
	p.muted = on
	p.mu.Unlock()
}

// cut resets every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if tc, ok := c.(*net.TCPConn); ok {
			_ = tc.SetLinger(0)
		}
		c.Close()
	}
	p.conns = nil
}

// lines is a log that can be waited on.
type lines struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) await(t *testing.T, part string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) { // a log tells nobody of its lines
		if strings.Contains(l.String(), part) {
			return
		}
	}
	t.Fatalf("%q was not logged:\n%s", part, l.String())
}
