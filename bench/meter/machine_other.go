//go:build !linux

package meter

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Sysctl returns a kernel setting; "" when the kernel does not have it.
func Sysctl(name string) string {
	out, err := exec.Command("sysctl", "-n", name).Output()
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

// FileLimits returns this process's limits of open files, soft and hard.
func FileLimits() (soft, hard uint64) {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0, 0
	}
	return uint64(l.Cur), uint64(l.Max)
}

func kernelRelease() string { return Sysctl("kern.osrelease") }

func cpuModel() string { return Sysctl("hw.model") }

func memoryBytes() int64 {
	n, _ := strconv.ParseInt(Sysctl("hw.physmem"), 10, 64) // 0: unknown
	return n
}

func loadAverage() string { return strings.Trim(Sysctl("vm.loadavg"), "{} ") }
