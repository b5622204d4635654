package gateway

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// CanHandOver reports whether sessions can be moved to another process on this system.
const CanHandOver = true

// samePeer checks that the process at the other end is of this user, or of the system's.
func samePeer(c *net.UnixConn) error {
	cred, err := peerCred(c)
	if err != nil {
		return fmt.Errorf("hand-over: who asks is not known: %w", err)
	}
	if uid := uint32(os.Geteuid()); cred.Uid != uid && cred.Uid != 0 {
		return fmt.Errorf("hand-over: the other process is of user %d, this one of %d", cred.Uid, uid)
	}
	return nil
}

func peerCred(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if errControl := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); errControl != nil {
		return nil, errControl
	}
	return cred, err
}

// peerPID returns the process at the other end, 0 if it is not known.
func peerPID(c *net.UnixConn) int {
	cred, err := peerCred(c)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// hasEnded reports whether a process is gone, or is one of which only its parent has not taken notice.
func hasEnded(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	i := bytes.LastIndexByte(text, ')') // behind the name, which may hold anything
	return i < 0 || len(text) < i+3 || text[i+2] == 'Z' || text[i+2] == 'X'
}

// closeDoors has the kernel drop what would become new connections at this process's listeners, until openDoors: a client's SYN comes again
// a second later, and then finds the listeners of the new process alone. gnet can neither stop listening and begin again nor be shown
// a listener that another hand has closed: it would end. What is in their queues already is accepted and told `draining`.
func (g *Gateway) closeDoors() {
	drop := unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}}
	for _, fd := range g.doors {
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &drop); err != nil {
			g.log.Debug("closing a listener", "err", err) // it tells clients to come again
		}
	}
}

func (g *Gateway) openDoors() {
	for _, fd := range g.doors {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
			g.log.Error("opening a listener again", "err", err)
		}
	}
}

// listeners finds the sockets that this process's loops listen on, which gnet does not show.
func (g *Gateway) listeners() (fds []int) {
	at := g.addr.Load()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil || at == nil {
		return nil
	}
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
			continue
		}
		if port, err := boundPort(fd); err == nil && int(port) == at.Port {
			fds = append(fds, fd)
		}
	}
	return fds
}
