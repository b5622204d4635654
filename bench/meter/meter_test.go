package meter

import (
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestOwnProcess(t *testing.T) {
	pid := os.Getpid()
	for end := Own() + 50*time.Millisecond; Own() < end; { // something to account for
	}
	u, err := UsageOf([]int{pid})
	if err != nil || u.CPU() < 40*time.Millisecond {
		t.Errorf("usage %+v, %v", u, err)
	}
	before := Own()
	exact, err := CPUOf([]int{pid})
	if after := Own(); err != nil || runtime.GOOS == "linux" && (exact < before-time.Millisecond || exact > after+time.Millisecond) {
		t.Errorf("CPU time %v, %v, before %v, after %v", exact, err, before, after)
	}
	m, err := MemoryOf([]int{pid})
	if err != nil || m.RSS < 1<<20 || m.PSS < 1<<20 || m.PSS > m.RSS {
		t.Errorf("memory %+v, %v", m, err)
	}
	if runtime.GOOS == "linux" && (len(ThreadsOf([]int{pid})) == 0 || OpenFiles(pid) < 3 || Busy() == 0) {
		t.Errorf("threads %v, files %d, busy %v", ThreadsOf([]int{pid}), OpenFiles(pid), Busy())
	}
	if y := Yardstick(); y <= 0 || y > 10*time.Millisecond {
		t.Errorf("one X25519 in %v", y)
	}
}

// TestEndedChild holds that what a child used is not lost with it: it counts for the parent that waited.
func TestEndedChild(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("ps does not tell the time of children")
	}
	before, err := UsageOf([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
	if err := cmd.Start(); err != nil {
		t.Skip("no shell: ", err)
	}
	trees, err := Trees([]int{os.Getpid(), cmd.Process.Pid})
	if err != nil || len(trees) != 2 || trees[0][0] != os.Getpid() || !slices.Contains(trees[0], cmd.Process.Pid) || !slices.Equal(trees[1], []int{cmd.Process.Pid}) {
		t.Errorf("trees %v, %v, of %d and %d", trees, err, os.Getpid(), cmd.Process.Pid)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if Alive(cmd.Process.Pid) {
		t.Error("an ended process counts as running")
	}
	after, err := UsageOf([]int{os.Getpid(), cmd.Process.Pid})
	if err != nil || after.Since(before).CPU() < cmd.ProcessState.UserTime()/2 {
		t.Errorf("%v, %v; the child took %v", after.Since(before).CPU(), err, cmd.ProcessState.UserTime())
	}
	if m, err := MemoryOf([]int{cmd.Process.Pid}); err != nil || m.PSS != 0 {
		t.Errorf("an ended process holds %+v, %v", m, err)
	}
}

func TestParseSlabinfo(t *testing.T) {
	const text = `slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
TCP                   130    156   2368   13    8 : tunables    0    0    0 : slabdata     12     12      0
filp                    0     21    192   21    1 : tunables    0    0    0 : slabdata      1      1      0
`
	used, free := parseSlabinfo(text, 4096)
	if want := map[string]int64{"TCP": 10 * 8 * 4096, "filp": 0}; !maps.Equal(used, want) || free != 2*8*4096+4096 {
		t.Errorf("%v, free %d, want %v", used, free, want)
	}
}

func TestParseZones(t *testing.T) {
	const text = `ITEM                   SIZE  LIMIT     USED     FREE      REQ     FAIL SLEEP XDOMAIN

tcp_inpcb:              1408, 1045312,      10,      30,     127,   0,   0,   0
socket:                  960, 1045312,     100,      20,    5000,   0,   0,   0
`
	if got, want := parseZones(text), map[string]int64{"tcp_inpcb": 1408 * 40, "socket": 960 * 120}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestKernelSince(t *testing.T) {
	before := Kernel{Slab: 10, Sockets: 1, Available: 100, Caches: map[string]int64{"TCP": 5, "filp": 5}}
	after := Kernel{Slab: 40, Sockets: 3, Available: 60, Caches: map[string]int64{"TCP": 30, "filp": 5, "dentry": 5}}
	d := after.Since(before)
	if d.Total() != 32 || d.Available != -40 || len(d.Caches) != 2 {
		t.Errorf("%+v", d)
	}
	if got := d.Largest(1); len(got) != 1 || got[0] != (Cache{"TCP", 25}) {
		t.Errorf("largest: %v", got)
	}
	k, err := ReadKernel()
	if err != nil || k.Total() < 1<<20 {
		t.Errorf("this machine's kernel: %+v, %v", k, err)
	}
}

func TestParseClock(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0:00.01": 10 * time.Millisecond, "12:34.5": 12*time.Minute + 34500*time.Millisecond, "1:00:00": time.Hour, "2-03:00:00": 51 * time.Hour,
	} {
		if got, err := parseClock(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	if _, err := parseClock("x"); err == nil {
		t.Error("no error")
	}
}

func TestParsePairs(t *testing.T) {
	if got, want := parsePairs("  10   1\n 11 10\nbad\n"), map[int]int{10: 1, 11: 10}; !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestMachine(t *testing.T) {
	m := ReadMachine()
	if m.CPUs < 1 || m.Kernel == "" || m.MemoryBytes < 1<<20 || m.OpenFiles[1] == 0 || len(m.Sysctls) == 0 {
		t.Errorf("%+v", m)
	}
	if s := ReadSoftware(); s.Go == "" || s.Commit == "" {
		t.Errorf("%+v", s)
	}
}
