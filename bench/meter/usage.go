package meter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Usage is what processes have consumed up to a moment: all their threads, ended ones included, and ended children that were waited for,
// so that the total of a supervisor and its workers never falls.
type Usage struct {
	User, System  time.Duration
	Reads, Writes int64 // system calls, files and sockets; 0 where the system does not count them
}

// CPU is user and system time together.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// Since returns what was consumed after before.
func (u Usage) Since(before Usage) Usage {
	return Usage{
		User: u.User - before.User, System: u.System - before.System,
		Reads: u.Reads - before.Reads, Writes: u.Writes - before.Writes,
	}
}

// Plus adds the usage of other processes.
func (u Usage) Plus(o Usage) Usage {
	return Usage{
		User: u.User + o.User, System: u.System + o.System,
		Reads: u.Reads + o.Reads, Writes: u.Writes + o.Writes,
	}
}

// Memory is what processes hold, in bytes.
type Memory struct {
	RSS int64
	// PSS counts a page that n processes map as one n-th of a page for each, so that it can be added up over processes.
	PSS int64
	// Shared says that the system knows no proportional sizes: PSS is RSS, and pages of several processes are counted for each.
	Shared bool
}

// Plus adds the memory of other processes.
func (m Memory) Plus(o Memory) Memory {
	return Memory{RSS: m.RSS + o.RSS, PSS: m.PSS + o.PSS, Shared: m.Shared || o.Shared}
}

// Thread is a thread that lives.
type Thread struct {
	Name string
	CPU  time.Duration
}

// UsageOf adds up the usage of processes. A process that is gone counts nothing here: what it used is with the parent that waited for it.
func UsageOf(pids []int) (sum Usage, err error) {
	for _, pid := range pids {
		u, err := readUsage(pid)
		if err != nil {
			if !Alive(pid) {
				continue
			}
			return Usage{}, fmt.Errorf("usage of process %d: %w", pid, err)
		}
		sum = sum.Plus(u)
	}
	return sum, nil
}

// MemoryOf adds up the memory of processes; one that is gone holds none.
func MemoryOf(pids []int) (sum Memory, err error) {
	for _, pid := range pids {
		m, err := readMemory(pid)
		if err != nil {
			if !Alive(pid) {
				continue
			}
			return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		sum = sum.Plus(m)
	}
	return sum, nil
}

// ThreadsOf returns the CPU time of the processes' threads by name, the busiest first: threads of one name are added up.
func ThreadsOf(pids []int) []Thread {
	sums := map[string]time.Duration{}
	for _, pid := range pids {
		for _, t := range readThreads(pid) {
			sums[t.Name] += t.CPU
		}
	}
	var all []Thread
	for name, cpu := range sums {
		all = append(all, Thread{name, cpu})
	}
	slices.SortFunc(all, func(a, b Thread) int {
		if a.CPU != b.CPU {
			return int(b.CPU - a.CPU)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// Trees returns for each of the roots itself and every process below it, a parent before its children and these in the order of their start.
func Trees(roots []int) ([][]int, error) {
	parents, err := readParents()
	if err != nil {
		return nil, fmt.Errorf("list of processes: %w", err)
	}
	children := map[int][]int{}
	for child, parent := range parents {
		children[parent] = append(children[parent], child)
	}
	trees := make([][]int, len(roots))
	for i, root := range roots {
		tree := []int{root}
		for at := 0; at < len(tree); at++ {
			below := children[tree[at]]
			slices.Sort(below)
			tree = append(tree, below...)
		}
		trees[i] = tree
	}
	return trees, nil
}

// parsePairs reads lines of two numbers, as `ps -o pid=,ppid=` prints them.
func parsePairs(text string) map[int]int {
	pairs := map[int]int{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 {
			a, errA := strconv.Atoi(f[0])
			b, errB := strconv.Atoi(f[1])
			if errA == nil && errB == nil {
				pairs[a] = b
			}
		}
	}
	return pairs
}

// parseClock reads the time of `ps -o time`: [[days-]hours:]minutes:seconds[.hundredths].
func parseClock(s string) (time.Duration, error) {
	days := 0
	if d, rest, ok := strings.Cut(s, "-"); ok {
		n, err := strconv.Atoi(d)
		if err != nil {
			return 0, fmt.Errorf("time %q: %w", s, err)
		}
		days, s = n, rest
	}
	seconds := 0.0
	for part := range strings.SplitSeq(s, ":") {
		n, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return 0, fmt.Errorf("time %q: %w", s, err)
		}
		seconds = seconds*60 + n
	}
	return time.Duration(days)*24*time.Hour + time.Duration(seconds*float64(time.Second)).Round(time.Millisecond), nil
}
