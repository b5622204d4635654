package meter

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc: USER_HZ is 100 on every architecture that this runs on. The kernel scales user and system time so
// that their sum is the exact run time, rounded down.
const tick = 10 * time.Millisecond

// Fields of /proc/PID/stat behind the command's name, from the state on.
const (
	statState         = 0
	statParent        = 1
	statUser          = 11
	statSystem        = 12
	statChildrenUser  = 13
	statChildrenSys   = 14
	statFieldsAtLeast = 15
)

var errShort = errors.New("too few fields")

// Alive reports whether a process runs; one that has ended and was not waited for does not.
func Alive(pid int) bool {
	f, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && f[statState] != "Z" && f[statState] != "X"
}

func readUsage(pid int) (u Usage, err error) {
	f, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	u.User = ticks(f[statUser]) + ticks(f[statChildrenUser])
	u.System = ticks(f[statSystem]) + ticks(f[statChildrenSys])
	if io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid)); err == nil { // another user's process hides it
		u.Reads, u.Writes = number(io, "syscr:"), number(io, "syscw:")
	}
	return u, nil
}

// CPUOf adds up the CPU time of processes to the nanosecond: user and system time of all their threads, ended ones included, but not
// that of children.
func CPUOf(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^pid)<<3|cpuClockScheduler, &t); err != nil { // as clock_getcpuclockid(3) has it
			return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// cpuClockScheduler is CPUCLOCK_SCHED of the kernel: the time that threads ran.
const cpuClockScheduler = 2

// Switches counts the context switches of the processes' threads that live.
func Switches(pids []int) (sum int64) {
	for _, pid := range pids {
		for _, task := range tasks(pid) {
			if status, err := os.ReadFile(task + "/status"); err == nil { // the thread may have ended
				sum += number(status, "voluntary_ctxt_switches:") + number(status, "nonvoluntary_ctxt_switches:")
			}
		}
	}
	return sum
}

func readMemory(pid int) (m Memory, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return m, err
	}
	return Memory{RSS: number(b, "Rss:") << 10, PSS: number(b, "Pss:") << 10}, nil
}

func readThreads(pid int) (all []Thread) {
	for _, task := range tasks(pid) {
		name, err := os.ReadFile(task + "/comm")
		if err != nil {
			continue // ended
		}
		if f, err := statFields(task + "/stat"); err == nil {
			all = append(all, Thread{strings.TrimSpace(string(name)), ticks(f[statUser]) + ticks(f[statSystem])})
		}
	}
	return all
}

func readParents() (map[int]int, error) {
	list, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, e := range list {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		if f, err := statFields("/proc/" + e.Name() + "/stat"); err == nil { // it may have ended
			parents[pid], _ = strconv.Atoi(f[statParent])
		}
	}
	return parents, nil
}

// OpenFiles counts a process's descriptors; 0 when it is gone.
func OpenFiles(pid int) int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}
	return len(list)
}

// Busy is the CPU time of everything on the machine since it started, idle and waiting time not counted, in clock ticks of a hundredth
// of a second.
func Busy() (sum time.Duration) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0
	}
	for i, f := range fields[1:9] {
		if i != 3 && i != 4 { // idle, iowait
			sum += ticks(f)
		}
	}
	return sum
}

func tasks(pid int) (dirs []string) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil // the process is gone
	}
	for _, e := range list {
		dirs = append(dirs, dir+"/"+e.Name())
	}
	return dirs
}

// statFields returns the fields behind the command's name, which may hold spaces and parentheses.
func statFields(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < statFieldsAtLeast {
		return nil, fmt.Errorf("%s: %w", path, errShort)
	}
	return f, nil
}

func ticks(field string) time.Duration {
	n, _ := strconv.ParseInt(field, 10, 64) // the kernel writes numbers
	return time.Duration(n) * tick
}

// number returns the number behind a name in a text that has one on each line, 0 when it is not there.
func number(text []byte, name string) int64 {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok {
			continue
		}
		if f := bytes.Fields(rest); len(f) > 0 {
			n, _ := strconv.ParseInt(string(f[0]), 10, 64)
			return n
		}
	}
	return 0
}
