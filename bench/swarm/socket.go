package swarm

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sockaddr turns an address into the kernel's form, once and not per connection.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Unmap().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// What connections of sessions that are far have.
const (
	farSegment = 1400
	farBuffer  = 4 << 10
)

// dial begins a TCP connection from source (nil: any) to server. The descriptor does not block; the connection is made when it becomes
// writable.
func dial(server, source unix.Sockaddr, far bool) (fd int, err error) {
	family := unix.AF_INET6
	if _, v4 := server.(*unix.SockaddrInet4); v4 {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
			fd = -1
		}
	}()
	if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fd, fmt.Errorf("TCP_NODELAY: %w", err)
	}
	if far {
		if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, farSegment); err != nil {
			return fd, fmt.Errorf("TCP_MAXSEG: %w", err)
		}
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, farBuffer); err != nil {
			return fd, fmt.Errorf("SO_RCVBUF: %w", err)
		}
	}
	if source != nil {
		latePort(fd)
		if err = unix.Bind(fd, source); err != nil {
			return fd, fmt.Errorf("bind: %w", err)
		}
	}
	if err = unix.Connect(fd, server); err != nil && err != unix.EINPROGRESS {
		return fd, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// dialError returns the fault of a connection that could not be made, nil for one that stands.
func dialError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	return err
}

// reset makes the coming close an RST: the other side learns of it at once, and no TIME_WAIT keeps the port.
func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
}
