//go:debug randseednop=0

package simtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

// The environment of these tests.
const (
	countVariable = "LINECARD_SCHEDULES" // how many TestSchedules runs
	seedVariable  = "LINECARD_SEED"      // the schedule that TestSeed runs
	seedsVariable = "LINECARD_SIM_SEEDS" // what a worker runs: first, step and count
)

// quietly takes from Go's runtime what it does at moments of its own. GOMAXPROCS and preemption are the environment's.
const quietly = "GOMAXPROCS=1 GODEBUG=asyncpreemptoff=1,randseednop=0"

// steady ends collections at any moment, after which goroutines take other turns.
func steady() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(700 << 20)
}

// runSeed runs one schedule in a bubble.
func runSeed(t *testing.T, seed uint64, verbose bool) (r Result) {
	rand.Seed(int64(seed)) //nolint:staticcheck // raft draws its timeouts from the global source
	warm()
	// Objects that a pool keeps belong to the bubble that made them. Two collections empty every pool.
	runtime.GC()
	runtime.GC()
	synctest.Test(t, func(*testing.T) { r = Run(seed, verbose) })
	return r
}

// warm has what the whole process shares be made outside of every bubble: the compressors of device lists wait on channels.
var warm = sync.OnceFunc(func() {
	var keys []stanza.DeviceKey
	for n := range stanza.Device(stanza.MaxDevices) {
		keys = append(keys, stanza.DeviceKey{Device: n + 1})
	}
	r := stanza.Refused{ID: 1, Reason: stanza.ReasonStaleDevices, Version: 1, Devices: stanza.DeviceList{List: stanza.AppendDevices(nil, keys)}}
	v, _, err := stanza.Decode(r.Append(nil))
	if err != nil {
		panic(err)
	}
	if r, err = stanza.ParseRefused(v); err == nil {
		_, err = r.Devices.Keys(nil)
	}
	if err != nil {
		panic(err)
	}
})

// TestWorker is what TestSchedules starts: it runs seeds, and writes a line before and after each.
func TestWorker(t *testing.T) {
	text := os.Getenv(seedsVariable)
	if text == "" {
		return // not a worker
	}
	var first, step, count uint64
	if _, err := fmt.Sscan(text, &first, &step, &count); err != nil {
		t.Fatal(err)
	}
	steady()
	for i := range count {
		seed := first + i*step
		fmt.Printf("\nseed %d\n", seed)
		r := runSeed(t, seed, false)
		if len(r.Faults) == 0 {
			r.Trace = ""
		}
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\nresult %s\n", line)
	}
}

// startWorker runs seeds in a process of its own, on one processor, and calls got for each until that returns false. A schedule that
// kills its process is a result with a fault.
func startWorker(t *testing.T, first, step, count uint64, got func(Result) (more bool)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestWorker$", "-test.timeout=0")
	cmd.Env = append(append(os.Environ(), seedsVariable+"="+fmt.Sprint(first, step, count)), strings.Fields(quietly)...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 16<<20)
	var last uint64
	under, more, rest := false, true, ""
	for more && lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "seed "); ok {
			last, _ = strconv.ParseUint(text, 10, 64)
			under, rest = true, ""
		} else if text, ok := strings.CutPrefix(line, "result "); ok {
			var r Result
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Error(err)
			}
			under = false
			more = got(r)
		} else if len(rest) < 8<<10 {
			rest += line + "\n"
		}
	}
	if !more {
		cancel()
	}
	if err := cmd.Wait(); more && (err != nil || under) {
		got(Result{Seed: last, Faults: []string{fmt.Sprintf("the process died: %v\n%s", err, rest)}})
	}
	if complaint.Len() > 0 {
		t.Log(complaint.String()) // of a bug that was planted, for one
	}
}

// schedules is how many TestSchedules runs.
func schedules(t *testing.T) uint64 {
	text := os.Getenv(countVariable)
	switch {
	case planted.Built && os.Getenv(planted.Variable) == "":
		return 50
	case planted.Built: // one of 10 to 20 fails, of the bug that is found least often
		return 200
	case text != "":
		count, err := strconv.ParseUint(text, 10, 32)
		if err != nil || count == 0 {
			t.Fatalf("%s=%s is no number of schedules", countVariable, text)
		}
		return count
	case os.Getenv("LINECARD_LONG") != "":
		return 20_000
	case testing.Short():
		return 50
	}
	return 100
}

// TestSchedules runs the schedules of the first seeds, in CI and with LINECARD_LONG more of them. It ends with the first seed that fails,
// which it runs again to say how often that fails; TestSeed shows what happens.
func TestSchedules(t *testing.T) {
	const workers = 2
	count := schedules(t)
	var mu sync.Mutex
	var all uint64
	var total Result
	var faulty []Result
	var wg sync.WaitGroup
	for n := range uint64(workers) {
		wg.Go(func() {
			startWorker(t, 1+n, workers, (count+workers-1-n)/workers, func(r Result) bool {
				mu.Lock()
				defer mu.Unlock()
				all++
				total.Sent, total.Acked, total.Received = total.Sent+r.Sent, total.Acked+r.Acked, total.Received+r.Received
				total.Simulated += r.Simulated
				if len(r.Faults) > 0 {
					faulty = append(faulty, r)
				}
				return len(faulty) == 0
			})
		})
	}
	wg.Wait()
	t.Logf("%d schedules: %d messages sent, %d acked, %d received; %v simulated", all, total.Sent, total.Acked, total.Received, total.Simulated)
	for _, r := range faulty {
		t.Errorf("seed %d, %s (%s %s=%d go test -count=20 -failfast -run '^TestSeed$' ./internal/simtest runs it until it fails, and shows that):\n%s",
			r.Seed, again(t, r.Seed), quietly, seedVariable, r.Seed, strings.Join(r.Faults, "\n"))
	}
	if all != count && len(faulty) == 0 {
		t.Errorf("%d schedules of %d were run", all, count)
	}
}

// again runs a seed that failed a few times more.
func again(t *testing.T, seed uint64) string {
	if planted.Built {
		return "with a bug that was planted"
	}
	const times = 5
	failed := 0
	startWorker(t, seed, 0, times, func(r Result) bool {
		if len(r.Faults) > 0 {
			failed++
		}
		return true
	})
	return fmt.Sprintf("which fails in %d of %d further runs", failed, times)
}

// TestSeed runs the schedule of one seed. Of one that was chosen go test shows the trace, with the processes' logs, when it fails, or with -v.
func TestSeed(t *testing.T) {
	text := os.Getenv(seedVariable)
	if text == "" {
		text = "1"
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	steady()
	chosen := os.Getenv(seedVariable) != ""
	r := runSeed(t, seed, chosen)
	if chosen {
		t.Log(r.Trace)
	}
	t.Logf("seed %d: digest %x, %d sent, %d acked, %d received, %v simulated", seed, r.Digest, r.Sent, r.Acked, r.Received, r.Simulated)
	for _, f := range r.Faults {
		t.Error(f)
	}
}
