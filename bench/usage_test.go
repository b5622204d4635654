package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"linecard.example/internal/testkit"
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
}

func (u usage) server() time.Duration { return u.user + u.system }

// cost is the difference of two usages.
type cost struct {
	wall                       time.Duration
	user, system, client, rest time.Duration // rest: everybody else on the machine, the kernel's own threads included
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
		client: u.client - before.client,
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
		f := statFields(t, p.PID())
		u.user += ticks(t, f[11])
		u.system += ticks(t, f[12])
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
func statFields(t testing.TB, pid int) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal("the server does not run: ", err)
	}
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

// memory is what processes hold, in bytes.
type memory struct{ rss, pss int64 }

func residents(t testing.TB, procs []*testkit.Process) (m memory) {
	t.Helper()
	for _, p := range procs {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID()))
		if err != nil {
			t.Fatal(err)
		}
		m.rss += rollup(t, b, "Rss:")
		m.pss += rollup(t, b, "Pss:")
	}
	return m
}

// rollup returns one line of smaps_rollup in bytes.
func rollup(t testing.TB, b []byte, name string) int64 {
	t.Helper()
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no %s in smaps_rollup", name)
	return 0
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:2], " ")
}
