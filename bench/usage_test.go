package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"linecard.example/internal/testkit"
	"linecard.example/internal/wire"
)

// tick is the unit of /proc: USER_HZ is 100 on every architecture that this runs on. The kernel scales the two fields so that their
// sum is the exact run time, rounded down.
const tick = 10 * time.Millisecond

// usage is what was consumed up to a moment.
type usage struct {
	at           time.Time
	user, system time.Duration // of the server's processes
	client       time.Duration // of this process
	machine      time.Duration // of everything, idle time not counted
	reads        int64         // system calls of the server's processes that read and write, sockets and files
	writes       int64
}

// cost is the difference of two usages.
type cost struct {
	wall                       time.Duration
	user, system, client, rest time.Duration // rest: everybody else on the machine, the kernel's own threads included
	reads, writes              int64
}

func (c cost) server() time.Duration { return c.user + c.system }

// per returns the server's CPU microseconds per unit of work.
func (c cost) per(units int64) float64 { return micros(c.server()) / float64(units) }

// others is the share of the machine that neither server nor client used: the noise, in percent.
func (c cost) others(cpus int) float64 {
	return 100 * float64(c.rest) / (float64(c.wall) * float64(cpus))
}

func (u usage) since(before usage) cost {
	c := cost{
		wall: u.at.Sub(before.at), user: u.user - before.user, system: u.system - before.system,
		client: u.client - before.client, reads: u.reads - before.reads, writes: u.writes - before.writes,
	}
	c.rest = max(0, u.machine-before.machine-c.server()-c.client)
	return c
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// measure reads the usage of the server's processes, of this one and of the machine.
func measure(t testing.TB, procs []*testkit.Process) usage {
	t.Helper()
	u := usage{at: time.Now()}
	for _, p := range procs {
		f := statFields(p)
		u.user += ticks(t, f[11])
		u.system += ticks(t, f[12])
		u.reads += p.ProcNumber("io", "syscr:")
		u.writes += p.ProcNumber("io", "syscw:")
	}
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	u.client = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	u.machine = machineTime(t)
	return u
}

// statFields returns the fields of /proc/PID/stat behind the command's name, which may hold spaces; the first is the state.
func statFields(p *testkit.Process) []string {
	b := p.Proc("stat")
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

func ticks(t testing.TB, field string) time.Duration {
	t.Helper()
	n, err := strconv.ParseInt(field, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * tick
}

// machineTime sums the first line of /proc/stat without idle and iowait.
func machineTime(t testing.TB) (sum time.Duration) {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line)[1:9] {
		if i != 3 && i != 4 {
			sum += ticks(t, f)
		}
	}
	return sum
}

// switches sums the context switches of the processes' threads that live.
func switches(procs []*testkit.Process) (sum int64) {
	for _, p := range procs {
		for _, task := range p.Tasks() {
			status := "task/" + task + "/status"
			sum += p.ProcNumber(status, "voluntary_ctxt_switches:") + p.ProcNumber(status, "nonvoluntary_ctxt_switches:")
		}
	}
	return sum
}

// yardstick is the CPU time of one X25519 here and now. Neighbours on the machine, and its clock, stretch CPU times; the same work
// timed beside the figures says by how much.
func yardstick() time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const threadUsage, n = 1, 4000 // RUSAGE_THREAD; long against a tick, to which the kernel keeps these times
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
	return time.Duration(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano()) / n
}

// memory is what processes hold, in bytes.
type memory struct{ rss, pss int64 }

func residents(procs []*testkit.Process) (m memory) {
	for _, p := range procs {
		m.rss += p.ProcNumber("smaps_rollup", "Rss:") << 10
		m.pss += p.ProcNumber("smaps_rollup", "Pss:") << 10
	}
	return m
}

// conditions says how busy the machine is.
func conditions() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("load average %s, one X25519 takes %.0f us", strings.Fields(string(b))[0], micros(yardstick()))
}
