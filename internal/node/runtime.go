package node

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
)

// Garbage collection by what runs: a gateway holds millions of small things that live long and allocates little, so it collects
// early; a shard process allocates much and holds little on the heap.
const (
	gcUp      = 50
	gcGateway = 25 // and mediads, whose memory is what uploads wait with, and turnds, which allocate for requests only
	gcShards  = 400
)

// memoryShare is the part of the machine's memory that a process lets the heap grow to before it collects harder.
const memoryShare = 0.7

// tuneRuntime sets GOGC and the memory limit, unless the environment does, and stops the sampling of allocations where it is not wanted:
// its table, 1.4 MB over which samples are scattered, comes to more than 10 % of a gateway of 20,000 sessions, and is as much of a
// mediad or turnd.
func tuneRuntime(roles []Role, profile string) {
	percent := gcShards
	switch {
	case len(roles) > 1:
		percent = gcUp
	case frugal(roles[0]):
		percent = gcGateway
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if profile == "off" || profile == "auto" && len(roles) == 1 && frugal(roles[0]) {
		runtime.MemProfileRate = 0
	}
	if total := machineMemory(); total > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(float64(total) * memoryShare))
	}
}

// frugal reports whether processes of that role hold much and allocate little.
func frugal(r Role) bool { return r == Gateway || r == Media || r == Relay }

// machineMemory returns the bytes of memory of this machine, 0 where it is not known.
func machineMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return sysctlMemory()
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemTotal:")); ok {
			kb, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))), 10, 64)
			if err == nil {
				return kb << 10
			}
		}
	}
	return 0
}
