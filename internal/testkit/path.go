package testkit

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Path is a TCP way that is slow, loses connections and can be cut: it listens in front of an address. What it holds back counts against
// the senders' TCP windows, as on a long way. It ends with the test. Safe for concurrent use.
type Path struct {
	Addr   string
	target string
	ln     net.Listener
	group  sync.WaitGroup

	mu    sync.Mutex
	delay time.Duration // of each direction
	lossy float64       // how likely a piece of up to 16 KiB resets its connection
	held  chan struct{} // closed when the path is whole again; nil: it is whole
	conns map[net.Conn]struct{}
	ended bool
	rng   *rand.Rand
}

// NewPath returns a path to target that is whole and quick.
func NewPath(t testing.TB, target string) *Path {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Path{Addr: ln.Addr().String(), target: target, ln: ln, conns: map[net.Conn]struct{}{}, rng: rand.New(rand.NewPCG(1, 2))}
	p.group.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Slow sets the delay of each direction, and how likely a piece of what goes over it is to reset its connection.
func (p *Path) Slow(delay time.Duration, lossy float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.lossy = delay, lossy
}

// Cut lets nothing pass any more, in silence, as a partition does: connections stay, new ones are taken and hear nothing.
func (p *Path) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
}

// Mend ends a cut. What was sent meanwhile on connections that still are arrives.
func (p *Path) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// Reset ends all connections.
func (p *Path) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *Path) close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.ln.Close()
	p.Mend()
	p.Reset()
	p.group.Wait()
}

func (p *Path) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.group.Go(func() { p.carry(c) })
	}
}

// keep notes a connection to be closed with the path; false: that has ended.
func (p *Path) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Path) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

func (p *Path) carry(from net.Conn) {
	if !p.keep(from) {
		return
	}
	defer p.drop(from)
	p.whole()
	to, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(to) {
		return
	}
	defer p.drop(to)
	var both sync.WaitGroup
	both.Go(func() { p.oneWay(to, from) })
	both.Go(func() { p.oneWay(from, to) })
	both.Wait()
}

// whole waits until the path is not cut.
func (p *Path) whole() {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held != nil {
		<-held
	}
}

type piece struct {
	at    time.Time
	bytes []byte
}

// oneWay carries one direction until either end closes, then closes both.
func (p *Path) oneWay(to, from net.Conn) {
	pieces := make(chan piece, 64)
	var writer sync.WaitGroup
	writer.Go(func() {
		defer to.Close()
		defer from.Close()
		broken := false
		for x := range pieces {
			if broken { // the reader may be at handing over what nobody wants any more
				continue
			}
			time.Sleep(time.Until(x.at)) // the delay itself, nothing is waited for
			p.whole()
			if _, err := to.Write(x.bytes); err != nil {
				broken = true
				to.Close()
				from.Close()
			}
		}
	})
	for {
		buf := make([]byte, 16<<10)
		n, err := from.Read(buf)
		if n > 0 && !p.loses() {
			pieces <- piece{time.Now().Add(p.lag()), buf[:n]}
		} else if n > 0 {
			err = io.ErrClosedPipe
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	writer.Wait()
}

func (p *Path) lag() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay
}

func (p *Path) loses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lossy > 0 && p.rng.Float64() < p.lossy
}
