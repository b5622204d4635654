package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// fakeEnv makes a process of the test binary a worker, which does as its configuration says.
const fakeEnv = "LINECARD_FAKE_WORKER"

// fakeWorker is the worker of the tests below; it returns its exit code. It counts its starts in a counter, has a gauge, and in its
// configuration reads "quits" (ends at once), "sick" (is never healthy), "unready", "twice" (must be told so often to end), or nothing special.
// A second signal ends it at once, as it does a real one.
func fakeWorker() int {
	seat, err := TakeSeat()
	if err != nil {
		println(err.Error())
		return 1
	}
	mode := string(seat.Config)
	if strings.Contains(mode, "quits") {
		println("panic: as it was told") // to standard error, without a log line's form
		return 7
	}
	reg := prometheus.NewRegistry()
	starts := prometheus.NewCounter(prometheus.CounterOpts{Name: "fake_starts_total"})
	sessions := prometheus.NewGauge(prometheus.GaugeOpts{Name: "linecard_gateway_sessions"})
	reg.MustRegister(starts, sessions)
	starts.Inc()
	sessions.Set(10)
	pages := http.NewServeMux()
	pages.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	var ending atomic.Bool
	answer := func(page, bad string) {
		pages.HandleFunc(page, func(w http.ResponseWriter, _ *http.Request) {
			if strings.Contains(mode, bad) || ending.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = io.WriteString(w, mode)
		})
	}
	answer("/readyz", "unready")
	answer("/healthz", "sick")
	end := make(chan os.Signal, 4)
	signal.Notify(end, syscall.SIGTERM)
	go func() { _ = http.Serve(seat.Admin, pages) }() // ends with the process
	go func() {
		stop := func() { end <- syscall.SIGTERM }
		if seat.Watch(stop, stop) != nil {
			os.Exit(8)
		}
	}()
	<-end
	signal.Reset(syscall.SIGTERM)
	ending.Store(true)
	if strings.Contains(mode, "twice") {
		<-end
	}
	starts.Add(100) // after the last scrape
	if err := seat.Report(reg); err != nil {
		println(err.Error())
		return 1
	}
	return 0
}

// crewTest is a supervisor with fake workers.
type crewTest struct {
	*Supervisor
	t    *testing.T
	stop func()

	mu     sync.Mutex
	said   []string
	before func(slot int) // called when a process is to be started
}

func newCrewTest(t *testing.T, workers int, mode string, look time.Duration) *crewTest {
	c := &crewTest{t: t}
	s, err := NewSupervisor(Crew{
		Workers: workers, Listen: "127.0.0.1:0", Dir: t.TempDir(), Config: []byte(mode), Drain: time.Second, Look: look,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Command: func(slot int) *exec.Cmd {
			c.mu.Lock()
			before := c.before
			c.mu.Unlock()
			if before != nil {
				before(slot)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fakeEnv+"=1")
			return cmd
		},
		Said: func(_ int, line []byte) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.said = append(c.said, string(line))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	c.Supervisor = s
	c.stop = func() { cancel(); <-ended }
	t.Cleanup(c.stop)
	return c
}

// until waits for something that other processes do.
func (c *crewTest) until(what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) { // other processes: they can only be asked again
		if time.Now().After(end) {
			c.t.Fatal("waited in vain: ", what)
		}
	}
}

// value adds up the metrics of a family, of one worker if worker is not empty.
func (c *crewTest) value(name, worker string) (sum float64) {
	c.t.Helper()
	all, err := c.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	return familySum(all, name, worker)
}

func familySum(all []*dto.MetricFamily, name, worker string) (sum float64) {
	for _, f := range all {
		for _, m := range f.Metric {
			its := ""
			for _, l := range m.Label {
				if l.GetName() == "worker" {
					its = l.GetValue()
				}
			}
			if f.GetName() == name && (worker == "" || its == worker) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// TestSupervisor: workers are started, restarted whatever ends them, replaced and stopped, and the sums do not fall through any of it.
func TestSupervisor(t *testing.T) {
	c := newCrewTest(t, 2, "first", time.Minute)
	c.until("both are ready", func() bool { return len(c.Answer("/readyz")) == 2 })
	if n := c.value("fake_starts_total", ""); n != 2 || c.value("linecard_gateway_sessions", "") != 20 || c.value("linecard_gateway_sessions", "2") != 10 {
		t.Fatalf("%v starts, %v sessions", n, c.value("linecard_gateway_sessions", ""))
	}
	if _, err := net.Listen("tcp", c.Addr().String()); err == nil {
		t.Error("the port was not held")
	}
	pids := c.PIDs()
	if err := syscall.Kill(pids[1], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.until("it is back", func() bool { return len(c.Answer("/readyz")) == 2 && c.PIDs()[1] != pids[1] })
	if c.value("linecard_gateway_worker_restarts_total", "1") != 1 || c.value("linecard_gateway_worker_restarts_total", "2") != 0 ||
		c.value("fake_starts_total", "") != 3 || c.value("linecard_gateway_sessions", "") != 20 {
		t.Errorf("%v restarts, %v starts, %v sessions", c.value("linecard_gateway_worker_restarts_total", ""), c.value("fake_starts_total", ""),
			c.value("linecard_gateway_sessions", ""))
	}
	pids = c.PIDs()
	if err := c.Roll(t.Context(), []byte("second")); err != nil {
		t.Fatal(err)
	}
	// Two left in order, and reported 100 each at their end.
	if n := c.value("fake_starts_total", ""); n != 205 || c.PIDs()[1] == pids[1] || c.PIDs()[2] == pids[2] || c.value("linecard_gateway_workers_ready", "") != 2 {
		t.Errorf("%v starts, pids %v then %v", n, pids, c.PIDs())
	}
	rec, req := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/worker/2/readyz", nil)
	req.SetPathValue("worker", "2")
	req.SetPathValue("page", "readyz")
	c.ServeHTTP(rec, req)
	if rec.Body.String() != "second" {
		t.Errorf("worker 2 runs %q: %d", rec.Body, rec.Code)
	}
	c.stop()
	if n := c.value("fake_starts_total", ""); n != 405 || c.value("linecard_gateway_sessions", "") != 0 {
		t.Errorf("at the end %v starts, %v sessions", n, c.value("linecard_gateway_sessions", ""))
	}
	ln, err := net.Listen("tcp", c.Addr().String())
	if err != nil {
		t.Fatal("the port is still held: ", err)
	}
	ln.Close()
}

// TestRollGivenUp: a replacement that does not start leaves everything as it was.
func TestRollGivenUp(t *testing.T) {
	c := newCrewTest(t, 2, "first", time.Minute)
	c.until("both are ready", func() bool { return len(c.Answer("/readyz")) == 2 })
	pids := c.PIDs()
	if err := c.Roll(t.Context(), []byte("quits")); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("roll: %v, want why it failed", err)
	}
	if now := c.PIDs(); now[1] != pids[1] || now[2] != pids[2] || len(c.Answer("/readyz")) != 2 {
		t.Errorf("pids %v then %v", pids, now)
	}
	// A second try must not take what belongs to the worker that goes on: its sockets, its number.
	if err := c.Roll(t.Context(), []byte("quits")); err == nil {
		t.Error("rolled with what does not start")
	}
	for n := range pids {
		c.current(n).pages.CloseIdleConnections()
	}
	if now := c.PIDs(); now[1] != pids[1] || now[2] != pids[2] || len(c.Answer("/healthz")) != 2 {
		t.Errorf("pids %v then %v, %v healthy", pids, now, c.Answer("/healthz"))
	}
	// Nor is a worker that dies later restarted with what nobody could run with.
	if err := syscall.Kill(pids[2], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.until("it is back", func() bool { return c.PIDs()[2] != pids[2] && len(c.Answer("/readyz")) == 2 })
	ctx, cancel := context.WithCancel(t.Context())
	rolled := make(chan error, 1)
	go func() { rolled <- c.Roll(ctx, []byte("unready")) }()
	c.until("a replacement runs", func() bool { return c.PIDs()[1] != pids[1] })
	if err := c.Roll(ctx, nil); err == nil {
		t.Error("two rolling restarts at once")
	}
	cancel()
	if err := <-rolled; !errors.Is(err, context.Canceled) {
		t.Errorf("roll: %v", err)
	}
	c.stop()
}

// TestReplacementStays: when the old process has ended, having handed over, the new one is not ended for something that it waits for.
func TestReplacementStays(t *testing.T) {
	c := newCrewTest(t, 2, "first", time.Minute)
	c.until("both are ready", func() bool { return len(c.Answer("/readyz")) == 2 })
	old := c.current(1)
	c.mu.Lock()
	c.before = func(int) {
		old.terminate()
		<-old.done
	}
	c.mu.Unlock()
	c.readyLimit = 10 * time.Millisecond
	if err := c.Roll(t.Context(), []byte("unready")); err == nil || !strings.Contains(err.Error(), "took over") {
		t.Fatalf("roll: %v", err)
	}
	next := c.current(1)
	c.until("it answers", func() bool { return next.ask("/healthz") })
	if next == old || next != c.current(1) || c.value("linecard_gateway_worker_restarts_total", "") != 0 {
		t.Errorf("process %d in place of %d, %v restarts", next.cmd.Process.Pid, old.cmd.Process.Pid, c.value("linecard_gateway_worker_restarts_total", ""))
	}
	c.stop()
}

// TestReadyLate: no limit ends a process while sessions come to it.
func TestReadyLate(t *testing.T) {
	w := &worker{path: filepath.Join(t.TempDir(), "w.sock"), done: make(chan struct{})}
	w.pages = &http.Client{Timeout: patience, Transport: w.transport()}
	ln, err := net.Listen("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	pages := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 4 {
			http.Error(rw, whyTaking, http.StatusServiceUnavailable)
		}
	}))
	pages.Listener.Close()
	pages.Listener = ln
	pages.Start()
	defer pages.Close()
	if err := (&Supervisor{readyLimit: time.Nanosecond}).awaitReady(t.Context(), w); err != nil || asked != 4 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// TestStopTwice: who signals all processes, and not only the supervisor, has the workers end in order all the same.
func TestStopTwice(t *testing.T) {
	c := newCrewTest(t, 1, "twice", time.Minute)
	c.until("it is ready", func() bool { return len(c.Answer("/readyz")) == 1 })
	c.changeConfig([]byte("first"))
	w := c.current(1)
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.until("it has heard", func() bool { return !w.ask("/readyz") })
	w.terminate()
	<-w.done
	if w.cause != nil {
		t.Errorf("told to end twice it ended with %v", w.cause)
	}
	c.stop()
}

// TestWorkerThatCannotRun: it is started again and again, with pauses, and what it says is passed on.
func TestWorkerThatCannotRun(t *testing.T) {
	c := newCrewTest(t, 1, "quits", time.Minute)
	c.until("three restarts", func() bool { return c.value("linecard_gateway_worker_restarts_total", "") >= 3 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.said) == 0 || c.said[0] != "panic: as it was told" {
		t.Errorf("said %q", c.said)
	}
}

// TestSickWorker: a worker that is never healthy is ended and started again.
func TestSickWorker(t *testing.T) {
	c := newCrewTest(t, 1, "sick", 5*time.Millisecond)
	c.until("it is restarted", func() bool { return c.value("linecard_gateway_worker_restarts_total", "") >= 1 })
}

// TestStuckWorker: a worker that answers nothing holds up neither a scrape nor the end, and counts as when it last answered.
func TestStuckWorker(t *testing.T) {
	c := newCrewTest(t, 2, "", time.Minute)
	c.until("both are ready", func() bool { return len(c.Answer("/readyz")) == 2 })
	if n := c.value("fake_starts_total", ""); n != 2 {
		t.Fatalf("%v starts", n)
	}
	if err := syscall.Kill(c.PIDs()[1], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.until("it has stopped", func() bool { return len(c.Answer("/healthz")) == 1 }) // a signal takes its time
	all, err := c.Gather()
	if err != nil || familySum(all, "fake_starts_total", "") != 2 || familySum(all, "linecard_gateway_workers_ready", "") != 1 {
		t.Errorf("%v starts, %v ready: %v", familySum(all, "fake_starts_total", ""), familySum(all, "linecard_gateway_workers_ready", ""), err)
	}
	if err := syscall.Kill(c.PIDs()[1], syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.stop()
}

func TestRestartDelay(t *testing.T) {
	for n, most := range map[int]time.Duration{1: restartMin, 2: 2 * restartMin, 7: 64 * restartMin, 8: restartMax, 1000: restartMax} {
		if low, high := restartDelay(n, 0), restartDelay(n, 0.999); low != most/2 || high <= most*9/10 || high > most {
			t.Errorf("restart %d: %v to %v, want up to %v", n, low, high, most)
		}
	}
}
