package bench

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/internal/testkit"
)

// limits bounds every wait of a benchmark: connections carry it as their deadline.
const limit = 3 * time.Minute

// lifted takes the admission limits out of the way, which all load from one address would run into; nothing else differs from the
// defaults. The limits' own work is still done.
const lifted = `handshake_rate = 1e6
handshake_burst = 1000000
register_rate = 1e6
register_burst = 1000000
`

// system is a server under load.
type system struct {
	*testkit.System
	b    *testing.B
	site *testkit.Site

	mu    sync.Mutex
	fault error
	bad   chan struct{} // closed with the first fault
}

// start starts a server; it ends with the benchmark.
func start(b *testing.B) *system {
	b.Helper()
	if runtime.GOOS != "linux" {
		b.Skip("process accounting is read from Linux's /proc")
	}
	table.noteConditions()
	b.ReportMetric(0, "ns/op") // a benchmark is one run of many windows: its own time says nothing
	s := &system{System: testkit.Start(b, testkit.Shape(*shapeFlag), testkit.Settings{Gateway: lifted + *gatewayIs}), b: b,
		bad: make(chan struct{})}
	var err error
	if s.site, err = s.Site(limit); err != nil {
		b.Fatal(err)
	}
	return s
}

// fail notes what went wrong; the first counts.
func (s *system) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil {
		s.fault = err
		close(s.bad)
	}
}

// check ends the benchmark if anything went wrong.
func (s *system) check() {
	s.b.Helper()
	select {
	case <-s.bad:
		s.b.Fatal(s.fault)
	default:
	}
}

// until waits for a condition.
func (s *system) until(what string, done func() bool) {
	s.b.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		s.check()
		if time.Now().After(end) {
			s.b.Fatal("still waiting: ", what)
		}
	}
	s.check()
}

// rest lets time pass in which nothing is asked of the server.
func (s *system) rest(d time.Duration) {
	s.b.Helper()
	select {
	case <-time.After(d):
	case <-s.bad:
	}
	s.check()
}

func (s *system) usage() usage { return measure(s.b, s.Processes()) }

// costOf measures f.
func (s *system) costOf(f func()) cost {
	before := s.usage()
	f()
	s.check()
	return s.usage().since(before)
}

// inFlight is how many set-ups go on at once.
const inFlight = 64

// each calls f with 0..n-1 from inFlight goroutines and waits for all.
func (s *system) each(n int, f func(i int) error) {
	s.b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := f(int(i)); err != nil {
					s.fail(fmt.Errorf("set-up %d: %w", i, err))
					return
				}
			}
		})
	}
	wg.Wait()
	s.check()
}

// counter sums a counter of the server's metrics over its labels and processes.
func (s *system) counter(name string) (sum float64) {
	s.b.Helper()
	for _, role := range s.roles() {
		_, page := s.Get(role, "/metrics")
		for line := range strings.Lines(page) {
			rest, ok := strings.CutPrefix(line, name)
			if !ok || (rest[0] != ' ' && rest[0] != '{') {
				continue
			}
			var v float64
			if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &v); err == nil {
				sum += v
			}
		}
	}
	return sum
}

func (s *system) roles() []string {
	if s.Shape == testkit.Together {
		return []string{"up"}
	}
	return []string{"gateway", "router", "offline"}
}

// shares are the parts of the machine that went to others while figures were taken.
type shares []float64

func (n *shares) add(c cost) { *n = append(*n, c.others(runtime.NumCPU())) }

func (n shares) String() string { return fmt.Sprintf("%.0f %%", median(n)) }
