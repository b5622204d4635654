package turnd

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// maxPacket is the longest packet that is relayed; longer ones would be fragments on any path.
const maxPacket = 1600

// headroom is what is left free before a payload that was read, so that the message for the client is made around it where it is: the
// header of a Data indication with an IPv6 peer, and the padding after it.
const headroom = headerSize + 24 + 4

// port is the socket of a relay. Safe for concurrent use, but for relay, which is for one goroutine.
type port interface {
	// send sends a packet; it borrows p.
	send(p []byte, to netip.AddrPort) error
	// relay has r handle what peers send, until close.
	relay(r *relay) error
	// local returns where it is.
	local() netip.AddrPort
	close()
}

// relay is the socket of one allocation, as pion sees it: a net.PacketConn that nothing is ever read from or written to. What peers send
// goes to the client on the goroutine that pion reads with, and what clients send never was pion's.
type relay struct {
	server *Server
	sock   port
	local  netip.AddrPort
	owner  *allocation // set before pion has the relay

	ending atomic.Bool // by this package: pion is told by ReadFrom
	once   sync.Once
	closed chan struct{} // by pion
}

var _ net.PacketConn = (*relay)(nil)

// ReadFrom relays packets to the client until the allocation ends. If pion ended it, it does not return: pion's reader would remove
// the allocation once more, by its client's address, which may be that of a new allocation by now.
func (r *relay) ReadFrom([]byte) (int, net.Addr, error) {
	_ = r.sock.relay(r)
	select {
	case <-r.closed:
		runtime.Goexit()
	default:
	}
	if !r.ending.Load() { // the socket failed
		r.owner.end(Internal)
	}
	return 0, nil, net.ErrClosed
}

// fromPeer handles a packet that came to the relayed address: p[headroom:] is its payload.
func (r *relay) fromPeer(p []byte, from netip.AddrPort) {
	a, now := r.owner, r.server.now()
	n := len(p) - headroom
	list := a.peers.Load()
	number, bound := list.byPeer(from, now)
	if !list.permitted(from.Addr(), now) {
		r.server.count.drop(NoPermission)
		return
	}
	if !a.pay(n, now) {
		r.server.count.drop(Bandwidth)
		return
	}
	var out []byte
	if bound {
		out = p[headroom-4:]
		binary.BigEndian.PutUint16(out, number)
		binary.BigEndian.PutUint16(out[2:], uint16(n))
		if a.via.stream() {
			out = pad(out)
		}
	} else {
		out = r.indication(p, from)
	}
	if a.via.deliver(out, a.client) != nil {
		r.server.count.drop(SendFailed)
		return
	}
	a.traffic.recvPackets.Add(1)
	a.traffic.recvBytes.Add(uint64(n))
}

// indication makes a Data indication around a payload (RFC 5766 10.3).
func (r *relay) indication(p []byte, from netip.AddrPort) []byte {
	from = r.server.policy.outward(from)
	n := len(p) - headroom
	var id [12]byte
	r.server.transactions.next(&id)
	var head [headroom]byte
	b := begin(head[:0], dataIndication, &id)
	b = attrAddr(b, attrPeer, from, &id)
	b = binary.BigEndian.AppendUint16(b, attrData)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	out := p[headroom-len(b):]
	copy(out, b)
	out = pad(out)
	return length(out, 0)
}

// pad appends zeros up to a multiple of four; sockets leave room for them.
func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// Close is called by pion when the allocation has ended there.
func (r *relay) Close() error {
	r.once.Do(func() {
		close(r.closed)
		r.sock.close()
		r.owner.ended()
	})
	return nil
}

// LocalAddr returns where the socket is.
func (r *relay) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(r.local) }

// WriteTo is for nobody: no payload passes pion.
func (r *relay) WriteTo([]byte, net.Addr) (int, error) { return 0, net.ErrWriteToConnected }

// SetDeadline, SetReadDeadline and SetWriteDeadline do nothing: pion has no use for them.
func (r *relay) SetDeadline(time.Time) error      { return nil }
func (r *relay) SetReadDeadline(time.Time) error  { return nil }
func (r *relay) SetWriteDeadline(time.Time) error { return nil }
