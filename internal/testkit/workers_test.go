package testkit

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"linecard.example/gateway"
)

// crew is a system whose gateway is a supervisor with workers, under load: devices in pairs that send numbered messages both ways.
type crew struct {
	t       *testing.T
	s       *System
	workers int
	h       *History
	devices []*Device
	labels  map[string][]string
	stop    chan struct{}
	senders sync.WaitGroup
	seen    Metrics // the highest of each counter
}

func newCrew(t *testing.T, workers int, settings string) *crew {
	return newCrewOf(t, Apart, workers, settings)
}

func newCrewOf(t *testing.T, shape Shape, workers int, settings string) *crew {
	c := &crew{t: t, workers: workers, h: NewHistory(), labels: map[string][]string{}, stop: make(chan struct{}), seen: Metrics{}}
	c.s = Start(t, shape, Settings{Gateway: fmt.Sprintf("workers = %d\nloops = 1\nretry_after = \"100ms\"\n%s\n%s", workers, settings, crowd)})
	c.allReady()
	return c
}

// page is what the supervisor's check pages say.
type page struct {
	OK             bool
	Workers, Ready int
	PIDs           map[int]int
}

func (c *crew) ask(path string) (status int, p page) {
	c.t.Helper()
	status, body := c.s.Get("gateway", path)
	if err := json.Unmarshal([]byte(body), &p); status != 0 && err != nil {
		c.t.Fatalf("%s: %d %s: %v", path, status, body, err)
	}
	return status, p
}

func (c *crew) allReady() {
	c.t.Helper()
	Eventually(c.t, "all workers are ready", func() bool {
		status, p := c.ask("/readyz")
		return status == http.StatusOK && p.OK && p.Ready == c.workers && p.Workers == c.workers && len(p.PIDs) == c.workers
	})
}

// talk opens devices and has each send to its neighbour until quiet.
func (c *crew) talk(devices int) {
	c.t.Helper()
	for i := range devices {
		name := fmt.Sprintf("user%d", i)
		c.devices = append(c.devices, c.s.NewDevice(name, c.h, DeviceOptions{}))
		c.labels[name] = []string{name + "/1"}
	}
	for i, d := range c.devices {
		to := c.devices[i^1].Name
		c.senders.Go(func() {
			for {
				select {
				case <-c.stop:
					return
				default:
				}
				if err := d.SayAll(to, 16, 4); err != nil {
					c.t.Errorf("%s: %v", d.Name, err)
					return
				}
			}
		})
	}
}

// moving waits until every device has got something more.
func (c *crew) moving() {
	c.t.Helper()
	for _, d := range c.devices {
		n := len(d.Texts())
		Eventually(c.t, d.Name+" receives", func() bool { return len(d.Texts()) > n+8 })
	}
}

func (c *crew) quiet() {
	c.t.Helper()
	close(c.stop)
	c.senders.Wait()
	c.h.Judge(c.t, c.labels)
	sent, acked, got := c.h.Totals()
	c.t.Logf("sent %d, acked %d, received %d", sent, acked, got)
	if sent != acked || got != sent {
		c.t.Errorf("sent %d, acked %d, received %d: want the same", sent, acked, got)
	}
}

// scrape reads the summed metrics and reports every counter that fell.
func (c *crew) scrape() Metrics {
	c.t.Helper()
	m := c.s.Metrics("gateway")
	for series, was := range c.seen {
		family, _, _ := strings.Cut(series, "{")
		rises := strings.HasSuffix(family, "_total") || strings.HasSuffix(family, "_count") || strings.HasSuffix(family, "_bucket")
		if now, there := m[series]; rises && (!there || now < was) {
			c.t.Errorf("%s fell from %v to %v (%v)", series, was, now, there)
		}
	}
	c.seen = m
	return m
}

// sessions returns the sessions of each worker.
func (c *crew) sessions() map[int]int {
	c.t.Helper()
	m, per := c.scrape(), map[int]int{}
	for n := range c.workers {
		if v, ok := m[fmt.Sprintf("linecard_gateway_sessions{worker=%q}", fmt.Sprint(n+1))]; ok {
			per[n+1] = int(v)
		}
	}
	return per
}

func (c *crew) connects() (n int) {
	for _, d := range c.devices {
		n += int(d.Connects())
	}
	return n
}

// fullest returns the worker with the most sessions.
func fullest(per map[int]int) (worker int) {
	for n := range per {
		if worker == 0 || per[n] > per[worker] {
			worker = n
		}
	}
	return worker
}

// TestWorkerKilled kills one worker of three under load: its clients go on at the others, nobody loses or doubles a message, the other
// sessions stay, the sums do not fall, and the worker comes back. At last the supervisor is killed, and nothing of it is left.
func TestWorkerKilled(t *testing.T) {
	c := newCrew(t, 3, "")
	c.talk(12)
	c.moving()
	before := c.sessions()
	victim := fullest(before)
	_, p := c.ask("/readyz")
	connects, stanzas := c.connects(), c.seen.Sum("linecard_gateway_stanzas_total")
	const full, resumed = `linecard_gateway_handshakes_total{result="ok"}`, `linecard_gateway_handshakes_total{result="resumed"}`
	handshakes := c.seen[full]
	if connects != 12 || len(before) != 3 {
		t.Fatalf("%d connects, sessions %v", connects, before)
	}
	must(t, syscall.Kill(p.PIDs[victim], syscall.SIGKILL))
	Eventually(t, "the restart is counted", func() bool {
		return c.scrape()[fmt.Sprintf("linecard_gateway_worker_restarts_total{worker=%q}", fmt.Sprint(victim))] == 1
	})
	c.moving()
	c.allReady()
	_, after := c.ask("/readyz")
	// Offline closes a session once more whose first deliveries overtook its bound, when an ack of the one before is committed just then.
	again := int(c.scrape()[`linecard_gateway_closes_total{reason="unresponsive"}`])
	lost := before[victim] + again
	if after.PIDs[victim] == p.PIDs[victim] || c.connects() != connects+lost || again > before[victim] {
		t.Errorf("pids %v then %v; %d connects before, %d and %d sessions lost, %d connects after", p.PIDs, after.PIDs, connects, before[victim], again, c.connects())
	}
	if m := c.scrape(); m[full] != handshakes || m[resumed] != float64(lost) {
		t.Errorf("%d sessions lost: %v full handshakes then %v, %v resumed", lost, handshakes, m[full], m[resumed])
	}
	if m := c.scrape(); m.Sum("linecard_gateway_stanzas_total") < stanzas || m.Sum("linecard_gateway_sessions") != 12 {
		t.Errorf("stanzas %v then %v; sessions %v", stanzas, m.Sum("linecard_gateway_stanzas_total"), m.Sum("linecard_gateway_sessions"))
	}
	c.quiet()
	c.orphans(after.PIDs)
}

// orphans kills the supervisor and waits until its workers are gone and the port is free.
func (c *crew) orphans(pids map[int]int) {
	c.t.Helper()
	c.s.Process("gateway").Kill()
	for _, pid := range pids {
		Eventually(c.t, "workers end with their supervisor", func() bool { return hasEnded(pid) })
	}
	Eventually(c.t, "the port is free", func() bool { // the last thread of a process may close its sockets after the first has ended
		ln, err := net.Listen("tcp", c.s.Server)
		if err != nil {
			return false
		}
		return ln.Close() == nil
	})
	c.s.StartAll()
	c.allReady()
}

// hasEnded reports whether a process is gone, or one of which only its parent has not taken notice: an orphan's may never do.
func hasEnded(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && strings.HasPrefix(state, "Z")
}

// TestRollingRestart replaces all workers under load: no message is lost, there is always somebody ready, every client keeps its
// session or finds another place, and the sums do not fall. A configuration that cannot be taken over changes nothing.
func TestRollingRestart(t *testing.T) {
	c := newCrew(t, 3, "")
	c.talk(12)
	c.moving()
	_, before := c.ask("/readyz")
	c.scrape()
	must(t, syscall.Kill(c.s.Process("gateway").PID(), syscall.SIGHUP))
	rolled := func(log string) bool {
		if status, _ := c.ask("/readyz"); status != http.StatusOK {
			t.Error("nobody was ready")
		}
		c.scrape()
		return strings.Contains(c.s.Process("gateway").Output(), log)
	}
	Eventually(t, "the rolling restart is done", func() bool { return rolled("rolling restart done") })
	c.moving()
	_, after := c.ask("/readyz")
	for n, pid := range before.PIDs {
		if after.PIDs[n] == pid {
			t.Errorf("worker %d is still process %d", n, pid)
		}
	}
	if m := c.scrape(); m.Sum("linecard_gateway_worker_restarts_total") != 0 || m.Sum("linecard_gateway_sessions") != 12 {
		t.Errorf("restarts %v, sessions %v", m.Sum("linecard_gateway_worker_restarts_total"), m.Sum("linecard_gateway_sessions"))
	}
	if _, code := c.s.Run("gateway", "--config", c.s.config("gateway"), "--upgrade"); code != 0 {
		t.Errorf("--upgrade: exit code %d", code)
	}
	_, upgraded := c.ask("/readyz")
	for n, pid := range after.PIDs {
		if upgraded.PIDs[n] == pid {
			t.Errorf("worker %d is still process %d", n, pid)
		}
	}
	after = upgraded
	c.moving()
	if n := c.connects(); gateway.CanHandOver && n != 12 {
		t.Errorf("%d connects of 12 devices: a new worker takes the sessions of the one that it replaces", n)
	}
	text, err := os.ReadFile(c.s.config("gateway"))
	must(t, err)
	must(t, os.WriteFile(c.s.config("gateway"), []byte(strings.Replace(string(text), "workers = 3", "workers = 2", 1)), 0o600))
	must(t, syscall.Kill(c.s.Process("gateway").PID(), syscall.SIGHUP))
	Eventually(t, "the change is refused", func() bool { return rolled("needs a restart of the supervisor: gateway.workers") })
	if _, p := c.ask("/readyz"); !maps.Equal(p.PIDs, after.PIDs) {
		t.Errorf("pids %v then %v", after.PIDs, p.PIDs)
	}
	c.quiet()
	if code, err := c.s.Process("gateway").Stop(30 * time.Second); code != 0 || err != nil {
		t.Errorf("the supervisor ended with %d %v", code, err)
	}
	for _, pid := range after.PIDs {
		if !hasEnded(pid) {
			t.Errorf("process %d outlived its supervisor", pid)
		}
	}
}

// TestFullWorkers fills the workers to the brim: whoever meets a full one is told worker_full and finds a place at another, and when there is
// none left, the next one has to wait until somebody goes.
func TestFullWorkers(t *testing.T) {
	const places, most = 40, 10
	c := newCrew(t, places/most, fmt.Sprintf("max_sessions = %d", most))
	var coming sync.WaitGroup
	var mu sync.Mutex
	open := func(name string) {
		coming.Go(func() {
			d, err := c.s.OpenDevice(name, nil, DeviceOptions{})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			c.devices = append(c.devices, d)
		})
	}
	for i := range places {
		open(fmt.Sprintf("user%d", i))
	}
	coming.Wait()
	if t.Failed() {
		return
	}
	full := "linecard_gateway_handshakes_total{result=\"worker_full\"}"
	if per := c.sessions(); len(per) != places/most || per[fullest(per)] != most || c.seen.Sum("linecard_gateway_sessions") != places {
		t.Errorf("sessions %v, want %d each", per, most)
	}
	refused := c.seen[full]
	open("late")
	Eventually(t, "the late one is refused", func() bool { return c.scrape()[full] > refused })
	for _, d := range c.devices[:places/2] { // of all workers: where a connection comes to is chance, and each try that meets a full one makes the next one later
		d.Close()
	}
	coming.Wait()
	if n := len(c.devices); n != places+1 {
		t.Errorf("%d found a place", n)
	}
}

// TestWorkerPages: the operator sees the gateway as one, and can look at each worker.
func TestWorkerPages(t *testing.T) {
	c := newCrew(t, 2, "")
	families := pages(t, c.s)
	text, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Workers\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for name, f := range families {
		if f.labels["worker"] != strings.Contains(section, "`"+name+"`") && name != "linecard_gateway_workers" && name != "linecard_gateway_workers_ready" {
			t.Errorf("%s: label worker %v, and the section about workers does not agree", name, f.labels["worker"])
		}
	}
	for _, name := range []string{"linecard_gateway_workers", "linecard_gateway_workers_ready"} {
		if families[name].sum() != 2 || !strings.Contains(section, "`"+name+"`") {
			t.Errorf("%s is %v", name, families[name].sum())
		}
	}
	for path, want := range map[string]string{
		"/worker/1/readyz": `"ok":true`, "/worker/2/metrics": "linecard_gateway_sessions 0\n", "/worker/2/debug/pprof/goroutine?debug=1": "goroutine profile:",
	} {
		if status, body := c.s.Get("gateway", path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := c.s.Get("gateway", "/worker/3/readyz"); status != http.StatusNotFound {
		t.Errorf("a worker that there is not: %d", status)
	}
	status, p := c.ask("/healthz")
	if status != http.StatusOK || !p.OK {
		t.Errorf("healthz: %d %+v", status, p)
	}
	for _, pid := range p.PIDs { // as "killall -HUP linecard" does
		must(t, syscall.Kill(pid, syscall.SIGHUP))
	}
	if status, _ := c.s.Get("gateway", "/worker/1/readyz"); status != http.StatusOK {
		t.Errorf("after SIGHUP worker 1 says %d", status)
	}
	if _, after := c.ask("/healthz"); !maps.Equal(after.PIDs, p.PIDs) {
		t.Errorf("SIGHUP ended workers: %v then %v", p.PIDs, after.PIDs)
	}
}
