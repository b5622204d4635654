package gateway

import (
	"testing"

	"linecard.example/internal/wire"
)

// fullConn is a connection whose socket has not taken some bytes.
type fullConn struct {
	*stubConn
	waiting int
}

func (c *fullConn) OutboundBuffered() int { return c.waiting }

// TestBacklogPages: thousands of slow sessions are looked at a page a tick; the sums are those of all, and who has caught up or is gone is
// let go, wherever in the list.
func TestBacklogPages(t *testing.T) {
	b := newBench(t)
	l := b.l
	const n = 3*slowPage + 10
	var conns []*fullConn
	for range n {
		c := &fullConn{&stubConn{}, 3}
		s, _ := l.newSession(&handshake{conn: c}, &wire.Finish{}, &request{account: 5, device: 1})
		l.noteSlow(s)
		l.noteSlow(s) // noted once
		conns = append(conns, c)
	}
	l.slots.Release(l.backlog.slow[1].slot)
	for range 3 {
		l.sumBacklog()
		if got := l.backlog.sessions.Load(); got != 0 {
			t.Fatalf("%d sessions before all were looked at", got)
		}
	}
	l.sumBacklog()
	if s, bytes := l.backlog.sessions.Load(), l.backlog.bytes.Load(); s != n-1 || bytes != 3*(n-1) {
		t.Fatalf("%d sessions, %d bytes, of %d", s, bytes, n-1)
	}
	for i, c := range conns {
		if i%2 == 0 {
			c.waiting = 0
		}
	}
	conns[n-1].waiting = 9
	for range 5 {
		l.sumBacklog()
	}
	left := int64(n/2 - 1)
	if s, bytes, peak := l.backlog.sessions.Load(), l.backlog.bytes.Load(), l.backlog.peak.Load(); s != left || bytes != 3*left+6 || peak != 9 {
		t.Fatalf("%d sessions, %d bytes, %d at most, want %d sessions", s, bytes, peak, left)
	}
}
