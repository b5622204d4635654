package testkit

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// WaitLeader waits until a group has a leader that is not the process named, and returns its name.
func (s *System) WaitLeader(group stanza.Group, not string) (name string) {
	s.t.Helper()
	role := "router"
	if group.IsQueue() {
		role = "offline"
	}
	series := fmt.Sprintf("linecard_%s_shard_leader{group=%q}", role, group)
	Eventually(s.t, "a leader of "+group.String(), func() bool {
		for _, name = range s.members() {
			if roleOf(name) != role || name == not {
				continue
			}
			if _, page := s.Get(name, "/metrics"); parseMetrics(page)[series] == 1 {
				return true
			}
		}
		return false
	})
	return name
}

// Elections counts the elections of a cluster's groups so far, hand-overs left out. It counts terms: what a process has forgotten by a
// restart counts as well.
func (s *System) Elections() (n int) {
	s.t.Helper()
	terms, handed := map[string]float64{}, 0.0
	for _, name := range s.members() {
		prefix := "linecard_" + roleOf(name) + "_shard_"
		for series, v := range s.Metrics(name) {
			if group, ok := strings.CutPrefix(series, prefix+"term{"); ok {
				terms[group] = max(terms[group], v)
			} else if strings.HasPrefix(series, prefix+"transfers_total{") && strings.Contains(series, `"ok"`) {
				handed += v
			}
		}
	}
	for _, v := range terms {
		n += int(v)
	}
	return n - int(handed)
}

// Burn starts n processes that do nothing but use processors, until the test ends or the function returned is called. They end with this
// process, however it ends.
func Burn(t testing.TB, n int) (stop func()) {
	t.Helper()
	var all []*exec.Cmd
	stop = func() {
		for _, c := range all {
			_ = c.Process.Kill() // it may have ended
			_ = c.Wait()
		}
		all = nil
	}
	t.Cleanup(func() { stop() })
	for range n {
		c := exec.Command("sh", "-c", `while kill -0 "$PPID" 2>/dev/null; do i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; done`)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return stop
}

// rest lets time pass in which nothing is asked of the processes.
func rest(d time.Duration) { time.Sleep(d) }
