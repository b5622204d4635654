//go:build !linux

package turnd

import "net/netip"

// poller is Linux's.
type poller struct{}

// canBatch says that there are no batches here: golang.org/x/sys has no recvmmsg, and FreeBSD's is libc's.
const canBatch = false

func (s *Server) listenFast(netip.AddrPort) error { return errNoRequest }

// openPort opens the socket of a relay.
func (s *Server) openPort(_ carrier, at netip.AddrPort) (port, error) {
	return openSocket(s.count, "udp4", at.String(), false, 0)
}
