package meter

import (
	"runtime"
	"syscall"
	"time"

	"linecard.example/internal/wire"
)

// threadUsage is RUSAGE_THREAD, the same number on Linux and FreeBSD.
const threadUsage = 1

// Yardstick is the CPU time of one X25519 here and now, 0 when it cannot be told. Neighbours on the machine, and its clock, stretch CPU
// times; the same work timed beside the figures says by how much. It takes about a tenth of a second.
func Yardstick() time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const n = 4000 // long against a tick, to which the kernel keeps these times
	var before, after syscall.Rusage
	key, point := make([]byte, wire.KeySize), make([]byte, wire.KeySize)
	key[0], point[0] = 1, 9
	if syscall.Getrusage(threadUsage, &before) != nil {
		return 0
	}
	for range n {
		if _, err := wire.DH.DH(key, point); err != nil {
			return 0
		}
	}
	if syscall.Getrusage(threadUsage, &after) != nil {
		return 0
	}
	return (spent(after) - spent(before)) / n
}

// Own is the CPU time of this process, all threads.
func Own() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return spent(ru)
}

func spent(ru syscall.Rusage) time.Duration {
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
