package bench

import (
	"net/netip"
	"strings"
	"testing"
)

// bigMachine is a machine that lacks nothing for two million sessions with both ends on it.
var bigMachine = host{available: 22 << 30, hardFiles: 20000, portLow: 32768, portHigh: 60999, anySource: true, maxProcess: 4 << 20}

func TestPlan(t *testing.T) {
	p := bigMachine.planFor(Options{}, 2_000_000, 0)
	if p.workers != 108 || p.engines != 112 || p.perEngine != 18000 || len(p.sources) != 2*112 || !p.here {
		t.Errorf("%d workers, %d engines of %d, %d sources, here %v", p.workers, p.engines, p.perEngine, len(p.sources), p.here)
	}
	seen := map[netip.Addr]bool{}
	for _, a := range p.sources {
		if seen[a] || !a.IsLoopback() {
			t.Errorf("source %v", a)
		}
		seen[a] = true
	}
	if m := bigMachine.missing(p); len(m) != 0 {
		t.Errorf("missing: %q", m)
	}
	small := bigMachine.planFor(Options{}, 15000, 0)
	if small.workers != 1 || small.engines != 1 || len(small.sources) != 2 {
		t.Errorf("%+v", small)
	}
	if away := bigMachine.planFor(Options{Agents: []string{"h:1"}}, 2_000_000, 0); away.here || away.sources != nil {
		t.Errorf("clients on another machine choose their own sources: %+v", away)
	}
	if led := bigMachine.planFor(Options{}, 18100, 100); led.engines != 2 || len(led.sources) != 4 {
		t.Errorf("with a client process for the first 100: %+v", led)
	}
	tight := host{hardFiles: 1024}.planFor(Options{}, 15000, 0)
	if tight.perEngine != 960 || tight.engines != 16 || tight.workers != 22 {
		t.Errorf("%+v", tight)
	}
}

// TestMissing holds that what a machine lacks is said exactly, with what would help.
func TestMissing(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*host)
		o        Options
		sessions int
		want     string
	}{
		{"nothing", func(*host) {}, Options{}, 2_000_000, ""},
		{"memory", func(h *host) { h.available = 8 << 30 }, Options{}, 2_000_000,
			"memory: 8.0 GiB available, 2000000 sessions with both ends here, 108 workers and 112 client processes need about 19.7 GiB"},
		{"workers", func(*host) {}, Options{Workers: 50}, 2_000_000,
			"open files: the hard limit of 20000 lets 50 workers hold 940190 sessions; 2000000 need --workers 107, or a higher limit"},
		{"ports", func(h *host) { h.anySource = false }, Options{}, 100_000,
			"ports: one source address has 22584 (32768 to 60999); 100000 sessions need 5 addresses on the loopback interface, or remote clients"},
		{"processes", func(h *host) { h.maxProcess = 4096 }, Options{}, 2_000_000,
			"processes: kernel.pid_max is 4096, 108 workers and 112 client processes have about 4480 threads"},
		{"unknown", func(h *host) { *h = host{hardFiles: 20000} }, Options{}, 2_000_000, ""},
		{"ports of gateways elsewhere", func(*host) {}, Options{Gateways: make([]netip.AddrPort, 2)}, 100_000,
			"ports: this machine has 45168 to 2 gateways (32768 to 60999); 100000 sessions need more addresses of gateways, or clients on 3 machines"},
		{"elsewhere", func(h *host) { h.available = 1 }, Options{Agents: []string{"h:1"}}, 2_000_000, ""},
	} {
		h := bigMachine
		c.change(&h)
		if got := strings.Join(h.missing(h.planFor(c.o, c.sessions, 0)), "\n"); got != c.want {
			t.Errorf("%s: %q\nwant %q", c.name, got, c.want)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, ""},
		{Options{Sessions: -1}, "not negative"},
		{Options{Shape: Together, Workers: 2}, "--shape apart"},
		{Options{Gateways: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7400")}}, "--root"},
		{Options{Gateways: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7400")}, Root: "x", KillWorker: true}, "only a worker of this machine"},
		{Options{Gateways: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7400")}, Root: "x", Settings: map[string]string{"log": "x"}}, "cannot be given settings"},
		{Options{Settings: map[string]string{"gatway": "x"}}, `settings of "gatway"`},
		{Options{Admins: map[string][]string{"routers": {"x"}}}, `listener of "routers"`},
	} {
		o, err := c.o.check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
		if o.Exe == "" || o.Dir == "" || o.Out == "" || o.Console == nil {
			t.Errorf("not filled in: %+v", o)
		}
	}
	if _, err := Run(t.Context(), "nothing", Options{}); err == nil {
		t.Error("an unknown scenario ran")
	}
}
