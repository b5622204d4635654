package testkit

import (
	"os"
	"slices"
	"testing"
	"time"

	"linecard.example/bench/cluster"
	"linecard.example/internal/node"
)

// AddMember makes keys and configuration of one more member, such as "router-4", has it join, and starts it. A member that was removed may
// come back so, with an empty directory.
func (s *System) AddMember(name string) *Process {
	s.t.Helper()
	p, err := s.layout.Add(name, roleOf(name))
	if err == nil {
		err = s.layout.PrepareOne(p, Settings{}.lines())
	}
	if err == nil {
		err = s.layout.Join(p)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	added := s.addProcess(p)
	added.Start()
	return added
}

// RemoveMember forgets a process that has ended: nothing waits for it any more, and its name is free.
func (s *System) RemoveMember(name string) {
	s.t.Helper()
	if s.Process(name).Running() {
		s.t.Fatalf("%s still runs", name)
	}
	s.procs = slices.DeleteFunc(s.procs, func(p *Process) bool { return p.name == name })
	s.layout.Members = slices.DeleteFunc(s.layout.Members, func(p cluster.Process) bool { return p.Name == name })
	delete(s.admin, name)
}

// leave takes a member out of the cluster, by whoever answers.
func (s *System) leave(name string) {
	s.t.Helper()
	s.mustRun("cluster", "leave", name, "--config", s.config("gateway"))
}

// Replace takes a member that has ended out of the cluster and starts it again, empty, under its name.
func (s *System) Replace(name string) {
	s.t.Helper()
	s.RemoveMember(name)
	s.leave(name)
	if err := os.RemoveAll(s.DataDir(name)); err != nil {
		s.t.Fatal(err)
	}
	s.AddMember(name)
}

// DataDir is where a process has its data.
func (s *System) DataDir(name string) string {
	s.t.Helper()
	cfg, err := node.LoadConfig(s.config(name))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := os.Stat(cfg.Data); err != nil {
		s.t.Fatal(err)
	}
	return cfg.Data
}

// AwaitWhole waits until `cluster status` finds nothing that is missing, and returns what it printed.
func (s *System) AwaitWhole() string {
	s.t.Helper()
	return s.mustRun("cluster", "status", "--config", s.config("gateway"), "--wait", waitLimit.String())
}

// chatPause leaves the machine to what is tested beside the talk.
const chatPause = 50 * time.Millisecond

// Chatter is two devices that send to each other all the time.
type Chatter struct {
	a, b *Device
	hist *History
	stop chan struct{}
	ends chan error
}

// Chat opens ann and bob and has them talk until Judge.
func (s *System) Chat() *Chatter {
	s.t.Helper()
	c := &Chatter{hist: NewHistory(), stop: make(chan struct{}), ends: make(chan error, 2)}
	c.a, c.b = s.NewDevice("ann", c.hist, DeviceOptions{}), s.NewDevice("bob", c.hist, DeviceOptions{})
	for _, d := range []struct {
		from *Device
		to   string
	}{{c.a, "bob"}, {c.b, "ann"}} {
		go func() {
			for {
				select {
				case <-c.stop:
					c.ends <- nil
					return
				default:
				}
				if err := d.from.SayAll(d.to, 20, 8); err != nil {
					c.ends <- err
					return
				}
				time.Sleep(chatPause) // the rate of the load
			}
		}()
	}
	return c
}

// More waits until so many messages more were acknowledged: what happened before it has not stopped them.
func (c *Chatter) More(t testing.TB, n int) {
	t.Helper()
	_, before, _ := c.hist.Totals()
	Eventually(t, "messages go on", func() bool {
		select {
		case err := <-c.ends:
			c.ends <- err
			t.Fatal(err)
		default:
		}
		_, acked, _ := c.hist.Totals()
		return acked >= before+n
	})
}

// Judge ends the talk: what was acknowledged has arrived, in order, in the sessions that were there at the beginning.
func (c *Chatter) Judge(t testing.TB) {
	t.Helper()
	close(c.stop)
	for range 2 {
		if err := <-c.ends; err != nil {
			t.Error(err)
		}
	}
	c.hist.Judge(t, map[string][]string{"ann": {c.a.Label()}, "bob": {c.b.Label()}})
	if a, b := c.a.Connects(), c.b.Connects(); a != 1 || b != 1 {
		t.Errorf("ann connected %d times and bob %d times, want 1 and 1", a, b)
	}
	sent, acked, _ := c.hist.Totals()
	t.Logf("%d messages, %d acknowledged", sent, acked)
}
