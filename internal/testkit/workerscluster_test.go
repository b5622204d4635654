package testkit

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWorkersOfCluster: each worker of a gateway that goes by the roster finds the members by itself, follows those that come and go, and
// goes on while a machine is down. What it knows is kept for the next start of the gateway.
func TestWorkersOfCluster(t *testing.T) {
	c := newCrewOf(t, Cluster, 2, "")
	s := c.s
	s.WaitVoters(3)
	c.talk(8)
	c.moving()
	KillTogether(s.Process("router-1"), s.Process("offline-1"))
	c.moving()
	s.Process("router-1").Start()
	s.Process("offline-1").Start()
	s.WaitVoters(3)
	_, p := c.ask("/readyz")
	must(t, syscall.Kill(p.PIDs[1], syscall.SIGKILL))
	c.allReady()
	c.moving()
	s.AddMember("offline-4")
	s.leave("offline-2")
	const founded, members = 1, 6
	want := float64(founded + members - 1 + 2) // one came, one went
	Eventually(t, "every worker knows the last change", func() bool {
		version := pages(t, s)["linecard_cluster_roster_version"]
		seen := 0
		for _, x := range version.samples {
			if x.labels["worker"] != "" && x.value == want {
				seen++
			}
		}
		return seen == c.workers
	})
	Eventually(t, "it is kept", func() bool {
		own, err := os.ReadFile(filepath.Join(s.DataDir("gateway"), "roster"))
		must(t, err)
		theirs, err := os.ReadFile(filepath.Join(s.DataDir("router-3"), "roster"))
		must(t, err)
		return bytes.Equal(own, theirs)
	})
	c.moving()
	c.quiet()
}
