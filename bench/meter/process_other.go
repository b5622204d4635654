//go:build !linux

package meter

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var errNoProcess = errors.New("no such process")

// Alive reports whether a process runs.
func Alive(pid int) bool {
	out, err := ps("state=", pid)
	return err == nil && len(out) == 1 && !strings.HasPrefix(out[0], "Z")
}

func readUsage(pid int) (u Usage, err error) {
	out, err := ps("usertime=,systime=", pid)
	if err != nil {
		return u, err
	}
	if len(out) != 2 {
		return u, errNoProcess
	}
	if u.User, err = parseClock(out[0]); err != nil {
		return u, err
	}
	if u.System, err = parseClock(out[1]); err != nil {
		return u, err
	}
	return u, nil
}

func readMemory(pid int) (Memory, error) {
	out, err := ps("rss=", pid)
	if err != nil {
		return Memory{}, err
	}
	if len(out) != 1 {
		return Memory{}, errNoProcess
	}
	kib, err := strconv.ParseInt(out[0], 10, 64)
	return Memory{RSS: kib << 10, PSS: kib << 10, Shared: true}, err
}

// CPUOf adds up the CPU time of processes, children that were waited for included where the system has it so.
func CPUOf(pids []int) (time.Duration, error) {
	u, err := UsageOf(pids)
	return u.CPU(), err
}

// Switches counts the context switches of processes; not known here: 0.
func Switches([]int) int64 { return 0 }

func readThreads(int) []Thread { return nil }

func readParents() (map[int]int, error) {
	out, err := exec.Command("ps", "-axo", "pid=,ppid=").Output()
	return parsePairs(string(out)), err
}

// OpenFiles counts a process's descriptors; not to be had cheaply here: 0.
func OpenFiles(int) int { return 0 }

// Busy is the CPU time of everything on the machine; not known here: 0.
func Busy() time.Duration { return 0 }

func ps(columns string, pid int) ([]string, error) {
	if syscall.Kill(pid, 0) != nil {
		return nil, errNoProcess
	}
	out, err := exec.Command("ps", "-o", columns, "-p", strconv.Itoa(pid)).Output()
	return strings.Fields(string(out)), err
}
