package tuning

import (
	"errors"
	"fmt"
	"runtime"
)

// Target says what a machine shall carry. The zero values of all but Sessions and Allocations are filled in from the system that is looked at.
type Target struct {
	// OS is "linux" or "freebsd", default what this program runs on.
	OS string
	// Sessions is how many established sessions the machine shall hold, Allocations how many of calls: a turnd's. At least one of
	// them is not 0.
	Sessions, Allocations int
	// Workers is how many gateway processes share them, default the fewest that the limit of open files allows, at least 2.
	Workers int
	// Pair says that the clients run on the same machine: every socket counts twice.
	Pair bool
	// Memory is the machine's memory in bytes, default what the system says.
	Memory int64
	// Cores is the number of processors, default what the system says.
	Cores int
	// Root is a directory with a copy of the system's files instead of the live system: proc/sys, proc/meminfo, sys for linux,
	// sysctl.txt (the output of sysctl -a) and etc/fstab for freebsd.
	Root string
}

// What a session costs the kernel and a gateway at most, in bytes. The kernel's figures are measured, see linux/README.md; the
// gateway's is its budget.
const (
	kernelBytes  = 3770
	clientBytes  = 3640 + 300 // a client's socket, and the load generator's own
	gatewayBytes = 800
	// An allocation costs turnd 12 KB (docs/design/0032), and the kernel a socket for UDP.
	allocationBytes = 12<<10 + 2688
)

const (
	// spareFiles is how many descriptors a gateway keeps below its limit for what is no session: links, listeners, logs.
	spareFiles = 256
	// oneProcess is the most descriptors that a process may have with an unchanged fs.nr_open, and what printed units ask for at most.
	oneProcess = 1 << 20
	// systemFiles is what everything else on a machine has open at most.
	systemFiles = 1 << 16
)

// plan is a target with everything filled in that follows from it.
type plan struct {
	Target
	Page int64 // bytes of a page
}

func (t Target) check() error {
	switch {
	case t.Sessions < 0 || t.Allocations < 0 || t.Sessions+t.Allocations == 0:
		return errors.New("tuning: at least one session is wanted (--sessions), or one allocation (--allocations)")
	case t.Allocations > 60000:
		return fmt.Errorf("tuning: %d allocations are more than a relay has ports", t.Allocations)
	case t.Sessions > 1<<30:
		return fmt.Errorf("tuning: %d sessions are more than any machine holds", t.Sessions)
	case t.Workers < 0 || t.Memory < 0 || t.Cores < 0:
		return errors.New("tuning: workers, memory and cores are not negative")
	case t.system() != "linux" && t.system() != "freebsd":
		return fmt.Errorf("tuning: nothing is known about %q; there is linux and freebsd", t.system())
	}
	return nil
}

func (t Target) system() string {
	if t.OS == "" {
		return runtime.GOOS
	}
	return t.OS
}

// sockets is how many sockets of sessions there are on the machine.
func (p plan) sockets() int64 {
	if p.Pair {
		return 2 * int64(p.Sessions)
	}
	return int64(p.Sessions)
}

// spread is how many sessions one of n processes may come to have: listeners of one port share connections unevenly, and 1.05 times
// the mean was measured to be enough for a hundred of them.
func (p plan) spread(n int) int64 { return (int64(p.Sessions)*105/100 + int64(n) - 1) / int64(n) }

// workersFor is how many processes are needed when each may have limit descriptors open.
func (p plan) workersFor(limit int64) int {
	room := limit - spareFiles
	if room <= 0 {
		return 0
	}
	return int((int64(p.Sessions)*105/100 + room - 1) / room)
}

// workers is how many gateway processes printed files assume: two at least, because only a supervisor can have its workers upgraded
// within a service.
func (p plan) workers() int {
	if p.Workers > 0 {
		return p.Workers
	}
	return max(spared(p.workersFor(oneProcess)), 2)
}

// spared is how many workers are wanted where n must be: the gateway's rule. A process alone has nobody to spare.
func spared(n int) int {
	if n > 1 {
		n++
	}
	return n
}

// survivors is how many of n gateway processes must have room for all sessions.
func survivors(n int) int { return max(n-1, 1) }

// nofile is the limit of open files for one gateway process: what its sessions need when one of the others has died, in whole multiples
// of 65,536.
func (p plan) nofile() int64 {
	return roundUp(p.spread(survivors(p.workers()))+spareFiles, 1<<16)
}

// relayFiles is how many files a turnd may have open: for each allocation its socket and a connection, and what is neither.
func (p plan) relayFiles() int64 { return 2*int64(p.Allocations) + spareFiles }

// relayLimit is the limit of open files for a turnd.
func (p plan) relayLimit() int64 { return roundUp(p.relayFiles(), 1<<16) }

// mostFiles is the highest limit that any process needs.
func (p plan) mostFiles() int64 { return max(p.nofile(), p.relayLimit()) }

// files is how many open files the machine needs.
func (p plan) files() int64 { return p.sockets()*105/100 + 2*int64(p.Allocations) + systemFiles }

// bytes is the memory that sessions and allocations take, the kernel's and that of gateways and turnd.
func (p plan) bytes() int64 {
	n := int64(p.Sessions)*(kernelBytes+gatewayBytes) + int64(p.Allocations)*allocationBytes
	if p.Pair {
		n += int64(p.Sessions) * clientBytes
	}
	return n
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// powerOfTwo is the least power of two that is not below n.
func powerOfTwo(n int64) int64 {
	p := int64(1)
	for p < n {
		p <<= 1
	}
	return p
}

func clamp(n, low, high int64) int64 { return max(low, min(n, high)) }
