package turnd

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// carrier takes messages back to a client: a UDP socket, or one connection. Safe for concurrent use.
type carrier interface {
	// deliver sends one whole message; it borrows p. Over a stream the message must be padded, and to is not looked at.
	deliver(p []byte, to netip.AddrPort) error
	// post is deliver for answers: it never waits. What cannot be sent soon is dropped, or the connection ended.
	post(p []byte, to netip.AddrPort) error
	// gone reports whether nothing more can be delivered, for ever.
	gone() bool
	// stream reports whether ChannelData must be padded to four bytes.
	stream() bool
}

// allocation is one relayed address: what packets need to know of it. pion has another one, with its lifetime.
type allocation struct {
	front  *front
	client netip.AddrPort
	via    carrier
	owner  *account
	relay  *relay
	began  time.Time
	token  portToken // of the port after this one; none: zeros
	id     [12]byte  // of the request that made it: a copy of it is answered again
	over   bool      // guarded by front.table.mu

	peers   atomic.Pointer[peers] // replaced, never changed; by the front's goroutine only
	traffic traffic
	reason  atomic.Uint32 // why it ended, once it did
}

// The times of RFC 5766 8 and 11.
const (
	permissionLife = 5 * time.Minute
	channelLife    = 10 * time.Minute
)

// maxPermissions and maxChannels bound one allocation.
const (
	maxPermissions = 64
	maxChannels    = 64
)

// peers is whom an allocation may exchange packets with. It is never changed once it is in use. Times are those of Server.now.
type peers struct {
	channels []channel
	permits  []permit
}

type channel struct {
	peer    netip.AddrPort
	expires int64
	number  uint16
}

type permit struct {
	ip      netip.Addr
	expires int64
}

// byNumber returns a channel's peer.
func (p *peers) byNumber(number uint16, now int64) (netip.AddrPort, bool) {
	for i := range p.channels {
		if c := &p.channels[i]; c.number == number && c.expires > now {
			return c.peer, true
		}
	}
	return netip.AddrPort{}, false
}

// byPeer returns the number of a peer's channel.
func (p *peers) byPeer(peer netip.AddrPort, now int64) (uint16, bool) {
	for i := range p.channels {
		if c := &p.channels[i]; c.peer == peer && c.expires > now {
			return c.number, true
		}
	}
	return 0, false
}

// permitted reports whether there is a permission for a peer's address. A channel is bound to one with a permission, which may end before it:
// then the client may still send on the channel, and the peer may not (RFC 5766 10.3).
func (p *peers) permitted(ip netip.Addr, now int64) bool {
	for i := range p.permits {
		if x := &p.permits[i]; x.ip == ip && x.expires > now {
			return true
		}
	}
	return false
}

// with returns a copy without what has expired, with permissions for addresses and a channel, if it has a number.
func (p *peers) with(now int64, ips []netip.Addr, c channel) *peers {
	q := &peers{}
	for _, x := range p.permits {
		if x.expires > now && !slices.Contains(ips, x.ip) {
			q.permits = append(q.permits, x)
		}
	}
	for _, ip := range ips {
		q.permits = append(q.permits, permit{ip: ip, expires: now + int64(permissionLife)})
	}
	for _, x := range p.channels {
		if x.expires > now && x.number != c.number {
			q.channels = append(q.channels, x)
		}
	}
	if c.number != 0 {
		q.channels = append(q.channels, c)
	}
	return q
}

// allocations are those of one front, by client. Safe for concurrent use.
type allocations struct {
	mu   sync.RWMutex
	list map[netip.AddrPort]*allocation
}

func newAllocations() *allocations { return &allocations{list: map[netip.AddrPort]*allocation{}} }

// get returns a client's allocation, nil if there is none.
func (t *allocations) get(client netip.AddrPort) *allocation {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.list[client]
}

// put adds a; false: it has ended already.
func (t *allocations) put(a *allocation) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !a.over {
		t.list[a.client] = a
	}
	return !a.over
}

// drop removes a, for ever, and no other one that its client has by now.
func (t *allocations) drop(a *allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.over = true
	if t.list[a.client] == a {
		delete(t.list, a.client)
	}
}

// all returns those that there are now.
func (t *allocations) all() []*allocation {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*allocation, 0, len(t.list))
	for _, a := range t.list {
		list = append(list, a)
	}
	return list
}
