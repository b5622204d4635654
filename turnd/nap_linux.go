package turnd

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// naps says when a poller sleeps a little before it looks again, so that each look finds more. A poller that is quicker than those who send
// makes three system calls for every two or three packets; what comes in 50 us costs a quarter less when it is read and sent together.
//
// That is for a full load alone, whose packets meet others of their kind: below crowded, or where most leave alone (many clients with a packet
// each), there is never a nap, and no packet waits for another. Else one waits 30 us on average, and 60 us at most where the kernel keeps its
// word, in a queue that is there anyway. Where a nap lasts, because others want the processor or timers are coarse, there are none for a while.
type naps struct {
	since   int64 // it is counted from here
	packets int   // relayed
	runs    int   // in which they left
	wanted  bool
	until   int64 // no nap before
}

const (
	// crowded is how many packets per millisecond are a full load: less than half of what a poller can relay on a processor of its own.
	crowded = 100
	// napLimit is how long a nap may last, and napPause how long there are none behind one that lasted longer.
	napLimit = int64(500 * time.Microsecond)
	napPause = int64(100 * time.Millisecond)
)

// note counts packets that were relayed until now, and the runs in which they left, and reports whether a nap is wanted.
func (n *naps) note(packets, runs int, now int64) bool {
	n.packets += packets
	n.runs += runs
	if d := now - n.since; d >= int64(time.Millisecond) {
		n.wanted = int64(n.packets)*int64(time.Millisecond) > crowded*d && 2*n.packets >= 3*n.runs
		n.packets, n.runs, n.since = 0, 0, now
	}
	return n.wanted && now >= n.until
}

// took is told how long a nap was.
func (n *naps) took(d, now int64) {
	if d > napLimit {
		n.until = now + napPause
	}
}

// nap sleeps as short as the kernel does, 50 us of which are its slack for timers. Where the process has nothing else to do the scheduler is not
// told: a nap is not longer than a batch, and the runtime's signal ends it.
func nap(alone bool) (err syscall.Errno) {
	t := unix.NsecToTimespec(1)
	if alone {
		_, _, err = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
	} else {
		_, _, err = syscall.Syscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
	}
	return err
}
