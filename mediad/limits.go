package mediad

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"linecard.example/internal/stanza"
)

// tally counts requests under way, all and by account. Safe for concurrent use.
type tally struct {
	all, each int // limits

	mu      sync.Mutex
	now     int
	account map[stanza.Account]int // never 0
}

func newTally(all, each int) *tally {
	return &tally{all: all, each: each, account: map[stanza.Account]int{}}
}

// enter counts a request whose account is not known yet; false: there are too many.
func (t *tally) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now >= t.all {
		return false
	}
	t.now++
	return true
}

// leave is the end of what enter counted.
func (t *tally) leave() {
	t.mu.Lock()
	t.now--
	t.mu.Unlock()
}

// take counts a request of an account; false: it has too many.
func (t *tally) take(a stanza.Account) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.account[a] >= t.each {
		return false
	}
	t.account[a]++
	return true
}

// give is the end of what take counted.
func (t *tally) give(a stanza.Account) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.account[a]--; t.account[a] == 0 {
		delete(t.account, a)
	}
}

// doors counts connections, all and by source, and closes those above the limits: at once, so that the listener never hangs. It sees
// them as http.Server.ConnState, which leaves them what they are: a wrapped one would lose sendfile. Safe for concurrent use.
type doors struct {
	all, each int // limits
	count     *counters

	mu     sync.Mutex
	open   map[net.Conn]netip.Prefix
	source map[netip.Prefix]int // never 0
}

func newDoors(all, each int, count *counters) *doors {
	return &doors{all: all, each: each, count: count, open: map[net.Conn]netip.Prefix{}, source: map[netip.Prefix]int{}}
}

// state is the hook. A connection that is closed in it has its StateClosed later, as any other, but was never counted.
func (d *doors) state(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if !d.enter(c) {
			c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		d.leave(c)
	}
}

func (d *doors) enter(c net.Conn) bool {
	from := sourceOf(c.RemoteAddr())
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.open) >= d.all || d.source[from] >= d.each {
		d.count.turnedAway.Inc()
		return false
	}
	d.open[c] = from
	d.source[from]++
	d.count.connections.Set(float64(len(d.open)))
	return true
}

func (d *doors) leave(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, ok := d.open[c]
	if !ok {
		return
	}
	delete(d.open, c)
	if d.source[from]--; d.source[from] == 0 {
		delete(d.source, from)
	}
	d.count.connections.Set(float64(len(d.open)))
}

// sourceOf is whom a connection counts for: an IPv4 address, or the IPv6 /56 that one customer has, as gateways see it.
func sourceOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 56
	}
	p, _ := ip.Prefix(bits) // fails for no length that an address can have
	return p
}
