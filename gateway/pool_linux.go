package gateway

import "golang.org/x/sys/unix"

// threadNice: Linux gives each thread a nice value of its own.
const threadNice = true

// lowerPriority sets the calling thread to nice 15. With it the p99 of an established session's echo stays near 0.1 ms while the
// pool is saturated; without it 33 ms were measured. Not being allowed to is no fault: only raising needs a privilege.
func lowerPriority() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, 15) }
