package testkit

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestMachinesMove: under load a fourth machine comes and gets its part, one leaves in order and has nothing left, and one that is dead is
// taken out and comes back empty under its old name. Nothing that was acknowledged is lost, and no session ends.
func TestMachinesMove(t *testing.T) {
	if os.Getenv("LINECARD_LONG") == "" {
		t.Skip("most of a minute of waiting for replicas to move, which CI has no time for: LINECARD_LONG=1, as make test-long sets it")
	}
	s := Start(t, Cluster, Settings{})
	s.WaitVoters(3)
	c := s.Chat()
	c.More(t, 50)

	for _, name := range []string{"router-4", "offline-4"} {
		s.AddMember(name)
	}
	s.WaitReady()
	if out := s.AwaitWhole(); s.holds(out, "router-4") == 0 || s.holds(out, "offline-4") == 0 {
		t.Errorf("who came holds nothing:\n%s", out)
	}
	c.More(t, 50)

	for _, name := range []string{"router-1", "offline-1"} {
		s.leave(name)
	}
	out := s.AwaitWhole()
	for _, name := range []string{"router-1", "offline-1"} {
		if s.holds(out, name) != 0 {
			t.Errorf("%s is said to have left:\n%s", name, out)
		}
		if code, err := s.Process(name).Stop(30 * time.Second); code != 0 || err != nil {
			t.Errorf("%s: exit code %d, %v", name, code, err)
		}
		s.RemoveMember(name)
		// What it voted for it remembers, should it ever be asked again, and nothing else.
		if out := s.mustRun("fsck", "--data", s.DataDir(name)); strings.Count(out, " flushed ") != strings.Count(out, " flushed 0 last 0 ") {
			t.Errorf("%s has left and kept:\n%s", name, out)
		}
	}
	c.More(t, 50)

	dead := []string{"router-2", "offline-2"}
	KillTogether(s.Process(dead[0]), s.Process(dead[1]))
	c.More(t, 50)
	for _, name := range dead {
		s.Replace(name)
	}
	s.WaitReady()
	s.AwaitWhole()
	s.WaitVoters(3)
	c.More(t, 50)
	c.Judge(t)
}

// holds reads from a page of `cluster status` how many groups a member has that is active, or has not left.
func (s *System) holds(page, name string) (n int) {
	s.t.Helper()
	row := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` .* yes +(\d+)`).FindStringSubmatch(page)
	if row == nil {
		s.t.Fatalf("no %s in\n%s", name, page)
	}
	_, err := fmt.Sscan(row[1], &n)
	must(s.t, err)
	return n
}
