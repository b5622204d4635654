package shard

import (
	"net"
	"slices"
	"sync"
)

// lobby holds the connections whose dialler is not identified yet. Anybody can make those, so they are bounded; when one too many comes, the one
// that has waited longest has to go: a member says who it is within milliseconds, and whoever only holds places must not keep members out.
// Safe for concurrent use.
type lobby struct {
	mu      sync.Mutex
	waiting []net.Conn // in the order in which they came
}

// enter takes c in, and closes the oldest connection if there is no room.
func (l *lobby) enter(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == maxHandshakes {
		l.waiting[0].Close()
		l.waiting = slices.Delete(l.waiting, 0, 1)
	}
	l.waiting = append(l.waiting, c)
}

// leave lets c go, and reports whether it was still there: not, if it had to make room.
func (l *lobby) leave(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, c)
	if i < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	return true
}
