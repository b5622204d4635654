package turnd

import (
	"context"
	"net"
	"net/netip"
	"runtime"
)

// openSocket opens a UDP socket, whose drops count counts. shared lets others have the same address (SO_REUSEPORT); buffer is what may
// wait in the kernel, 0: what the kernel thinks right.
func openSocket(count *counters, network, addr string, shared bool, buffer int) (*socket, error) {
	var lc net.ListenConfig
	if shared {
		lc.Control = sharePort
	}
	c, err := lc.ListenPacket(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UDPConn)
	if buffer > 0 {
		_ = conn.SetReadBuffer(buffer) // as much as the kernel allows
		_ = conn.SetWriteBuffer(buffer)
	}
	return &socket{conn: conn, count: count}, nil
}

// sockets is how many share one address.
func (s *Server) sockets() int {
	if s.cfg.Sockets == 0 {
		return (runtime.NumCPU() + 1) / 2
	}
	return s.cfg.Sockets
}

// listenUDP opens the sockets of one address, and a front for all of them.
func (s *Server) listenUDP(addr string) error {
	at, err := s.unused(addr)
	if err != nil {
		return err
	}
	if canBatch && s.cfg.Batches {
		return s.listenFast(at)
	}
	n := s.sockets()
	if !canShare {
		n = 1
	}
	var f *front
	for range n {
		sock, err := openSocket(s.count, "udp", at.String(), n > 1, socketBuffer)
		if err != nil {
			return err
		}
		if f == nil {
			at = sock.local() // port 0 is the first one's
			f = s.addFront("udp", sock.conn.LocalAddr(), false)
		}
		s.closers = append(s.closers, sock.close)
		s.loops = append(s.loops, func() error {
			return sock.serve(0, func(p []byte, from netip.AddrPort) { f.packet(p, from, sock) })
		})
	}
	return nil
}

// unused returns what an address is, as this machine has it. An error is the kernel's for one that is in use: sockets that share theirs would
// share it with another process too, which would have half of the clients.
func (s *Server) unused(addr string) (netip.AddrPort, error) {
	sock, err := openSocket(s.count, "udp", addr, false, 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer sock.close()
	u, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip := u.AddrPort().Addr().Unmap()
	if u.IP == nil { // any: of both families, if there are both
		ip = sock.local().Addr()
	}
	return netip.AddrPortFrom(ip, uint16(u.Port)), nil
}
