package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// healthy is what is seen of a cluster of three offlines and one router in which all is well, with three replicas of each group.
func healthy(t *testing.T) *ClusterStatus {
	t.Helper()
	r := testRoster(t, 3, 3)
	for i := range 2 {
		var why roster.Refusal
		r, why = r.Announce(roster.Member{Node: uint64(1001 + i), Name: fmt.Sprint("router-", i), Role: roster.Router, State: roster.Active,
			Link: fmt.Sprint("r:", i+10), Raft: fmt.Sprint("r:", i+20)}, 0)
		if why != roster.Done {
			t.Fatal(why)
		}
	}
	s := &ClusterStatus{Roster: r, Up: map[uint64]bool{}, Leaders: map[stanza.Group]uint64{}, Shards: 4, Reports: map[uint64]memberReport{}}
	for _, m := range r.Members {
		s.Up[m.Node] = true
		s.Reports[m.Node] = memberReport{Version: "v1", Revision: "0123456789abcdef", Holds: 4}
	}
	s.groups(func(g stanza.Group, wanted []uint64, _ *groupReport) {
		s.Leaders[g] = wanted[0]
		m := s.Reports[wanted[0]]
		m.Led = append(m.Led, groupReport{Group: g, Term: 3, Voters: 3, Answer: 3, Near: 3, Lag: 2})
		s.Reports[wanted[0]] = m
	})
	return s
}

// of changes what is said of a group.
func (s *ClusterStatus) of(g stanza.Group, change func(*groupReport)) {
	s.groups(func(x stanza.Group, _ []uint64, r *groupReport) {
		if x == g {
			change(r)
		}
	})
}

// TestStatusFaults: an operator who waits for a cluster to be whole is told everything that it lacks.
func TestStatusFaults(t *testing.T) {
	dir0, queue2 := stanza.DirGroup(0), stanza.QueueGroup(2)
	for _, c := range []struct {
		name   string
		change func(s *ClusterStatus)
		want   []string
	}{
		{"well", func(*ClusterStatus) {}, nil},
		{"down", func(s *ClusterStatus) { delete(s.Up, 1); delete(s.Reports, 1) }, []string{"offline-1 is down"}},
		{"no leader", func(s *ClusterStatus) { delete(s.Leaders, dir0); delete(s.Leaders, queue2) }, []string{"no leader: dir/0 queue/2"}},
		{"standby", func(s *ClusterStatus) { s.of(dir0, func(r *groupReport) { r.Voters, r.Answer, r.Near = 2, 2, 2 }) }, []string{"2 of 3 replicas vote: dir/0"}},
		{"silent", func(s *ClusterStatus) { s.of(queue2, func(r *groupReport) { r.Answer, r.Near = 2, 2 }) }, []string{"2 of 3 replicas answer: queue/2"}},
		{"behind", func(s *ClusterStatus) { s.of(queue2, func(r *groupReport) { r.Near, r.Lag = 2, 5000 }) }, []string{"a replica is 5000 entries behind: queue/2"}},
		{"moving", func(s *ClusterStatus) { s.of(queue2, func(r *groupReport) { r.Leaving = 1 }) }, []string{"1 replicas are elsewhere than wanted: queue/2"}},
		{"waits", func(s *ClusterStatus) { s.of(queue2, func(r *groupReport) { r.Waits = "for a majority" }) }, []string{"for a majority: queue/2"}},
		{"stuck", func(s *ClusterStatus) {
			s.Reports[2] = memberReport{Holds: 4, Warnings: []string{"queue/1: no disk"}, Led: s.Reports[2].Led}
		}, []string{"offline-2: queue/1: no disk"}},
		{"damaged", func(s *ClusterStatus) {
			s.Reports[2] = memberReport{Stopped: []string{"queue/1"}, Led: s.Reports[2].Led}
		}, []string{"offline-2: damage has stopped queue/1"}},
	} {
		s := healthy(t)
		c.change(s)
		got := slices.DeleteFunc(s.Faults(), func(f string) bool { return strings.Contains(f, "does not say") })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		var page bytes.Buffer
		if err := s.Write(&page); err != nil || strings.Contains(page.String(), "all is well") != (len(c.want) == 0) {
			t.Errorf("%s: %v\n%s", c.name, err, page.String())
		}
	}
	s := healthy(t)
	s.Reports = nil // of binaries that cannot say
	if f := s.Faults(); len(f) != 1 || !strings.HasPrefix(f[0], "the leader does not say who votes: dir/0 ") {
		t.Errorf("%q", f)
	}
	s = healthy(t)
	gone, why := s.Roster.Leave("router-1", 5)
	if why != roster.Done {
		t.Fatal(why)
	}
	s.Roster = gone
	if f := s.Faults(); !slices.Contains(f, "router-1 is leaving and holds 4 groups") {
		t.Errorf("%q", f)
	}
	for _, m := range gone.Members {
		if m.State == roster.Leaving {
			delete(s.Reports, m.Node)
		}
	}
	if f := s.Faults(); !slices.Contains(f, "router-1 is leaving and does not say what it holds") {
		t.Errorf("%q", f)
	}
	for _, m := range gone.Members {
		if m.State == roster.Leaving {
			delete(s.Up, m.Node)
		}
	}
	if f := s.Faults(); slices.ContainsFunc(f, func(f string) bool { return strings.Contains(f, "router-1") }) {
		t.Errorf("it is gone: %q", f)
	}
	s = healthy(t)
	stale := memberReport{Led: []groupReport{{Group: dir0, Term: 2, Voters: 1}}} // who led before and was not told yet
	for node := range s.Reports {
		if len(s.Reports[node].Led) == 0 || s.Leaders[dir0] != node {
			s.Reports[node] = memberReport{Led: append(slices.Clone(s.Reports[node].Led), stale.Led...)}
		}
	}
	if f := s.Faults(); len(f) != 0 {
		t.Errorf("an earlier leader counts: %q", f)
	}
}

// TestReport: what a member says counts the replicas that the roster wants, and fits an envelope however many groups it leads.
func TestReport(t *testing.T) {
	r := testRoster(t, 3, 4)
	g := stanza.QueueGroup(1)
	wanted := nodeNames(r.Replicas(nil, g))
	other := ""
	for i := range 4 {
		if name := nodeName(uint64(i + 1)); !slices.Contains(wanted, name) {
			other = name
		}
	}
	s := shard.GroupStatus{Group: g, Term: 7, Leading: true, Last: 1000, Servers: []shard.ServerStatus{
		{Node: wanted[0], Voter: true, Alive: true, Near: true, Last: 1000}, {Node: wanted[1], Voter: true, Alive: true, Last: 400},
		{Node: wanted[2], Alive: true, Near: true, Last: 1000}, {Node: other, Voter: true},
	}}
	follows := shard.GroupStatus{Group: stanza.QueueGroup(2), Stopped: "a flipped bit"}
	m := newReport(r, []shard.GroupStatus{s, follows})
	want := groupReport{Group: g, Term: 7, Voters: 2, Answer: 2, Near: 1, Lag: 600, Leaving: 1}
	if len(m.Led) != 1 || m.Led[0] != want || m.Holds != 2 || !slices.Equal(m.Stopped, []string{"queue/2"}) {
		t.Errorf("%+v, want %+v", m, want)
	}
	var many []shard.GroupStatus
	for n := range 1024 {
		s.Group, s.Term, s.Last, s.Waits = stanza.QueueGroup(n), 1<<23, 1<<40, strings.Repeat("x", 1000)
		many = append(many, s)
	}
	b, err := json.Marshal(newReport(r, many))
	if err != nil || len(b) > link.MaxPayload {
		t.Errorf("%d bytes for %d groups, an envelope takes %d: %v", len(b), len(many), link.MaxPayload, err)
	}
	t.Logf("%d bytes for %d groups", len(b), len(many))
}

func TestBuildNames(t *testing.T) {
	for want, r := range map[string]memberReport{
		"0123456789ab":  {Version: "v0.0.0-2026", Revision: "0123456789abcdef"},
		"0123456789ab+": {Version: "v0.0.0-2026+dirty", Revision: "0123456789abcdef"},
		"v1.2.3":        {Version: "v1.2.3", Revision: "unknown"},
	} {
		if got := r.build(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
