package relay

import (
	"fmt"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"linecard.example/bench/meter"
)

// Result is what a run found. Packets are relayed ones, both directions; of a direct run, those of both directions.
type Result struct {
	Sessions              int
	Packets               int64
	Lost                  int64 // of what was sent in the time that was measured, as far as it did not come back
	Time                  time.Duration
	CPU                   time.Duration // of the server's processes
	Switches              int64         // context switches of theirs
	Others                time.Duration // CPU time of everything else on the machine but this process
	P50, P99, P999, Worst time.Duration // of round trips
}

// PerPacket is the server's CPU time for a packet.
func (r Result) PerPacket() time.Duration {
	if r.Packets == 0 {
		return 0
	}
	return r.CPU / time.Duration(r.Packets)
}

// Rate is packets per second.
func (r Result) Rate() float64 { return float64(r.Packets) / r.Time.Seconds() }

// String is one line.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d sessions: %.0f packets/s, lost %d, CPU %.2f us per packet, %.3f context switches, ", r.Sessions, r.Rate(), r.Lost,
		float64(r.PerPacket().Nanoseconds())/1e3, float64(r.Switches)/float64(max(1, r.Packets)))
	fmt.Fprintf(&b, "round trip p50 %s p99 %s p99.9 %s worst %s", r.P50, r.P99, r.P999, r.Worst)
	return b.String()
}

// group is sessions that are open.
type group struct {
	o    Options
	l    login
	list []*session
}

// open opens sessions until there are n.
func (g *group) open(n int) error {
	for len(g.list) < n {
		connect := open
		if g.o.Direct {
			connect = openDirect
		}
		s, err := connect(g.o, &g.l)
		if err != nil {
			return fmt.Errorf("session %d: %w", len(g.list), err)
		}
		g.list = append(g.list, s)
	}
	return nil
}

// close ends the allocations, as far as the server hears it.
func (g *group) close() {
	for _, s := range g.list {
		if !g.o.Direct {
			s.release(&g.l)
		}
		s.close()
	}
}

// Run opens the sessions, puts the load on, and measures.
func Run(o Options) (Result, error) {
	if err := o.validate(); err != nil {
		return Result{}, err
	}
	g := group{o: o, l: login{user: o.User, password: o.Password}}
	defer g.close()
	r := Result{Sessions: o.Sessions}
	if err := g.open(o.Sessions); err != nil {
		return r, err
	}
	return r, r.load(o, g.list)
}

// Hold opens the options' sessions and returns the memory of the server's processes with none of them, with some, and with all. Packets have
// gone through each, at the options' rate for their time.
func Hold(o Options, some int) (none, few, all meter.Memory, err error) {
	if err = o.validate(); err != nil {
		return none, few, all, err
	}
	g := group{o: o, l: login{user: o.User, password: o.Password}}
	defer g.close()
	var found [3]meter.Memory
	for i, n := range [3]int{0, some, o.Sessions} {
		if err = g.open(n); err == nil && n > 0 {
			var r Result
			err = r.load(o, g.list)
		}
		if err == nil {
			time.Sleep(settle)
			found[i], err = meter.MemoryOf(o.PIDs)
		}
		if err != nil {
			break
		}
	}
	return found[0], found[1], found[2], err
}

// settle is how long the server may tidy up before its memory is read.
const settle = 300 * time.Millisecond

// load puts the load on for warm, then measures.
func (r *Result) load(o Options, sessions []*session) error {
	e, err := newEngine(o, sessions)
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.run(o.Warm); err != nil {
		return err
	}
	e.reset()
	before, err := readCharges(o.PIDs)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := e.run(o.Time); err != nil {
		return err
	}
	r.Time = time.Since(start)
	after, err := readCharges(o.PIDs)
	if err != nil {
		return err
	}
	r.CPU, r.Switches = after.server-before.server, after.switches-before.switches
	r.Others = max(0, after.machine-before.machine-r.CPU-(after.client-before.client))
	r.Packets, r.Lost = e.relayed, e.lost
	r.P50, r.P99, r.P999 = quantile(e.trips, 50), quantile(e.trips, 99), quantile(e.trips, 99.9)
	r.Worst = time.Duration(e.trips.Max())
	return nil
}

// charges is what the kernel has charged for until now.
type charges struct {
	server, client, machine time.Duration
	switches                int64
}

func readCharges(pids []int) (c charges, err error) {
	if c.server, err = meter.CPUOf(pids); err != nil {
		return c, err
	}
	c.client, c.machine, c.switches = meter.Own(), meter.Busy(), meter.Switches(pids)
	return c, nil
}

func newTrips() *hdrhistogram.Histogram {
	return hdrhistogram.New(1000, int64(10*time.Second), 3)
}

func quantile(h *hdrhistogram.Histogram, q float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(q))
}
