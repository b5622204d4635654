package turnd

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// front is what pion has for one address that clients use, however many sockets or connections are behind it: a net.PacketConn whose
// packets are requests that were found in order, and whose answers pass here on their way back. Each front has a pion allocation manager
// of its own, so a client's address and a front make an allocation's 5-tuple.
//
// Packets come in on any goroutine (packet). Requests that changed nothing yet, but whose owner is known, wait in queue for the goroutine
// that pion reads with; all that follows, pion's own work included, is on that one.
type front struct {
	server    *Server
	number    int // in Server.fronts
	transport string
	local     net.Addr
	proven    bool // the transport has shown that a client's address is its own
	table     *allocations
	queue     chan *request
	quit      chan struct{}
	once      sync.Once

	// pion's goroutine
	current *request // that pion has
	nonce   []byte   // pion's last one. How old it is to pion, by a clock that may be set, pion tells: it is used until then
	space   []byte
	turning turning
}

// request is one that waits for pion. It owns its bytes.
type request struct {
	message
	raw     []byte
	client  netip.AddrPort
	via     carrier
	owner   string
	key     []byte
	place   *account     // taken for an Allocate, until the allocation has it
	next    *account     // the same for the port after it, if it is to be reserved
	kept    *reservation // that the request names
	made    *allocation
	granted bool
	stale   bool   // pion's nonce was too old once
	again   bool   // pion is to have it once more, with another one
	failed  Reason // why no relay could be opened
}

// failure is why pion refused what was in order.
func (q *request) failure() Reason {
	if q.failed != OK {
		return q.failed
	}
	return Internal
}

// queued is how many requests may wait for one front.
const queued = 1024

// maxRequest is the longest request: longer ones are not TURN's.
const maxRequest = 1280

func newFront(s *Server, number int, local net.Addr, proven bool) *front {
	return &front{server: s, number: number, local: local, proven: proven, table: newAllocations(), queue: make(chan *request, queued), quit: make(chan struct{})}
}

// packet handles what a client sent; it borrows p. It is called on many goroutines.
func (f *front) packet(p []byte, client netip.AddrPort, via carrier) {
	switch {
	case len(p) >= 4 && p[0]>>6 == 1:
		f.channelData(p, client)
	case isSTUN(p) && msgType(binary.BigEndian.Uint16(p)) == sendIndication:
		f.sendIndication(p, client)
	case isSTUN(p) && len(p) <= maxRequest:
		f.answer(p, client, via)
	default:
		f.server.count.drop(NotTURN)
	}
}

// channelData relays a ChannelData message (RFC 5766 11.6).
func (f *front) channelData(p []byte, client netip.AddrPort) {
	a, now := f.table.get(client), f.server.now()
	payload, peer, why := a.channelled(p, now)
	if why != OK {
		f.server.count.drop(why)
		return
	}
	a.send(payload, peer, now)
}

// channelled looks at a ChannelData message of a client whose allocation is a, nil if it has none: its payload, a view into p, and the peer that it is
// for, or why it goes nowhere.
func (a *allocation) channelled(p []byte, now int64) (payload []byte, peer netip.AddrPort, why Reason) {
	if a == nil {
		return nil, peer, NoAllocation
	}
	n := int(binary.BigEndian.Uint16(p[2:]))
	if n > len(p)-4 {
		return nil, peer, NotTURN
	}
	peer, ok := a.peers.Load().byNumber(binary.BigEndian.Uint16(p), now)
	if !ok {
		return nil, peer, NoChannel
	}
	return p[4 : 4+n], peer, OK
}

// messages are for indications: a parsed message has slices of itself, which the compiler lets be on the heap only.
var messages = sync.Pool{New: func() any { return new(message) }}

// sendIndication relays the payload of a Send indication (RFC 5766 10.2). Indications have no answer, whatever is wrong with them.
func (f *front) sendIndication(p []byte, client netip.AddrPort) {
	s := f.server
	a := f.table.get(client)
	m := messages.Get().(*message)
	defer messages.Put(m)
	*m = message{}
	switch {
	case a == nil:
		s.count.drop(NoAllocation)
		return
	case !m.parse(p) || len(m.peers) != 1 || !m.hasData || len(m.unknown) > 0:
		s.count.drop(Malformed)
		return
	}
	now := s.now()
	peer, ok := s.policy.endpoint(m.peers[0])
	if !ok {
		s.count.drop(PeerForbidden)
		return
	}
	if !a.peers.Load().permitted(peer.Addr(), now) {
		s.count.drop(NoPermission)
		return
	}
	a.send(m.data, peer, now)
}

// packetHeaders are the IPv4 and UDP headers of a packet. They count as relayed, for an empty packet is as much work as any other.
const packetHeaders = 28

// pay takes a payload of n bytes from the rate of the allocation's owner; false: it must be dropped.
func (a *allocation) pay(n int, now int64) bool {
	return a.owner.bytes.take(n+packetHeaders, a.front.server.accounts.rate, now)
}

// send sends a payload to a peer.
func (a *allocation) send(p []byte, peer netip.AddrPort, now int64) {
	s := a.front.server
	if !a.pay(len(p), now) {
		s.count.drop(Bandwidth)
		return
	}
	if a.relay.sock.send(p, peer) != nil {
		s.count.drop(SendFailed)
		return
	}
	a.traffic.sentPackets.Add(1)
	a.traffic.sentBytes.Add(uint64(len(p)))
}

// end ends the allocation: pion's reader learns it from the relay.
func (a *allocation) end(why Reason) {
	a.reason.CompareAndSwap(0, uint32(why))
	if a.relay.ending.CompareAndSwap(false, true) {
		a.relay.sock.close()
	}
}

// ended is called once, when pion has ended the allocation.
func (a *allocation) ended() {
	s := a.front.server
	s.total.end(a)
	a.reason.CompareAndSwap(0, uint32(Expired))
	s.stopped(a, Reason(a.reason.Load()))
	s.accounts.give(a.owner) // last: Run ends when all places are given back
}

// ReadFrom gives pion the next request that is in order.
func (f *front) ReadFrom(p []byte) (int, net.Addr, error) {
	if q := f.current; q != nil && q.again {
		q.again = false
		return copy(p, f.rewrite(q)), net.UDPAddrFromAddrPort(q.client), nil
	}
	f.settle()
	for {
		f.turning.waits()
		select {
		case q := <-f.queue:
			f.turning.works(f.server.now())
			if n, ok := f.admit(q, p); ok {
				f.current = q
				return n, net.UDPAddrFromAddrPort(q.client), nil
			}
		case <-f.quit:
			return 0, nil, net.ErrClosed
		}
	}
}

// settle is for a request that pion is done with.
func (f *front) settle() {
	q := f.current
	f.current = nil
	if q == nil {
		return
	}
	if q.made != nil && !q.granted { // the client was not told of it, and cannot use it
		q.made.end(Internal)
	}
	f.giveBack(q)
}

// giveBack gives back what a request took and did not use.
func (f *front) giveBack(q *request) {
	for _, place := range []*account{q.place, q.next} {
		if place != nil {
			f.server.accounts.give(place)
		}
	}
	if q.kept != nil {
		f.server.reservations.release(q.kept)
	}
	q.place, q.next, q.kept = nil, nil, nil
}

// WriteTo takes pion's answer: what it grants is learnt, then the client is told.
func (f *front) WriteTo(p []byte, _ net.Addr) (int, error) {
	var m message
	if !m.parse(p) {
		return len(p), nil
	}
	n := len(p)
	q := f.current
	if q == nil {
		return n, nil
	}
	if m.errorCode == codeStaleNonce && !q.stale {
		f.nonce = append(f.nonce[:0], m.nonce...)
		q.stale, q.again = true, true
		return n, nil
	}
	if m.typ != q.typ.success() || !f.learn(q) {
		f.giveBack(q) // before the client is told: it may try again at once
		f.refuse(q, q.failure())
		return n, nil
	}
	b := slices.Clone(p)
	if a := f.table.get(q.client); q.typ == allocateRequest && a != nil && a.token != (portToken{}) {
		b = seal(attr(b[:m.integrity], attrReservation, a.token[:]...), q.key)
	}
	f.granted(q, b)
	return n, nil
}

// LocalAddr returns the address that clients use: a part of pion's 5-tuples.
func (f *front) LocalAddr() net.Addr { return f.local }

// Close ends pion's reading, which ends the allocations.
func (f *front) Close() error {
	f.once.Do(func() { close(f.quit) })
	return nil
}

// SetDeadline, SetReadDeadline and SetWriteDeadline do nothing: pion has no use for them.
func (f *front) SetDeadline(time.Time) error      { return nil }
func (f *front) SetReadDeadline(time.Time) error  { return nil }
func (f *front) SetWriteDeadline(time.Time) error { return nil }

// transactions makes transaction ids of indications: no two alike, which is all that they are for. Safe for concurrent use.
type transactions struct {
	start uint32
	n     atomic.Uint64
}

func (t *transactions) next(id *[12]byte) {
	binary.BigEndian.PutUint32(id[:], t.start)
	binary.BigEndian.PutUint64(id[4:], t.n.Add(1))
}
