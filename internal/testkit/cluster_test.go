package testkit

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// startPair starts three machines, with two devices that write to each other.
func startPair(t *testing.T) (s *System, h *History, ann, bob *Device) {
	t.Helper()
	s = Start(t, Cluster, Settings{})
	s.WaitVoters(3)
	h = NewHistory()
	return s, h, s.NewDevice("ann", h, DeviceOptions{}), s.NewDevice("bob", h, DeviceOptions{})
}

// annAndBob are two accounts with a device each, for History.Judge.
var annAndBob = map[string][]string{"ann": {"ann/1"}, "bob": {"bob/1"}}

// TestClusterLosesMachines: with three replicas any machine may die, or end in order, under load: what was acknowledged arrives, in order,
// and others lead at once. A member with an empty disk waits to be let in, and is then caught up.
func TestClusterLosesMachines(t *testing.T) {
	s, h, ann, bob := startPair(t)
	for machine := 1; machine <= 3; machine++ {
		router, offline := s.Process(fmt.Sprint("router-", machine)), s.Process(fmt.Sprint("offline-", machine))
		must(t, ann.SayAll("bob", 20, 8))
		if machine == 2 {
			for _, p := range []*Process{router, offline} {
				if code, err := p.Stop(30 * time.Second); code != 0 || err != nil {
					t.Errorf("%s: exit code %d, %v", p.name, code, err)
				}
			}
		} else {
			KillTogether(router, offline)
		}
		must(t, ann.SayAll("bob", 20, 8))
		must(t, bob.SayAll("ann", 20, 8))
		s.StartAll()
		s.WaitVoters(3)
	}
	s.loseDisk("offline-3")
	must(t, ann.SayAll("bob", 20, 8))
	h.Judge(t, annAndBob)
	if a, b := ann.Connects(), bob.Connects(); a != 1 || b != 1 {
		t.Errorf("ann connected %d times and bob %d times, want 1 and 1", a, b)
	}
}

// loseDisk empties a member's disk, and brings it back as operators do.
func (s *System) loseDisk(name string) {
	s.t.Helper()
	s.Process(name).Kill()
	must(s.t, os.RemoveAll(s.dataDir(name)))
	join := []string{"cluster", "join", "--config", s.config(name), "--role", roleOf(name)}
	if out, code := s.Run(roleOf(name), "--config", s.config(name)); code == 0 {
		s.t.Errorf("%s starts with an empty disk: %s", name, out)
	}
	if out, code := s.Run(join...); code == 0 {
		s.t.Errorf("%s joins as if it were another: %s", name, out)
	}
	s.leave(name)
	s.mustRun(join...)
	s.StartAll()
	s.WaitVoters(3)
	if out := s.mustRun("cluster", "status", "--config", s.config("gateway")); !strings.Contains(out, "leaving") || strings.Contains(out, "no leader") {
		s.t.Errorf("status:\n%s", out)
	}
}
