package testkit

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// upgradeSize is how many sessions are moved, and how long each rests between two messages.
func upgradeSize() (sessions int, pace time.Duration) {
	if os.Getenv("LINECARD_LONG") != "" {
		return 15_000, 10 * time.Second
	}
	return 2_000, 2 * time.Second
}

// TestUpgrade replaces the gateway's process twice under load. The crowd looks at the wire: no session ends, and on each, every message
// comes once and in turn. Beside it clients with an outbox and a Home send as fast as they can, and the history judges them: nothing is
// lost or doubled, and nobody has had to connect again.
func TestUpgrade(t *testing.T) {
	sessions, pace := upgradeSize()
	s := Start(t, Apart, Settings{Gateway: crowd})
	c := s.NewCrowd(CrowdOptions{Sessions: sessions, Pace: pace})
	h := NewHistory()
	labels := map[string][]string{}
	var devices []*Device
	for i := range 8 {
		name := fmt.Sprintf("user%d", i)
		devices = append(devices, s.NewDevice(name, h, DeviceOptions{}))
		labels[name] = []string{name + "/1"}
	}
	stop, done := make(chan struct{}), make(chan error, len(devices))
	for i, d := range devices {
		to := devices[i^1].Name
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if err := d.SayAll(to, 64, 16); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range 2 {
		c.Beside(s.Upgrade)
		m := s.Metrics("gateway")
		if n := m["linecard_gateway_taken_over_total"]; int(n) != sessions+len(devices) || m["linecard_gateway_sessions"] != n {
			t.Errorf("%v sessions were taken over, %v are there, of %d", n, m["linecard_gateway_sessions"], sessions+len(devices))
		}
	}
	close(stop)
	for range devices {
		must(t, <-done)
	}
	h.Judge(t, labels)
	sent, acked, got := h.Totals()
	messages := c.Finish()
	if sent != acked || got != sent {
		t.Errorf("sent %d, acked %d, received %d: want the same", sent, acked, got)
	}
	for _, d := range devices {
		if n := d.Connects(); n != 1 {
			t.Errorf("%s connected %d times", d.Name, n)
		}
	}
	if m := s.Metrics("router"); int(m["linecard_router_moves_total"]) != 2*(sessions+len(devices)) {
		t.Errorf("%v moves", m["linecard_router_moves_total"])
	}
	t.Logf("%d messages of the crowd and %d of the others beside two upgrades of %d sessions", messages, sent, sessions+len(devices))
}

// TestUpgradeRefused: a new process that cannot have the sessions says why and changes nothing.
func TestUpgradeRefused(t *testing.T) {
	s := Start(t, Apart, Settings{Gateway: crowd})
	c := s.NewCrowd(CrowdOptions{Sessions: 4})
	c.Beside(func() {
		text, err := os.ReadFile(s.config("gateway"))
		must(t, err)
		other := s.config("other")
		for old, change := range map[string]string{"cluster": "cluster = \"other\"\n", "shards": "shards = 8\n"} {
			must(t, os.WriteFile(other, append([]byte(change), text...), 0o600))
			if _, code := s.Run("gateway", "--config", other, "--upgrade"); code != 1 {
				t.Errorf("%s: exit code %d", old, code)
			}
		}
		must(t, os.WriteFile(other, []byte(strings.Replace(string(text), "[gateway]\n", "[gateway]\nworkers = 2\n", 1)), 0o600))
		if _, code := s.Run("gateway", "--config", other, "--upgrade"); code != 1 {
			t.Errorf("workers: exit code %d", code)
		}
		must(t, os.WriteFile(other, []byte(strings.Replace(string(text), "gateway-data", "nobody-there", 1)), 0o600))
		if _, code := s.Run("gateway", "--config", other, "--upgrade"); code != 1 {
			t.Errorf("nobody there: exit code %d", code)
		}
	})
	// A new process that dies in the midst of it: whatever it has by then comes back to the old one.
	next := NewProcess(t, "next", "gateway", "--config", s.config("gateway"), "--upgrade")
	next.Start()
	must(t, next.cmd.Process.Signal(syscall.SIGSTOP))
	next.Kill()
	c.Turn()
	c.Finish()
}

// TestUpgradeDies kills one of the two processes in the midst of a hand-over. The other one goes on with what it has, everybody else
// comes back to it, and nobody loses or doubles a message.
func TestUpgradeDies(t *testing.T) {
	for _, which := range []string{"old", "new"} {
		t.Run(which, func(t *testing.T) {
			begun := make(chan struct{}, 16)
			s := Start(t, Apart, Settings{Gateway: crowd + "drain_retry_after = \"100ms\"\nretry_after = \"100ms\"\n", LogLine: func(line []byte) {
				if strings.Contains(string(line), "handing over") {
					begun <- struct{}{}
				}
			}})
			h, labels := NewHistory(), map[string][]string{}
			var devices []*Device
			for i := range 200 {
				name := fmt.Sprintf("user%d", i)
				devices = append(devices, s.NewDevice(name, h, DeviceOptions{}))
				labels[name] = []string{name + "/1"}
			}
			all := func() error {
				done := make(chan error, len(devices))
				for i, d := range devices {
					go func() { done <- d.SayAll(devices[i^1].Name, 4, 2) }()
				}
				var errs []error
				for range devices {
					errs = append(errs, <-done)
				}
				return errors.Join(errs...)
			}
			said := make(chan error, 1)
			go func() { said <- all() }()
			old := s.Process("gateway")
			next := NewProcess(t, "next", append(append([]string{}, old.args...), "--upgrade")...)
			next.Start()
			select {
			case <-begun:
			case <-time.After(waitLimit):
				t.Fatal("the hand-over does not begin")
			}
			if which == "old" {
				old.Kill()
				s.replace(old, next)
			} else {
				next.Kill()
			}
			must(t, <-said)
			must(t, all())
			s.WaitReady()
			h.Judge(t, labels)
			if sent, acked, got := h.Totals(); sent != acked || got != sent {
				t.Errorf("sent %d, acked %d, received %d: want the same", sent, acked, got)
			}
			if old.Running() != (which == "new") || next.Running() != (which == "old") {
				t.Errorf("the old one runs %v, the new one %v", old.Running(), next.Running())
			}
			if which == "new" { // the next try is not taken for the one that died
				s.Upgrade()
				must(t, all())
				h.Judge(t, labels)
			}
		})
	}
}
