//go:build !freebsd

package gateway

import "golang.org/x/sys/unix"

// reusePort is what gnet sets on its listeners here.
const reusePort = unix.SO_REUSEPORT
