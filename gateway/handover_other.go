//go:build !linux

package gateway

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// CanHandOver reports whether sessions can be moved to another process on this system. Here a listener of gnet cannot be kept from
// accepting while another process takes over: sessions are drained, and resume.
const CanHandOver = false

// samePeer checks that the socket of the process at the other end is this user's: there is no other proof of it here.
func samePeer(c *net.UnixConn) error {
	var st unix.Stat_t
	path := c.LocalAddr().String()
	if path == "" || path == "@" {
		path = c.RemoteAddr().String()
	}
	if err := unix.Stat(path, &st); err != nil {
		return nil // renamed into place since: the directory is private
	}
	if uid := uint32(os.Geteuid()); st.Uid != uid && st.Uid != 0 {
		return fmt.Errorf("hand-over: the socket is of user %d, this process of %d", st.Uid, uid)
	}
	return nil
}

func peerPID(*net.UnixConn) int { return 0 }

func (g *Gateway) listeners() []int { return nil }
func (g *Gateway) closeDoors([]int) {}
func (g *Gateway) openDoors([]int)  {}
