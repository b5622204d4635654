package bench

import (
	"bytes"
	"io"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

func TestProgress(t *testing.T) {
	now := time.Unix(1000, 0)
	var out bytes.Buffer
	p := &progress{w: &out, clock: func() time.Time { return now }}
	p.begin("open", 15000, "sessions")
	now = now.Add(time.Second)
	p.at(1000, "") // too soon for a line
	now = now.Add(4 * time.Second)
	p.at(7500, "")
	now = now.Add(5 * time.Second)
	p.end(15000, ", none lost")
	p.at(1, "") // nothing runs
	const want = "open: 7500 of 15000 sessions, 1500/s, 5s to go\nopen: 15000 sessions in 10.0 s, 1500/s, none lost\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	out.Reset()
	p.terminal = true
	p.begin("hold", 60, "s")
	now = now.Add(time.Second)
	p.at(1, "")
	p.at(1.5, "")
	p.end(60, "")
	const rewritten = "\rhold: 1 of 60 s, 59s to go\rhold: 2 of 60 s, 39s to go\rhold: 60 s in 1.0 s       \n"
	if out.String() != rewritten {
		t.Errorf("on a terminal: %q, want %q", out.String(), rewritten)
	}
}

// ticksOf makes a tick each second with the given CPU seconds and acked messages.
func ticksOf(cpu []float64, acked []uint64) (all []tick) {
	for i := range cpu {
		all = append(all, tick{
			at: time.Unix(int64(i), 0), clients: swarm.Counters{Acked: acked[i]}, busy: time.Duration(i) * 2 * time.Second,
			servers: parts{{Name: "gateway", Usage: meter.Usage{User: time.Duration(cpu[i] * 1e9)}}, {Name: "router", Usage: meter.Usage{System: time.Second}}, {Name: "offline"}},
		})
	}
	return all
}

func TestWindows(t *testing.T) {
	ticks := ticksOf([]float64{0, 1, 2, 4, 6, 6.5, 7}, []uint64{0, 100, 200, 300, 400, 500, 600})
	l := loaded{windows: windowsOf(ticks, 3)}
	cpu, rates := l.cpu(), l.rates()
	if len(cpu) != 3 || cpu[0] != 5000 || cpu[1] != 1e4 || cpu[2] != 2e4 || rates[1] != 100 {
		t.Errorf("cpu %v us, rates %v", cpu, rates)
	}
	if got := l.windows[1].cores(); got != 2 {
		t.Errorf("%v cores", got)
	}
	if others := l.windows[0].others(2); others != 0.5 {
		t.Errorf("others used %v", others)
	}
	if n := len(windowsOf(ticks[:2], 3)); n != 1 {
		t.Errorf("%d windows between two ticks", n)
	}
	if n := len(windowsOf(ticks[:1], 3)); n != 0 {
		t.Errorf("%d windows with one tick", n)
	}
}

func TestParseMetrics(t *testing.T) {
	m := parseMetrics("# HELP a x\n# TYPE a counter\na{l=\"1\"} 2\na{l=\"2\"} 3.5\nb 1e3\nnothing\n\n")
	if m.sum("a") != 5.5 || m.sum("b") != 1000 || len(m) != 2 {
		t.Errorf("%v", m)
	}
	if got := m.since(counters{"a": 5}, "a"); got != 0.5 {
		t.Errorf("since: %v", got)
	}
}

func TestLeaks(t *testing.T) {
	line := func(f func(i float64) float64) (all [][2]float64) {
		for i := range 20 {
			all = append(all, [2]float64{float64(i), f(float64(i))})
		}
		return all
	}
	for _, c := range []struct {
		name   string
		values [][2]float64
		leak   bool
		slope  float64
	}{
		{"level", line(func(float64) float64 { return 100 }), false, 0},
		{"steady growth", line(func(i float64) float64 { return 100 + 10*i }), true, 36000},
		{"growth that ends", line(func(i float64) float64 { return min(300, 100+30*i) }), false, 0},
		{"one odd value at the end", append(line(func(float64) float64 { return 100 }), [2]float64{20, 1000}), false, math.NaN()},
	} {
		r := &run{scenario: "soak", rep: &report.Report{}}
		err := r.leaks([]*resource{{key: "files", name: "open files", grown: 0.1, slack: 5, values: c.values}})
		if (err != nil) != c.leak {
			t.Errorf("%s: %v", c.name, err)
		}
		if f, ok := r.rep.Figure("soak", "files_per_hour"); !ok || !math.IsNaN(c.slope) && math.Abs(f.Value-c.slope) > 1e-6 {
			t.Errorf("%s: slope %v, want %v", c.name, f.Value, c.slope)
		}
	}
	if slopeOf(nil) != 0 || slopeOf([][2]float64{{1, 1}, {1, 2}}) != 0 {
		t.Error("a slope of no line")
	}
}

// TestSoakRoles holds that the parts of a soak have nothing in common and leave nobody out.
func TestSoakRoles(t *testing.T) {
	talking, cut, leaving := soakRoles(40)
	if cut.Count != 10 || leaving.Count != 10 || talking.Count != 20 {
		t.Errorf("%+v, %+v, %+v", talking, cut, leaving)
	}
	for n := range 40 {
		in := 0
		for _, part := range []swarm.Range{talking, cut, leaving} {
			if part.Has(n) {
				in++
			}
		}
		if in != 1 {
			t.Errorf("session %d has %d roles", n, in)
		}
	}
}

// TestUntold holds that a figure is left out, with a note, where not all servers tell what it needs: nothing counts as nothing used.
func TestUntold(t *testing.T) {
	gateway := parts{{Name: "gateway", Processes: 1, Memory: meter.Memory{PSS: 2 << 20}, Usage: meter.Usage{User: time.Second}}}
	for _, c := range []struct {
		servers parts
		has     []string
	}{
		{nil, nil},
		{gateway, []string{"gateway_marginal_bytes", "worker_empty_bytes"}},
		{append(gateway, part{Name: "router"}, part{Name: "offline"}), []string{
			"user_bytes_per_session", "gateway_marginal_bytes", "router_bytes", "offline_bytes", "behind_bytes", "worker_empty_bytes", "base_bytes", "cpu",
		}},
		{parts{{Name: "up"}}, []string{"user_bytes_per_session", "base_bytes", "cpu"}},
	} {
		r := &run{o: Options{Shape: Apart}, scenario: "density", rep: &report.Report{}, fleet: &swarm.Fleet{}, ctx: t.Context(), empty: c.servers}
		r.memory(100, c.servers)
		w := window{tick{at: time.Unix(0, 0)}, tick{at: time.Unix(1, 0), servers: c.servers}}
		r.add(report.Figure{Key: "cpu", Value: w.per(100)})
		var keys []string
		for _, f := range r.rep.Figures {
			keys = append(keys, f.Key)
		}
		if !slices.Equal(keys, c.has) {
			t.Errorf("%+v: figures %v, want %v", c.servers, keys, c.has)
		}
	}
}

// TestStranger holds that a refusal is not taken for a handshake that a server has computed.
func TestStranger(t *testing.T) {
	for _, c := range []struct {
		answer []byte
		want   bool
	}{{wire.AppendRefused(nil, stanza.ReasonOverload, 0), false}, {[]byte{0, 2, byte(wire.KindXX), 0}, true}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			nc, err := ln.Accept()
			if err != nil {
				return // the stranger says so
			}
			_, _ = nc.Write(c.answer)
			_, _ = io.Copy(io.Discard, nc)
			nc.Close()
		}()
		if got, err := stranger(ln.Addr().String(), []byte("hello")); err != nil || got != c.want {
			t.Errorf("%x: %v, %v", c.answer, got, err)
		}
		ln.Close()
	}
}

func TestFaults(t *testing.T) {
	if err := faults(swarm.Traffic{Sent: 5, Acked: 5, Delivered: 5, Resent: 1, Redelivered: 1}); err != nil {
		t.Error("what is allowed: ", err)
	}
	for _, bad := range []swarm.Traffic{{Lost: 1}, {Unacked: 1}, {Rejected: 1}, {Unsent: 1}, {Doubled: 1}, {Disordered: 1}, {Corrupt: 1}} {
		if faults(bad) == nil {
			t.Errorf("passed: %+v", bad)
		}
	}
}
