package bench

import (
	"fmt"
	"testing"
	"time"

	"linecard.example/internal/testkit"
)

const (
	setUps     = 2000 // of a round
	warmSetUps = 200
	rounds     = 3
)

// BenchmarkHandshake measures what a session costs the server to set up: accept, Noise XX, and the answer to register (a new
// account, committed) or bind (a known device), up to bound. Closing is measured apart. inFlight set-ups go on at once.
func BenchmarkHandshake(b *testing.B) {
	s := start(b)
	warm := newDevices(s, 0, warmSetUps)
	s.connectAll(warm)
	closeAll(warm)
	profiled := s.profile(8 * time.Second)
	var register, bind, end, perSecond []float64
	var others shares
	for round := range rounds {
		devices := newDevices(s, warmSetUps+round*setUps, setUps)
		for _, into := range []*[]float64{&register, &bind} {
			c := s.costOf(func() { s.connectAll(devices) })
			*into = append(*into, c.per(setUps))
			others.add(c)
			if into == &bind {
				perSecond = append(perSecond, setUps/c.wall.Seconds())
			}
			c = s.costOf(func() {
				closeAll(devices)
				s.rest(500 * time.Millisecond)
			})
			end = append(end, c.per(setUps))
		}
	}
	profiled()
	b.ReportMetric(median(register), "register-us")
	b.ReportMetric(median(bind), "bind-us")
	b.ReportMetric(median(end), "close-us")
	table.add("session set-up, XX + register of a new account", "225 us", "%s us", spread(register))
	table.add("session set-up, XX + bind of a known device", "225 us", "%s us", spread(bind))
	table.add("end of a session, closed by the client", "-", "%s us", spread(end))
	table.add("set-ups (bind) per second, client on the same cores; others used", "-", "%.0f; %s", median(perSecond), others)
	reportShares(b, "a register, a bind and both ends", median(register)+median(bind)+2*median(end))
}

// newDevices makes clients that are not registered yet, numbered from from.
func newDevices(s *system, from, n int) []*testkit.Lean {
	devices := make([]*testkit.Lean, n)
	for i := range devices {
		d, err := s.site.NewLean(fmt.Sprintf("u%d", from+i))
		if err != nil {
			s.b.Fatal(err)
		}
		d.Hooks.Ended = s.fail
		devices[i] = d
	}
	return devices
}

func (s *system) connectAll(devices []*testkit.Lean) {
	s.b.Helper()
	s.each(len(devices), func(i int) error { return devices[i].Connect() })
}

func closeAll(devices []*testkit.Lean) {
	for _, d := range devices {
		d.Close()
	}
}
