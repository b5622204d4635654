package testkit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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

// maxData bounds what a crash test's data directories hold at the end: logs are truncated through all kills. Each daemon has two
// databases, whose files are at most a few memtables of 32 MiB each.
const maxData = 256 << 20

// TestCrash kills the real daemons, one at a time or all, a receiving and a sending client, and daemons and clients together, at random
// moments under load, and judges the history: nothing acked is lost, order holds, nothing comes twice.
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
	h.Judge(t, annAndBob)
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
	source  *source
	stop    chan struct{}
	senders sync.WaitGroup
	left    []string // targets of the next kills
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
	c.source = newSource(t, s, c.h, "sink")
	c.sink.source = c.source
	return c
}

func (c *crash) run(n int) {
	for i, d := range c.devices {
		c.send(d, c.devices[i^1].Name)
	}
	c.send(c.devices[0], "sink")
	c.sink.p.Start()
	for range n {
		c.pause(1200)
		c.kill()
	}
	c.pause(500)
	close(c.stop)
	c.senders.Wait()
	c.source.finish()
	KillTogether(c.sink.p) // its backoff may have grown to minutes
	c.sink.restart()
	c.h.Judge(c.t, c.labels)
	c.sink.p.Kill()
	c.source.judge()
	c.report(n)
}

func (c *crash) report(n int) {
	sent, acked, got := c.h.Totals()
	size := c.s.DataSize()
	c.t.Logf("killed %v; sent %d, acked %d, received %d; of these the killed sender sent %d in %d runs, saw %d acked, and was at %d when a kill came; "+
		"the receiving client saw %d again after its kills; data directories %.1f MiB", c.killed, sent, acked, got,
		len(c.source.given), c.source.args.Run, c.source.acked, len(c.source.maybe), c.sink.again, float64(size)/(1<<20))
	if acked < 100*n/5 || c.source.acked < 5*n {
		c.t.Errorf("only %d messages acked, %d to the killed sender: the load was too small to show anything", acked, c.source.acked)
	}
	if size > maxData {
		c.t.Errorf("data directories hold %d bytes, more than %d", size, maxData)
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

// target draws what to kill next. Every kind comes before any comes again, in a new order each time.
func (c *crash) target() string {
	if len(c.left) == 0 {
		c.left = []string{"sink", "source", "sink+source", "sink+daemon", "source+daemon"}
		for _, p := range c.s.Processes() {
			c.left = append(c.left, p.name)
		}
		if len(c.s.Processes()) > 1 {
			c.left = append(c.left, "all")
		}
		c.rnd.Shuffle(len(c.left), func(i, j int) { c.left[i], c.left[j] = c.left[j], c.left[i] })
	}
	t := c.left[0]
	c.left = c.left[1:]
	return t
}

// kill kills something and starts it again after a moment.
func (c *crash) kill() {
	target := c.target()
	c.killed[target]++
	daemons := c.s.Processes()
	var victims []*Process
	var sink, source bool
	for what := range strings.SplitSeq(target, "+") {
		switch what {
		case "sink":
			sink, victims = true, append(victims, c.sink.p)
		case "source":
			source, victims = true, append(victims, c.source.p)
		case "daemon":
			victims = append(victims, daemons[c.rnd.IntN(len(daemons))])
		case "all":
			victims = append(victims, daemons...)
		default:
			victims = append(victims, c.s.Process(what))
		}
	}
	KillTogether(victims...)
	if target != "sink" && target != "source" {
		c.pause(500)
	}
	if source {
		c.source.killed()
		c.source.start()
	}
	if sink {
		c.sink.restart()
	}
	c.s.StartAll()
	for _, d := range c.devices {
		d.Hurry() // as when a network comes back: else backoff grows with each kill, and the load falls asleep
	}
}

// sink is a real `linecard recv` process. What it prints counts as received.
type sink struct {
	t      *testing.T
	h      *History
	p      *Process
	source *source // knows the texts of its own messages

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
	return k
}

// restart starts the killed process again.
func (k *sink) restart() {
	k.mu.Lock()
	k.fresh = true
	k.mu.Unlock()
	k.p.Start()
}

// line takes one printed line. A kill between printing and noting shows the last message again: one, and only then.
func (k *sink) line(text []byte) {
	var m struct {
		From, Text string
		ID         uint64
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
		if m.From == k.source.args.Name {
			k.source.received(m.ID, m.Text)
		}
		k.h.Received(Stream{From: m.From + "/1", To: "sink"}, "sink/1", m.ID)
	}
	k.fresh = false
	k.last[m.From] = m.ID
}
