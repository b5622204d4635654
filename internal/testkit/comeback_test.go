package testkit

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linecard.example/bench/cluster"
)

// TestRemovedMemberComesBack: a machine dies, has its members leave and is replaced. When it is started again all the same, it hears from
// nobody that its replicas are elsewhere; it finds out, deletes them, and the others go on undisturbed.
func TestRemovedMemberComesBack(t *testing.T) {
	t.Parallel() // it waits most of its time
	s, h, ann, bob := startPair(t)
	must(t, ann.SayAll("bob", 20, 8))
	dead := s.Process("offline-3")
	dead.Kill()
	s.AddMember("offline-4")
	s.leave("offline-3")
	Eventually(t, "the fourth has every group of the third", func() bool {
		out := s.mustRun("cluster", "status", "--config", s.config("gateway"))
		m := s.Metrics("offline-4")
		return !strings.Contains(out, "no leader") && m.Sum("linecard_offline_shard_voters") == 3*defaultShards
	})
	must(t, bob.SayAll("ann", 20, 8))
	dead.Start()
	Eventually(t, "the third has removed its replicas", func() bool {
		status, page := s.Get("offline-3", "/metrics")
		_, ready := s.Get("offline-3", "/readyz")
		return status == http.StatusOK && !strings.Contains(page, "linecard_offline_shard_term{") && strings.Contains(ready, `"ok":true`)
	})
	must(t, ann.SayAll("bob", 20, 8))
	h.Judge(t, annAndBob)
}

// TestClusterFromBackup: of a cluster of which nothing is left but a backup of one router and one offline, another one is made. Accounts and
// what waited are there, the others join with empty directories, and clients go on as if nothing had been.
func TestClusterFromBackup(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := Start(t, Cluster, Settings{})
	s.WaitVoters(3)
	h := NewHistory()
	ann := s.NewDevice("ann", h, DeviceOptions{Home: s.DiskHome("ann")})
	bobHome := s.DiskHome("bob")
	s.NewDevice("bob", h, DeviceOptions{Quiet: true, Home: bobHome}).Close()
	must(t, ann.SayAll("bob", 60, 8))
	kept := []string{"offline-1", "router-1"} // offlines first
	for _, name := range kept {
		s.mustRun("backup", "--admin", s.Admin(name), "--out", filepath.Join(s.Dir, "backup-"+name))
	}
	ann.Close()
	KillTogether(s.procs...)
	for _, p := range s.layout.All() {
		must(t, os.RemoveAll(p.Data)) // of the gateway, too: it remembers a cluster that is no more
	}
	for _, name := range kept {
		s.mustRun("restore", "--from", filepath.Join(s.Dir, "backup-"+name), "--data", filepath.Join(s.Dir, name+"-data"))
	}
	fails(t, "", 1, "is in no cluster", "router", "--config", s.config("router-1"))
	must(t, s.layout.Found(func(p cluster.Process) error { s.Process(p.Name).Start(); return nil }))
	s.StartAll()
	s.WaitVoters(3)
	bob := s.NewDevice("bob", h, DeviceOptions{Home: bobHome})
	Eventually(t, "what was acked before the backup is delivered", func() bool { return h.Waiting("bob", bob.Label()) == 0 })
	ann = s.NewDevice("ann", h, DeviceOptions{Home: ann.Home})
	must(t, ann.SayAll("bob", 20, 8))
	must(t, bob.SayAll("ann", 20, 8))
	KillTogether(s.Process("router-1"), s.Process("offline-1"))
	must(t, ann.SayAll("bob", 20, 8))
	Eventually(t, "what is sent afterwards is delivered", func() bool { return h.Waiting("bob", bob.Label()) == 0 })
	h.Judge(t, map[string][]string{"bob": {bob.Label()}, "ann": {ann.Label()}})
}
