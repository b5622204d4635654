package turnd

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// canShare says that the kernel spreads packets over sockets with one address.
const canShare = true

func sharePort(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	if err != nil {
		return err
	}
	return failed
}
