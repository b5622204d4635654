package swarm

import "golang.org/x/sys/unix"

// latePort has the port chosen at connect, where it need only be unique for this pair of addresses.
func latePort(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}
