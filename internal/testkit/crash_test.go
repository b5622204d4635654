package testkit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// kills is how many processes a crash test kills: 5, or 100 in the long run.
func kills() int {
	if os.Getenv("LINECARD_LONG") != "" {
		return 100
	}
	return 5
}

// pairs and ahead: every pair keeps at least 8 messages in flight, each way.
const (
	pairs = 4
	ahead = 16
)

// TestCrash kills the real daemons, one at a time or all, and a receiving client, at random moments under load, and judges the
// history: nothing acked is lost, order holds, nothing comes twice.
func TestCrash(t *testing.T) {
	for _, shape := range []Shape{Together, Apart} {
		t.Run(string(shape), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			c := newCrash(t, shape, rand.New(rand.NewPCG(seed, 0)))
			c.run(kills())
		})
	}
}

// TestDaemonRestart kills router or offline alone: sessions stay, and everybody receives again without reconnecting.
func TestDaemonRestart(t *testing.T) {
	s := Start(t, Apart, Settings{})
	h := NewHistory()
	ann, bob := s.NewDevice("ann", h, DeviceOptions{}), s.NewDevice("bob", h, DeviceOptions{})
	for _, role := range []string{"router", "offline", "router", "offline"} {
		must(t, ann.SayAll("bob", 20, 8))
		s.Process(role).Kill()
		s.StartAll()
		must(t, ann.SayAll("bob", 20, 8))
		must(t, bob.SayAll("ann", 20, 8))
	}
	h.Judge(t, map[string][]string{"ann": {"ann/1"}, "bob": {"bob/1"}})
	if a, b := ann.Connects(), bob.Connects(); a != 1 || b != 1 {
		t.Errorf("ann connected %d times and bob %d times, want 1 and 1", a, b)
	}
}

// crash is one run of the crash test.
type crash struct {
	t       *testing.T
	s       *System
	h       *History
	rnd     *rand.Rand
	devices []*Device
	labels  map[string][]string
	sink    *sink
	stop    chan struct{}
	senders sync.WaitGroup
	killed  map[string]int
}

func newCrash(t *testing.T, shape Shape, rnd *rand.Rand) *crash {
	s := Start(t, shape, Settings{Gateway: crowd})
	c := &crash{t: t, s: s, h: NewHistory(), rnd: rnd, labels: map[string][]string{}, stop: make(chan struct{}), killed: map[string]int{}}
	for i := range 2 * pairs {
		name := fmt.Sprintf("user%d", i)
		c.devices = append(c.devices, s.NewDevice(name, c.h, DeviceOptions{Home: s.DiskHome(name)}))
		c.labels[name] = []string{name + "/1"}
	}
	c.sink = newSink(t, s, c.h)
	c.labels["sink"] = []string{"sink/1"}
	return c
}

func (c *crash) run(n int) {
	for i, d := range c.devices {
		c.send(d, c.devices[i^1].Name)
	}
	c.send(c.devices[0], "sink")
	for range n {
		c.pause(1200)
		c.kill()
	}
	c.pause(500)
	close(c.stop)
	c.senders.Wait()
	c.sink.restart() // its backoff may have grown to minutes
	c.h.Judge(c.t, c.labels)
	c.sink.p.Kill()
	sent, acked, got := c.h.Totals()
	c.t.Logf("killed %v; sent %d, acked %d, received %d; the receiving client saw %d again after its kills",
		c.killed, sent, acked, got, c.sink.again)
	if acked < 100*n/5 {
		c.t.Errorf("only %d messages acked: the load was too small to show anything", acked)
	}
}

// pause lets the load run for a random time, so that a kill comes at any moment. Nothing is expected to have happened after it.
func (c *crash) pause(ms int) { time.Sleep(time.Duration(c.rnd.IntN(ms)) * time.Millisecond) }

// send keeps messages to one name in flight until the end, then waits for every ack.
func (c *crash) send(d *Device, to string) {
	c.senders.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-c.stop:
				return
			default:
			}
			if err := d.SayAll(to, 4*ahead, ahead); err != nil {
				c.t.Errorf("%s to %s: %v", d.Name, to, err)
				return
			}
		}
	})
}

// kill kills something and starts it again after a moment.
func (c *crash) kill() {
	targets := []string{"all", "sink"}
	for _, p := range c.s.Processes() {
		targets = append(targets, p.name)
	}
	target := targets[c.rnd.IntN(len(targets))]
	c.killed[target]++
	switch target {
	case "sink":
		c.sink.restart()
		return
	case "all":
		c.s.KillAll()
	default:
		c.s.Process(target).Kill()
	}
	c.pause(500)
	c.s.StartAll()
	for _, d := range c.devices {
		d.Hurry() // as when a network comes back: else backoff grows with each kill, and the load falls asleep
	}
}

// sink is a real `linecard recv` process. What it prints counts as received.
type sink struct {
	t *testing.T
	h *History
	p *Process

	mu    sync.Mutex
	last  map[string]uint64 // by sender
	fresh bool              // nothing printed since the last kill
	again int
}

func newSink(t *testing.T, s *System, h *History) *sink {
	k := &sink{t: t, h: h, last: map[string]uint64{}}
	home := filepath.Join(s.Dir, "home-sink")
	args := []string{"recv", "--home", home, "--server", s.Server, "--as", "sink", "--root", s.Root, "--timeout", "1h", "--count"}
	if out, code := s.Run("recv", "--home", home, "--server", s.Server, "--as", "sink", "--root", s.Root, "--timeout", "5s", "--count", "0"); code != 0 {
		t.Fatalf("registering sink: %d %s", code, out)
	}
	k.p = NewProcess(t, "recv", append(args, "1000000000")...)
	k.p.Line = k.line
	k.p.Start()
	return k
}

// restart kills the process and starts it again.
func (k *sink) restart() {
	k.p.Kill()
	k.mu.Lock()
	k.fresh = true
	k.mu.Unlock()
	k.p.Start()
}

// line takes one printed line. A kill between printing and noting shows the last message again: one, and only then.
func (k *sink) line(text []byte) {
	var m struct {
		From string
		ID   uint64
	}
	if err := json.Unmarshal(text, &m); err != nil {
		k.t.Errorf("recv printed %q: %v", text, err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh && k.last[m.From] == m.ID {
		k.again++
	} else {
		k.h.Received(Stream{From: m.From + "/1", To: "sink"}, "sink/1", m.ID)
	}
	k.fresh = false
	k.last[m.From] = m.ID
}
