package gateway

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// places returns where gnet shall listen: what the supervisor gave, or what reserve finds.
func (g *Gateway) places() (addrs []string, release func(), err error) {
	var at netip.AddrPort
	if addrs, release = g.deps.Listen, func() {}; len(addrs) == 0 {
		beside := g.deps.Takeover
		if !CanHandOver {
			beside = nil // it has ended by now
		}
		addrs, release, err = reserve(g.cfg.Listen, beside)
	}
	if err == nil {
		_, text, _ := strings.Cut(addrs[0], "://")
		at, err = netip.ParseAddrPort(text)
		g.addr.Store(net.TCPAddrFromAddrPort(at))
	}
	return addrs, release, err
}

// reserve resolves HOST:PORT to what gnet shall listen on, IPv4 first, and holds the ports with bound sockets that do not listen until
// release (safe to call more than once). Event loops share a port with SO_REUSEPORT, under which a second process of the same user
// would silently take half of the connections: that the port is free is checked without it first, unless it is the port of the gateway that this one is to
// stand beside.
func reserve(listen string, beside *Takeover) (addrs []string, release func(), err error) {
	hp, err := splitListen(listen)
	if err != nil {
		return nil, nil, err
	}
	ips, err := resolve(hp.host)
	if err != nil {
		return nil, nil, err
	}
	var held []int
	var once sync.Once
	release = func() {
		once.Do(func() {
			for _, fd := range held {
				_ = unix.Close(fd)
			}
		})
	}
	port := uint16(hp.port)
	if port == 0 && beside != nil {
		port = uint16(beside.old.port)
	}
	for _, ip := range ips {
		fd, at, err := hold(netip.AddrPortFrom(ip, port), beside != nil)
		if err != nil {
			release()
			return nil, nil, fmt.Errorf("listen %s: %w", listen, err)
		}
		held = append(held, fd)
		port = at.Port() // both families on the same
		network := "tcp4"
		if ip.Is6() {
			network = "tcp6"
		}
		addrs = append(addrs, network+"://"+at.String())
	}
	return addrs, release, nil
}

// resolve returns the addresses for a host: one, or the unspecified one of each family this machine has for an empty host.
func resolve(host string) ([]netip.Addr, error) {
	if host == "" {
		ips := []netip.Addr{netip.IPv4Unspecified()}
		if ln, err := net.Listen("tcp6", "[::]:0"); err == nil {
			_ = ln.Close()
			ips = append(ips, netip.IPv6Unspecified())
		}
		return ips, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip", host)
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		if ip.Unmap().Is4() {
			return []netip.Addr{ip.Unmap()}, nil
		}
	}
	return ips[:1], nil
}

// hold checks that nobody listens at the address, and then binds a socket there; beside: the process that is to be replaced does.
func hold(at netip.AddrPort, beside bool) (int, netip.AddrPort, error) {
	if beside {
		return bind(at, unix.SO_REUSEADDR, reusePort)
	}
	fd, free, err := bind(at, unix.SO_REUSEADDR)
	if err != nil {
		return -1, at, err
	}
	if err := unix.Listen(fd, 1); err != nil { // binding alone may be allowed beside a listener
		_ = unix.Close(fd)
		return -1, at, os.NewSyscallError("listen", err)
	}
	if err := unix.Close(fd); err != nil {
		return -1, at, os.NewSyscallError("close", err)
	}
	fd, got, err := bind(free, unix.SO_REUSEADDR, reusePort)
	if err != nil {
		return -1, at, err
	}
	// That option was for connections in TIME_WAIT. A socket that keeps it and does not listen lets another program listen at its address.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
		_ = unix.Close(fd)
		return -1, at, os.NewSyscallError("setsockopt", err)
	}
	return fd, got, nil
}

// bind returns a bound stream socket with the given socket options set, and where it is bound.
func bind(at netip.AddrPort, options ...int) (fd int, got netip.AddrPort, err error) {
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(at.Port()), Addr: as4(at.Addr())})
	if at.Addr().Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: zone(at.Addr())}
		options = append(options, -1)
	}
	syscall.ForkLock.RLock()
	fd, err = unix.Socket(family, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, at, os.NewSyscallError("socket", err)
	}
	for _, o := range options {
		if o == -1 {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		} else {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1)
		}
		if err != nil {
			_ = unix.Close(fd)
			return -1, at, os.NewSyscallError("setsockopt", err)
		}
	}
	if err = unix.Bind(fd, sa); err != nil {
		_ = unix.Close(fd)
		return -1, at, os.NewSyscallError("bind", err)
	}
	port, err := boundPort(fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, at, err
	}
	return fd, netip.AddrPortFrom(at.Addr(), port), nil
}

func boundPort(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return uint16(sa.Port), nil
	}
	return 0, fmt.Errorf("getsockname: %T", sa)
}

func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}

// zone returns the number of an address's interface.
func zone(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	i, err := net.InterfaceByName(a.Zone())
	if err != nil {
		return 0
	}
	return uint32(i.Index)
}
