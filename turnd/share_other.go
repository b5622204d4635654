//go:build !linux

package turnd

import "syscall"

// canShare: FreeBSD's SO_REUSEPORT_LB spreads packets, but not by source for UDP before 14; one socket serves.
const canShare = false

func sharePort(_, _ string, _ syscall.RawConn) error { return nil }
