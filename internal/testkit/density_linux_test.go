package testkit

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// What an established, bound, idle session may cost the gateway's process, and what that may take empty. File pages are the binary's,
// which all gateways of a machine share.
const (
	idleBytes   = 600     // of PSS, above the empty process
	idleHeap    = 384     // of them on the heap: 317, and what a busy machine has not swept yet
	idleObjects = 2.1     // heap objects: gnet's connection and its callback
	emptyBytes  = 7 << 20 // of memory that is not file pages: 6.5 to 6.8 MiB were seen, 0.4 of them tables of the S3 library, which each process has
	pingCalls   = 2.1     // reads and writes for a ping and its pong
)

// TestIdleSessions holds sessions that say nothing, and then ping, against what they may cost. 600 bytes is for 18,000; fewer have to
// carry alone what the process does only once. Behind a burst of connections the gateway collects and gives memory back.
func TestIdleSessions(t *testing.T) {
	n, budget := 10000, 800.0
	if os.Getenv("LINECARD_LONG") != "" {
		n, budget = 18000, idleBytes
	}
	tidied := make(chan bool, 1)
	s := Start(t, Apart, Settings{Gateway: crowd, Log: `level = "debug"`, LogLine: func(line []byte) {
		if bytes.Contains(line, []byte("tidied up")) && bytes.Contains(line, []byte("daemon=gateway")) {
			select {
			case tidied <- true:
			default:
			}
		}
	}})
	gateway := s.Process("gateway")
	per := func(now, before int64) float64 { return float64(now-before) / float64(n) }
	// settled is what the gateway holds when that is small enough, or when it tidies up no more. The first tidying that is seen may have
	// been in the midst of a burst, or before it: then there is another. Asking the process would keep it from being quiet.
	settled := func(small func(held) bool) (h held) {
		t.Helper()
		for tidyings := 0; ; tidyings++ {
			select {
			case <-tidied:
			case <-time.After(waitLimit):
				if tidyings == 0 {
					t.Fatal("the gateway does not tidy up")
				}
				return h
			}
			if h = heldBy(gateway); small(h) {
				return h
			}
		}
	}

	empty := settled(func(h held) bool { return h.own <= emptyBytes })
	within := func(h held) bool { return per(h.pss, empty.pss) <= budget }
	first, err := parkOne(s.Server, "first", &net.Dialer{})
	must(t, err)
	defer first.Close()
	heap := s.heap("gc=1", "gateway") // the tables that the first session needs are there
	t.Logf("empty: %v", empty)
	if empty.own > emptyBytes {
		t.Errorf("an empty gateway takes %v", empty)
	}

	parked := park(t, s, n, &net.Dialer{})
	idle := settled(within)
	full := s.heap("gc=1", "gateway")
	onHeap, objects := per(full["HeapAlloc"], heap["HeapAlloc"]), per(full["HeapObjects"], heap["HeapObjects"])
	t.Logf("%d sessions: %v: %.0f B each, of these %.0f on the heap in %.2f objects", n, idle, per(idle.pss, empty.pss), onHeap, objects)
	if !within(idle) {
		t.Errorf("%.0f bytes of memory for each session, want at most %.0f", per(idle.pss, empty.pss), budget)
	}
	if onHeap > idleHeap || objects > idleObjects {
		t.Errorf("%.0f bytes and %.2f objects of heap for each session, want at most %d and %.1f", onHeap, objects, idleHeap, idleObjects)
	}
	for name, limit := range map[string]float64{"go_goroutines": 60, "go_threads": 24} {
		if have := s.Metrics("gateway")[name]; have > limit {
			t.Errorf("%s is %.0f with %d idle sessions", name, have, n)
		}
	}

	calls := func() int64 { return gateway.ProcNumber("io", "syscr:") + gateway.ProcNumber("io", "syscw:") }
	before, mallocs := calls(), s.heap("", "gateway")["Mallocs"]
	pingAll(t, parked)
	cost, allocations := per(calls(), before), per(s.heap("", "gateway")["Mallocs"], mallocs)
	idle = settled(within)
	t.Logf("a ping: %.2f reads and writes, %.2f allocations; then %v: %.0f B each", cost, allocations, idle, per(idle.pss, empty.pss))
	if cost > pingCalls || allocations > 1 { // looking allocates, too
		t.Errorf("%.2f reads and writes and %.2f allocations for a ping", cost, allocations)
	}
	if !within(idle) {
		t.Errorf("%.0f bytes of memory for each session after a ping, want at most %.0f", per(idle.pss, empty.pss), budget)
	}
}

// held is what a process holds, in bytes: its share of memory, and what of it is no file page.
type held struct{ pss, own int64 }

func (h held) String() string {
	return fmt.Sprintf("%.2f MiB, %.2f without file pages", float64(h.pss)/(1<<20), float64(h.own)/(1<<20))
}

func heldBy(p *Process) held {
	return held{p.ProcNumber("smaps_rollup", "Pss:") << 10, p.ProcNumber("smaps_rollup", "Pss_Anon:") << 10}
}

// heap returns the numbers that Go's runtime has of a process's heap, by their names in runtime.MemStats; gc=1 collects first.
func (s *System) heap(query, role string) map[string]int64 {
	s.t.Helper()
	status, page := s.Get(role, "/debug/pprof/heap?debug=1&"+query)
	if status != 200 {
		s.t.Fatalf("heap of %s: %d %s", role, status, page)
	}
	numbers := map[string]int64{}
	for sc := bufio.NewScanner(strings.NewReader(page)); sc.Scan(); {
		var name string
		var n int64
		if _, err := fmt.Sscanf(sc.Text(), "# %s = %d", &name, &n); err == nil {
			numbers[name] = n
		}
	}
	return numbers
}

const parkers = 8

// inParallel calls f for each number below n, some at a time, and reports the first error.
func inParallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	next, faults := make(chan int), make(chan error, parkers)
	var group sync.WaitGroup
	for range parkers {
		group.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					select {
					case faults <- fmt.Errorf("%d: %w", i, err):
					default:
					}
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	select {
	case err := <-faults:
		t.Fatal(err)
	default:
	}
}

// park binds n sessions that say nothing from then on. They end with the test.
func park(t *testing.T, s *System, n int, d *net.Dialer) []*Raw {
	t.Helper()
	parked := make([]*Raw, n)
	t.Cleanup(func() {
		for _, r := range parked {
			if r != nil {
				r.Close()
			}
		}
	})
	inParallel(t, n, func(i int) (err error) {
		parked[i], err = parkOne(s.Server, fmt.Sprintf("parked%d", i), d)
		return err
	})
	return parked
}

func parkOne(addr, handle string, d *net.Dialer) (*Raw, error) {
	r, err := dialRaw(addr, d)
	if err != nil {
		return nil, err
	}
	reg := stanza.Register{Handle: []byte(handle), Interval: leanPing}
	if err := r.Shake(reg.Append(nil)); err != nil {
		return r, err
	}
	return r, r.WaitBound()
}

// pingAll has each session ping once.
func pingAll(t *testing.T, sessions []*Raw) {
	t.Helper()
	inParallel(t, len(sessions), func(i int) error {
		if err := sessions[i].SetDeadline(time.Now().Add(waitLimit)); err != nil {
			return err
		}
		if err := sessions[i].Say(stanza.Ping{}.Append(nil)); err != nil {
			return err
		}
		v, err := sessions[i].Next()
		if err == nil && v.Tag != stanza.TagPong {
			err = fmt.Errorf("%s for a ping", v.Tag)
		}
		return err
	})
}
