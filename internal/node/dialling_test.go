package node

import (
	"testing"
	"time"

	"linecard.example/internal/roster"
	"linecard.example/internal/stanza"
)

// memberNamed returns the member of a name that is not leaving.
func memberNamed(st *ClusterStatus, name string) (found roster.Member) {
	for _, m := range st.Roster.Members {
		if m.Name == name && m.State == roster.Active {
			found = m
		}
	}
	return found
}

// TestLeaderIsNotConfigured: members join, leave and move while the directory is led by a router that came later, and that nobody's configuration
// names.
func TestLeaderIsNotConfigured(t *testing.T) {
	s := newSite(t)
	s.add("router-2")
	if _, err := InitCluster(s.cfgs["router-1"], 1); err != nil {
		t.Fatal(err)
	}
	defer s.run("router-1")()
	run := func(name string) (stop func()) {
		if err := s.join(name); err != nil {
			t.Fatal(err)
		}
		return s.run(name)
	}
	defer run("router-2")()
	stopOffline := run("offline-1")
	if err := s.leave("router-1"); err != nil {
		t.Fatal(err)
	}
	until := func(what string, holds func(*ClusterStatus) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !holds(s.status()); time.Sleep(10 * time.Millisecond) { // other processes' business: it can only be asked again
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	until("router-2 leads the directory", func(st *ClusterStatus) bool {
		return st.Leaders[stanza.DirGroup(0)] == memberNamed(st, "router-2").Node
	})

	if err := s.join("offline-2"); err != nil {
		t.Error(err)
	}
	if err := s.leave("offline-2"); err != nil {
		t.Error(err)
	}
	stopOffline()
	cfg := s.cfgs["offline-1"]
	cfg.Links.Listen = s.address()
	s.cfgs["offline-1"] = cfg
	defer s.run("offline-1")()
	until("offline-1 told that it has moved", func(st *ClusterStatus) bool { return memberNamed(st, "offline-1").Link == cfg.Links.Listen })
}
