package gateway

import (
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
)

// TestIdleSessionHeap: what an idle session keeps on the heap is gnet's connection with its callback and two table entries, nothing of ours. The
// clients hold bare descriptors, so that they do not count.
func TestIdleSessionHeap(t *testing.T) {
	if testing.Short() {
		t.Skip("-short is how the race detector's run is called, and its bookkeeping makes the heap's size meaningless; the plain run measures")
	}
	h := start(t, func(c *Config) { c.Loops = 1 })
	const warm, n = 50, 2000
	var fds []int
	t.Cleanup(func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	})
	open := func(a stanza.Account) {
		c := h.dialOnly()
		c.preamble()
		c.handshake((&stanza.Bind{Account: a, Device: 1}).Append(nil))
		c.wantTag(stanza.TagBound)
		raw, err := c.conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			if d, err := unix.Dup(int(fd)); err == nil {
				fds = append(fds, d)
			}
		})
		c.conn.Close()
	}
	measure := func() (bytes, objects uint64) {
		h.onLoopWait(h.g.loops[0], func() {})
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.HeapObjects
	}
	for a := range warm {
		open(stanza.Account(a + 1))
	}
	b0, o0 := measure()
	for a := range n {
		open(stanza.Account(warm + a + 1))
	}
	b1, o1 := measure()
	bytes, objects := float64(b1-b0)/n, float64(o1-o0)/n
	t.Logf("%.0f bytes and %.1f objects of heap for each idle session", bytes, objects)
	if bytes > 384 || objects > 2.2 { // 317 when nothing else runs; what a busy machine has not swept yet counts too
		t.Errorf("%.0f bytes and %.1f objects of heap for each idle session", bytes, objects)
	}
}

// onLoopWait runs f on a loop and waits for it.
func (h *harness) onLoopWait(l *loop, f func()) {
	h.t.Helper()
	done := make(chan struct{})
	h.onLoop(l, func() {
		f()
		close(done)
	})
	<-done
}

// TestSessionForgetsAddresses: a session's connection is without its addresses, and lives on.
func TestSessionForgetsAddresses(t *testing.T) {
	h := start(t, func(c *Config) { c.Loops = 1 })
	c := h.bind(7)
	var remote, local net.Addr
	l := h.g.loops[0]
	h.onLoopWait(l, func() { remote, local = l.conn(0).RemoteAddr(), l.conn(0).LocalAddr() })
	if remote != nil || local != nil {
		t.Errorf("the session remembers %v and %v", remote, local)
	}
	c.send(stanza.Ping{}.Append(nil))
	c.wantTag(stanza.TagPong)
}
