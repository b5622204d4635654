package gateway

import (
	"math"
	"runtime"

	"linecard.example/internal/config"
)

const (
	maxWorkers = 1023
	// maxSharers is how many sockets FreeBSD spreads the connections of an address over (SO_REUSEPORT_LB); Linux has no such limit.
	maxSharers   = 256
	leastResumes = 8
	// leastSources is how many entries a table of limits has at least: in a smaller one a thousand addresses, or accounts whose resumes were
	// recorded, push each other out, and who is pushed out is forgiven. 64 KiB, where there is anybody to limit.
	leastSources = 4096
	// spareShare is how much room workers have together beyond the sessions they are for: a kernel that spreads by hash fills the
	// fullest of 101 workers with a mean of 19,801 above 20,000, and of 105 not.
	spareShare = 0.05
)

// WorkerCount returns how many processes the configuration asks for, at least 1.
func (c Config) WorkerCount() int {
	if c.Sessions > 0 {
		limit := float64(sessionCap(c.MaxSessions))
		n := max(int(math.Ceil(math.Round((1+spareShare)*float64(c.Sessions))/limit)), 1)
		if n > 1 {
			n++ // when one dies, the others have room for its sessions at once
		}
		return n
	}
	return max(c.Workers, 1)
}

// sockets is the most that listen on an address at a time, with one worker more while another is replaced.
func (c Config) sockets(cores int) int {
	n, loops := c.WorkerCount(), c.loops(cores)
	if n == 1 {
		return loops
	}
	return max(loops, n) + part(loops, n, 0)
}

func (c Config) loops(cores int) int {
	if c.Loops > 0 {
		return c.Loops
	}
	return min(cores, maxLoops)
}

// Share returns the configuration of one worker of several, slot counting from 0: its part of what is the machine's. A part is
// rounded up to the least that works, so that very many workers have more together than one process would.
func (c Config) Share(workers, slot int) Config { return c.share(workers, slot, runtime.NumCPU()) }

func (c Config) share(workers, slot, cores int) Config {
	if workers < 2 {
		return c
	}
	loops := c.loops(cores)
	c.crowded = workers > cores
	c.Loops = part(loops, workers, slot)
	c.HandshakeQueue = max(c.HandshakeQueue/workers, min(c.HandshakeQueue, 64))
	c.HandshakeRate /= float64(workers)
	c.HandshakeBurst = ceilDiv(c.HandshakeBurst, workers)
	c.RegisterRate /= float64(workers)
	c.RegisterBurst = ceilDiv(c.RegisterBurst, workers)
	// An account's few connections may meet at one worker.
	c.ResumeRate /= float64(workers)
	c.ResumeBurst = max(ceilDiv(c.ResumeBurst, workers), min(c.ResumeBurst, leastResumes))
	c.SourceEntries = max(c.SourceEntries/workers, min(c.SourceEntries, leastSources))
	// The budget is of a loop, and there may be more loops now.
	c.PartialBytes = config.Size(max(c.PartialBytes.Int()*loops/(workers*c.Loops), 1<<20))
	return c
}

// part is one of n whole parts of total, each at least 1; the first ones are the larger.
func part(total, n, i int) int {
	p := total / n
	if i < total%n {
		p++
	}
	return max(p, 1)
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
