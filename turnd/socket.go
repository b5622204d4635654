package turnd

import (
	"errors"
	"net"
	"net/netip"
)

// socket is one UDP socket. Safe for concurrent use, but for serve, which is for one goroutine.
type socket struct {
	conn  *net.UDPConn
	count *counters
}

// socketBuffer is how much of each socket of a listener may wait in the kernel.
const socketBuffer = 4 << 20

// serve reads packets until the socket is closed, and calls handle with each: room bytes that are free, then the packet; what handle gets is
// valid until it returns, and has room for padding after it. Longer ones than maxPacket are dropped. Other errors than the end are those of
// packets that were sent (ICMP), and of a kernel short of memory: they end nothing.
func (s *socket) serve(room int, handle func(p []byte, from netip.AddrPort)) error {
	buf := make([]byte, room+maxPacket+4)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf[room : room+maxPacket+1])
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			continue
		}
		if n > maxPacket { // cut, probably
			s.count.drop(TooLarge)
			continue
		}
		handle(buf[:room+n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	}
}

// relay has a relay handle each packet.
func (s *socket) relay(r *relay) error { return s.serve(headroom, r.fromPeer) }

// send sends a packet; it borrows p.
func (s *socket) send(p []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(p, to)
	return err
}

// deliver is send: the socket as a carrier.
func (s *socket) deliver(p []byte, to netip.AddrPort) error { return s.send(p, to) }

// post is send, which never waits for long: the kernel drops what has no room.
func (s *socket) post(p []byte, to netip.AddrPort) error { return s.send(p, to) }

func (s *socket) gone() bool { return false }

func (s *socket) stream() bool { return false }

// local returns the address that the socket has.
func (s *socket) local() netip.AddrPort {
	a := s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (s *socket) close() { _ = s.conn.Close() }
