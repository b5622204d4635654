package swarm

import "golang.org/x/sys/unix"

// pss is not to be had here.
func pss() uint64 { return 0 }

// monotonic is the clock that all processes of this machine share, in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}
