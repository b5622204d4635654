package turnd

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// doors counts connections, all, by source and by the network around it, and handshakes under way. Whoever is over a limit is turned away at once, so that no
// listener ever hangs. Safe for concurrent use.
type doors struct {
	all, each, hands int // limits

	handshakes atomic.Int64

	mu     sync.Mutex
	open   int
	source map[netip.Prefix]int // and networks; never 0
}

// netFactor is how many more connections a network may have than one source in it: who has a network has all of its addresses, and is not to take all
// places with them. It is the same as for gateways.
const netFactor = 4

func newDoors(cfg Config) *doors {
	return &doors{all: cfg.Connections, each: cfg.SourceConnections, hands: cfg.Handshakes, source: map[netip.Prefix]int{}}
}

// enter counts a connection; false: there are too many.
func (d *doors) enter(client netip.Addr) bool {
	host, network := sourceOf(client), networkOf(client)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open >= d.all || d.source[host] >= d.each || d.source[network] >= netFactor*d.each {
		return false
	}
	d.open++
	d.source[host]++
	d.source[network]++
	return true
}

// leave is the end of what enter counted.
func (d *doors) leave(client netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	for _, from := range [...]netip.Prefix{sourceOf(client), networkOf(client)} {
		if d.source[from]--; d.source[from] == 0 {
			delete(d.source, from)
		}
	}
}

// count returns how many connections there are.
func (d *doors) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// begin counts a handshake; false: there are too many.
func (d *doors) begin() bool {
	if d.handshakes.Add(1) > int64(d.hands) {
		d.handshakes.Add(-1)
		return false
	}
	return true
}

// done is the end of what begin counted.
func (d *doors) done() { d.handshakes.Add(-1) }
