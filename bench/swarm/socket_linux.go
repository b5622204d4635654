package swarm

import "golang.org/x/sys/unix"

// latePort has the port chosen at connect, where it need only be unique for this pair of addresses, and out of nearly all ports, whatever
// ip_local_port_range says. Kernels before 6.3 do not know the latter: then that range binds.
func latePort(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, 65535<<16|1024)
}
