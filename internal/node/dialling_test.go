package node

import (
	"testing"
	"time"

	"linecard.example/internal/link"
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

// TestFollowsRoster: a mediad or turnd of a cluster is told of one router and finds the others, and goes on when the first is gone.
func TestFollowsRoster(t *testing.T) {
	type follower interface {
		Ready() (ok bool, why string)
		Endpoint() *link.Endpoint
	}
	for name, c := range map[string]struct {
		listen func(*Config)
		daemon func(*Node) follower
		lacks  string // before a router was asked
	}{
		"mediad": {func(c *Config) { c.Media.Listen = "127.0.0.1:0" }, func(n *Node) follower { return n.media }, "no grant keys yet"},
		"turnd":  {func(c *Config) { c.SetRelay("127.0.0.1:0") }, func(n *Node) follower { return n.relay }, "no relay secret yet"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.add("router-2")
			s.add(name)
			cfg := s.cfgs[name]
			cfg.Links.Roster, cfg.Links.Listen, cfg.Raft.Listen = true, "", ""
			c.listen(&cfg)
			s.cfgs[name] = cfg
			if _, err := InitCluster(s.cfgs["router-1"], 1); err != nil {
				t.Fatal(err)
			}
			stopFirst := s.run("router-1")
			for _, name := range []string{"router-2", "offline-1"} {
				if err := s.join(name); err != nil {
					t.Fatal(err)
				}
				defer s.run(name)()
			}
			n, err := s.open(name)
			if err != nil {
				t.Fatal(err)
			}
			d := c.daemon(n)
			if ok, why := d.Ready(); ok || why != c.lacks {
				t.Errorf("ready before a router was asked: %v, %q", ok, why)
			}
			defer start(t, n)() // which waits until it is ready
			for end := time.Now().Add(time.Minute); !d.Endpoint().Dialled(s.cfgs["router-2"].Links.Listen, link.RoleRouter); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) { // the network's business: it can only be asked again
					t.Fatal("no stream to router-2")
				}
			}
			for _, target := range n.rosterTargets() {
				if target.role != link.RoleRouter {
					t.Errorf("it dials the %v at %s", target.role, target.addr)
				}
			}
			if err := s.leave("router-1"); err != nil {
				t.Fatal(err)
			}
			stopFirst()
			if ok, why := d.Ready(); !ok {
				t.Error("not ready without router-1: ", why)
			}
		})
	}
}
