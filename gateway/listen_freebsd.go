package gateway

import "golang.org/x/sys/unix"

// reusePort is what gnet sets here: the kernel spreads connections only over listeners of this kind, and all of a port must be.
const reusePort = unix.SO_REUSEPORT_LB
