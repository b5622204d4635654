package turnd

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fastSocket is a UDP socket that a poller reads. Go's own poller does not know it: that one wakes a second thread for most packets, which
// costs as much as relaying one. Safe for concurrent use, but for serve, which is for one goroutine.
type fastSocket struct {
	fd     int
	six    bool // an IPv6 socket, which may have IPv4 clients too
	addr   netip.AddrPort
	singly atomic.Bool // the kernel takes no runs from it
	poller *poller
	handle func(b *batch, p []byte, segment int, from netip.AddrPort)

	more bool // in poller.more; the poller's goroutine's

	// refs is twice the number of calls that use fd now, and 1 when it is to be closed; whoever finds 1 alone closes it.
	refs atomic.Int64
	done chan struct{}
}

// openFast opens a socket for a poller; shared lets others have the same address. buffer is what may wait in the kernel, 0: its own default.
func openFast(p *poller, addr netip.AddrPort, shared bool, buffer int) (*fastSocket, error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &fastSocket{fd: fd, six: family == unix.AF_INET6, poller: p, done: make(chan struct{})}
	if err := s.setUp(addr, shared, buffer); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("udp %s: %w", addr, err)
	}
	return s, nil
}

func (s *fastSocket) setUp(addr netip.AddrPort, shared bool, buffer int) error {
	if s.six { // as Go has it: the unspecified address takes IPv4 as well
		_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if shared {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if buffer > 0 { // as much as the kernel allows
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, buffer)
	}
	_ = unix.SetsockoptInt(s.fd, unix.SOL_UDP, unix.UDP_GRO, 1) // older kernels have none
	if _, err := unix.GetsockoptInt(s.fd, unix.SOL_UDP, unix.UDP_SEGMENT); err != nil {
		s.singly.Store(true)
	}
	var to unix.Sockaddr
	if s.six {
		to = &unix.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port()), ZoneId: zoneOf(addr.Addr())}
	} else {
		to = &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	}
	if err := unix.Bind(s.fd, to); err != nil {
		return os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(s.fd)
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		s.addr = netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *unix.SockaddrInet6:
		s.addr = netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port))
	}
	return err
}

// zoneOf returns the number of a link-local address's interface, which may be written as a name; 0 for any other.
func zoneOf(ip netip.Addr) uint32 {
	if i, err := net.InterfaceByName(ip.Zone()); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.Atoi(ip.Zone()) // what is neither is refused by bind
	return uint32(n)
}

// serve has the poller read packets, and call handle with each on its own goroutine, until the socket is closed.
func (s *fastSocket) serve(handle func(b *batch, p []byte, segment int, from netip.AddrPort)) error {
	s.handle = handle
	if err := s.poller.add(s); err != nil {
		return err
	}
	<-s.done
	return net.ErrClosed
}

// send sends a packet; it borrows p.
func (s *fastSocket) send(p []byte, to netip.AddrPort) error {
	if !s.hold() {
		return net.ErrClosed
	}
	defer s.release()
	var name unix.RawSockaddrInet6
	n := nameOf(&name, to, s.six)
	_, _, err := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&name)), uintptr(n))
	runtime.KeepAlive(p)
	if err != 0 {
		return os.NewSyscallError("sendto", err)
	}
	return nil
}

// deliver is send: the socket as a carrier.
func (s *fastSocket) deliver(p []byte, to netip.AddrPort) error { return s.send(p, to) }

// post is send.
func (s *fastSocket) post(p []byte, to netip.AddrPort) error { return s.send(p, to) }

func (s *fastSocket) stream() bool { return false }

// gone reports nothing: a listener's socket ends with the server.
func (s *fastSocket) gone() bool { return false }

// local returns where the socket is.
func (s *fastSocket) local() netip.AddrPort { return s.addr }

// hold keeps fd the socket's until release; false: it is closed.
func (s *fastSocket) hold() bool {
	if s.refs.Add(2)&1 == 0 {
		return true
	}
	s.release()
	return false
}

// closing reports whether close was called.
func (s *fastSocket) closing() bool { return s.refs.Load()&1 != 0 }

func (s *fastSocket) release() {
	if s.refs.Add(-2) == 1 {
		s.end()
	}
}

// close ends serve, and closes fd when nobody uses it any more.
func (s *fastSocket) close() {
	for {
		was := s.refs.Load()
		if was&1 != 0 {
			return
		}
		if s.refs.CompareAndSwap(was, was|1) {
			break
		}
	}
	close(s.done)
	if s.refs.Load() == 1 {
		s.end()
	}
}

// end closes fd, once.
func (s *fastSocket) end() {
	if s.refs.CompareAndSwap(1, -1<<40|1) {
		s.poller.remove(s)
		_ = unix.Close(s.fd)
	}
}
