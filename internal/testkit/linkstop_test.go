package testkit

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// stopTime is how long a link stands still: longer than the 10 s after which a stream is given up and a gateway's bindings are dropped.
const stopTime = 30 * time.Second

// stopCase stops links: nothing comes through and nothing fails.
type stopCase struct {
	name   string
	legs   []link.Leg // stopped by a hook
	valves []string   // stopped at TCP, as "from>to"; with any, the system is two of each, else one process
	grpc   bool       // two of each although there are no valves
	served []served   // those who must not notice
	quiet  bool       // no message needs these links, only receipts or answers to queries
}

// served is a crowd beside a stopped link: at which gateway, in which shards.
type served struct{ door, low, high int }

// everything but what the first half of the shards needs.
var (
	secondHalf = []served{{0, 4, 7}, {1, 4, 7}}
	allShards  = served{1, 0, 7}
)

func stopCases() []stopCase {
	g, r, o := link.RoleGateway, link.RoleRouter, link.RoleOffline
	cases := []stopCase{
		{name: "offline in one process", legs: []link.Leg{{From: g, To: o}, {From: o, To: g}, {From: r, To: o}, {From: o, To: r}}},
		{name: "gateway and offline", valves: []string{"gateway1>offline1"}, served: append([]served{allShards}, secondHalf...)},
		{name: "an offline", valves: []string{"gateway1>offline1", "gateway2>offline1", "router1>offline1", "router2>offline1",
			"offline1>offline2", "offline2>offline1"}, served: secondHalf},
		{name: "a router", valves: []string{"gateway1>router1", "gateway2>router1", "router1>offline1", "router1>offline2"}, served: secondHalf},
		{name: "a gateway", valves: []string{"gateway1>router1", "gateway1>router2", "gateway1>offline1", "gateway1>offline2"},
			served: []served{allShards}},
	}
	if os.Getenv("LINECARD_LONG") == "" {
		return cases
	}
	for leg := range legs { // one direction each
		receipts, answers := leg == link.Leg{From: o, To: o}, leg.From == r && leg.To == g || leg.From == o && leg.To == r
		cases = append(cases,
			stopCase{name: fmt.Sprintf("%v to %v in one process", leg.From, leg.To), legs: []link.Leg{leg}, quiet: receipts || answers},
			stopCase{name: fmt.Sprintf("%v to %v over gRPC", leg.From, leg.To), legs: []link.Leg{leg}, grpc: true, quiet: receipts})
	}
	return cases
}

// run lets two groups write while links stand still: those who need them, who are refused or wait and lose nothing, and those who do
// not, who must not notice.
func (c stopCase) run(t *testing.T) {
	f := newFaults(t)
	var s *spread
	if len(c.valves) == 0 && !c.grpc {
		s = upInside(t, f)
	} else {
		s = twoOfEach(t, f)
	}
	var crowds []*Crowd
	for i, x := range c.served {
		crowds = append(crowds, s.doors[x.door].NewCrowd(CrowdOptions{Sessions: 4, Prefix: fmt.Sprintf("crowd%d-", i), Skip: func(handle string) bool {
			n := stanza.HandleShard(handle, spreadShards)
			return n < x.low || n > x.high
		}}))
	}
	w := newWriters(s)
	w.round() // everybody knows everybody
	refused := s.refused()
	start := time.Now()
	c.set(f, s, true)
	defer c.set(f, s, false) // a system with a stopped leg does not end
	w.start()
	for time.Since(start) < stopTime {
		for _, crowd := range crowds {
			crowd.Turn()
		}
		s.healthy()
		time.Sleep(time.Second) // the case is that nothing happens for so long
	}
	s.bounded()
	if !c.quiet && s.refused() == refused {
		t.Error("nobody was refused anything, or told to send again")
	}
	c.blamed(s)
	c.set(f, s, false)
	healed := time.Now()
	w.finish()
	t.Logf("all was acked %v after the links went on", time.Since(healed).Round(time.Millisecond))
	for _, crowd := range crowds {
		crowd.Rest()
	}
	s.waitReady()
	s.settle()
	for _, crowd := range crowds {
		crowd.end()
	}
	w.close()
	s.empty()
}

func (c stopCase) set(f *link.Faults, s *spread, stop bool) {
	for _, leg := range c.legs {
		if stop {
			f.Stop(leg)
		} else {
			f.Go(leg)
		}
	}
	for _, name := range c.valves {
		s.valves[name].set(!stop)
	}
}

// blamed looks whether each dialler of a stopped link names it in /readyz.
func (c stopCase) blamed(s *spread) {
	s.t.Helper()
	for _, name := range c.valves {
		from, _, _ := strings.Cut(name, ">")
		if _, body := s.get(from, "/readyz"); !strings.Contains(body, "no stream to "+s.valves[name].ln.Addr().String()) &&
			!strings.Contains(body, ", to "+s.valves[name].ln.Addr().String()) {
			s.t.Errorf("%s does not miss its stream %s: %s", from, name, body)
		}
	}
}

// healthy reports a loop or shard goroutine that does not turn.
func (s *spread) healthy() {
	s.t.Helper()
	for name := range s.nodes {
		if status, body := s.get(name, "/healthz"); status == 503 {
			s.t.Errorf("%s is stuck: %s", name, body)
		}
	}
}

// bounded reports streams that hold more than was granted.
func (s *spread) bounded() {
	s.t.Helper()
	for _, e := range s.endpoints() {
		for _, peer := range []link.Role{link.RoleGateway, link.RoleRouter, link.RoleOffline} {
			if u := e.Usage(peer); max(u.Used, u.Taken) > int64(u.Streams)*2*spreadShards*spreadCredit {
				s.t.Errorf("%v to %v: %+v", e.Info().Role, peer, u)
			}
		}
	}
}

// refused counts what clients were told to send again.
func (s *spread) refused() (n float64) {
	for _, series := range []string{
		`linecard_gateway_refusals_total`, `linecard_router_refusals_total`, `linecard_gateway_stanzas_total{direction="down",kind="retry"}`,
	} {
		n += s.sum(series)
	}
	return n
}

// writers are devices in all shards and at all gateways that write to each other: enough to use up the credits of a group.
type writers struct {
	*spread
	h       *History
	devices []*Device
	labels  map[string][]string
	stop    chan struct{}
	work    sync.WaitGroup
}

func newWriters(s *spread) *writers {
	w := &writers{spread: s, h: NewHistory(), labels: map[string][]string{}, stop: make(chan struct{})}
	for i := range 8 {
		half := i % 2 * spreadShards / 2
		name := homeShard(fmt.Sprintf("writer%d-", i), half, half+spreadShards/2-1)
		w.devices = append(w.devices, s.doors[i/2%len(s.doors)].NewDevice(name, w.h, DeviceOptions{}))
		w.labels[name] = []string{name + "/1"}
	}
	return w
}

// round has everybody write once to everybody.
func (w *writers) round() {
	for _, from := range w.devices {
		for _, to := range w.devices {
			if from != to {
				must(w.t, from.SayAll(to.Name, 1, 1))
			}
		}
	}
}

// bulk is a text that fills the credits of a group with few messages.
var bulk = strings.Repeat("every byte of this waits somewhere while the link stands still. ", 100)

// start has everybody write to everybody until finish: half of it large, to one device.
func (w *writers) start() {
	for i, from := range w.devices {
		for j, to := range w.devices {
			switch {
			case j == 0 && i != 0:
				w.repeat(from, to.Name, bulk)
			case i != j && (i+j)%2 == 1:
				w.repeat(from, to.Name, "x")
			}
		}
	}
}

// repeat keeps up to 12 messages under way.
func (w *writers) repeat(d *Device, to, text string) {
	room := make(chan struct{}, 12)
	w.work.Go(func() {
		for {
			select {
			case <-w.stop:
				return
			case room <- struct{}{}:
			}
			sent, err := d.Say(to, text)
			if err != nil {
				w.t.Error(err)
				return
			}
			w.work.Go(func() {
				if err := d.Acked(to, sent); err != nil {
					w.t.Errorf("%s to %s: %v", d.Name, to, err)
				}
				time.Sleep(100 * time.Millisecond) // a trickle where nothing stands still
				<-room
			})
		}
	})
}

// finish waits until everything is acked, received and receipted. No session was ended for that.
func (w *writers) finish() {
	w.t.Helper()
	close(w.stop)
	w.work.Wait()
	w.h.Judge(w.t, w.labels)
	if n := w.sum(`linecard_offline_drops_total{reason="queue_full"}`); n != 0 {
		w.t.Fatalf("%v receipts came to full queues: the case is not what it is meant to be", n)
	}
	for _, d := range w.devices {
		Eventually(w.t, d.Name+" has its delivered receipts", func() bool { return d.Delivered() >= w.h.SentBy(d.Label()) })
	}
	if n := w.sum("linecard_gateway_closes_total") - w.sum(`linecard_gateway_closes_total{reason="peer_closed"}`); n != 0 {
		w.t.Errorf("gateways closed %v sessions", n)
	}
	sent, acked, got := w.h.Totals()
	w.t.Logf("sent %d, acked %d, received %d", sent, acked, got)
	if acked != sent || got != sent {
		w.t.Error("not all was acked and received")
	}
}

func (w *writers) close() {
	for _, d := range slices.Backward(w.devices) {
		d.Close()
	}
	forget(w.devices, w.h)
}
