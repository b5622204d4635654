package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/stanza"
)

// ClusterStatus is what can be seen of a cluster from one place.
type ClusterStatus struct {
	Roster  *roster.Roster
	Up      map[uint64]bool         // members that answer on their link address
	Leaders map[stanza.Group]uint64 // who says that he leads a group
	Shards  int
	Reports map[uint64]memberReport // what members say of themselves; those of older binaries say nothing

	asked map[uint64]bool // while it is looked: members that can tell
}

// How long a member may take to answer before it counts as down: when somebody looks, and when a command waits for the end of a change, for which a
// member that is only slow must not be taken for one that is gone.
const (
	statusWait  = 2 * time.Second
	patientWait = 5 * time.Second
)

// StatusOfCluster asks a router for the roster and each member whether it is there, what it leads, and how its groups are. It returns when
// all have answered, or two seconds after the roster came.
func StatusOfCluster(ctx context.Context, cfg Config, log *slog.Logger) (*ClusterStatus, error) {
	return statusOfCluster(ctx, cfg, statusWait, log)
}

func statusOfCluster(ctx context.Context, cfg Config, wait time.Duration, log *slog.Logger) (*ClusterStatus, error) {
	conf, err := cfg.operatorTLS()
	if err != nil {
		return nil, err
	}
	board := link.NewBoard()
	a := newEnquirer(&cfg, randomID(), randomID(), board, log, nil)
	defer a.begin(conf)()
	if err := a.awaitRoster(ctx, board); err != nil {
		return nil, err
	}
	s := &ClusterStatus{Roster: board.Current(), Up: map[uint64]bool{}, Shards: cfg.Shards, asked: map[uint64]bool{}}
	dials, stop := context.WithTimeout(ctx, wait)
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	for _, m := range s.Roster.Members {
		all.Go(func() { a.ep.Dial(dials, m.Link, link.Role(m.Role), conf) })
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.look(a) || dials.Err() != nil {
			stop()
			return s, nil
		}
		select {
		case <-tick.C:
		case <-dials.Done():
		}
	}
}

// WaitForCluster asks again and again until the status has no faults. The error says what there was at the end of ctx; the status is the last
// one, nil if there was none.
func WaitForCluster(ctx context.Context, cfg Config, log *slog.Logger) (*ClusterStatus, error) {
	var last *ClusterStatus
	for {
		s, err := statusOfCluster(ctx, cfg, patientWait, log)
		if err == nil {
			if last = s; len(s.Faults()) == 0 {
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			if last != nil {
				err = fmt.Errorf("the cluster is not as it should be: %s", last.Faults()[0])
			}
			return last, err
		case <-time.After(statusAgain):
		}
	}
}

// statusAgain is the pause between two looks at a cluster.
const statusAgain = 500 * time.Millisecond

// look takes in what was heard so far, and asks members that are new. It reports whether nothing more can come.
func (s *ClusterStatus) look(a *enquirer) (done bool) {
	silent := 0
	for _, x := range a.peers() {
		node := x.Peer().Node
		if s.Roster.Member(node) == nil {
			continue
		}
		if !s.Up[node] {
			s.Up[node] = true
			s.asked[node] = x.Send(&link.Envelope{Kind: link.KindLook}) == nil // an older binary does not know that
		}
	}
	s.Leaders, s.Reports = a.leads(), a.reported()
	for node := range s.Up {
		if _, told := s.Reports[node]; !told && s.asked[node] {
			silent++
		}
	}
	return silent == 0 && len(s.Up) == len(s.Roster.Members) && len(s.Leaders) == 2*s.Shards
}

// groups calls f for each group, with what its leader says; nil: nobody says.
func (s *ClusterStatus) groups(f func(g stanza.Group, wanted []uint64, r *groupReport)) {
	led := map[stanza.Group]*groupReport{}
	for _, m := range s.Reports {
		for i := range m.Led {
			if g := &m.Led[i]; led[g.Group] == nil || led[g.Group].Term < g.Term {
				led[g.Group] = g
			}
		}
	}
	for shard := range s.Shards {
		for _, g := range []stanza.Group{stanza.DirGroup(shard), stanza.QueueGroup(shard)} {
			f(g, s.Roster.Replicas(nil, g), led[g])
		}
	}
}

// Faults lists what keeps the cluster from bearing the loss of any one machine, or a change from being at its end; none: the next member
// may be restarted. What members of older binaries do not say is a fault, since nobody knows.
func (s *ClusterStatus) Faults() (faults []string) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, m := range s.byName() {
		r, told := s.Reports[m.Node]
		switch {
		case m.State == roster.Leaving && told && r.Holds > 0:
			add("%s is leaving and holds %d groups", m.Name, r.Holds)
		case m.State == roster.Leaving && s.Up[m.Node] && !told:
			add("%s is leaving and does not say what it holds", m.Name)
		case m.State == roster.Active && !s.Up[m.Node]:
			add("%s is down", m.Name)
		case told && len(r.Stopped) > 0:
			add("%s: damage has stopped %s", m.Name, strings.Join(r.Stopped, " "))
		}
	}
	for _, m := range s.byName() {
		for _, w := range s.Reports[m.Node].Warnings {
			add("%s: %s", m.Name, w)
		}
	}
	groups := map[string][]string{} // by what is wrong with them
	s.groups(func(g stanza.Group, _ []uint64, r *groupReport) {
		if why := s.groupFault(g, r); why != "" {
			groups[why] = append(groups[why], g.String())
		}
	})
	for _, why := range slices.Sorted(maps.Keys(groups)) {
		add("%s: %s", why, strings.Join(groups[why], " "))
	}
	return faults
}

// groupFault says what is wrong with a group of which the leader says r; "": nothing.
func (s *ClusterStatus) groupFault(g stanza.Group, r *groupReport) string {
	n := s.Roster.Voters
	switch {
	case s.Leaders[g] == 0:
		return "no leader"
	case r == nil:
		return "the leader does not say who votes"
	case r.Waits != "":
		return r.Waits
	case r.Voters < n:
		return fmt.Sprintf("%d of %d replicas vote", r.Voters, n)
	case r.Answer < n:
		return fmt.Sprintf("%d of %d replicas answer", r.Answer, n)
	case r.Near < n:
		return fmt.Sprintf("a replica is %d entries behind", r.Lag)
	case r.Leaving > 0:
		return fmt.Sprintf("%d replicas are elsewhere than wanted", r.Leaving)
	}
	return ""
}

// byName returns the members by name; of two with one name the one that left comes last.
func (s *ClusterStatus) byName() []roster.Member {
	all := slices.Clone(s.Roster.Members)
	slices.SortStableFunc(all, func(a, b roster.Member) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return int(a.State) - int(b.State)
	})
	return all
}

// Write prints the status as a table, and what is wrong below it.
func (s *ClusterStatus) Write(w io.Writer) error {
	holds, leads := map[uint64]int{}, map[uint64]int{}
	lag := uint64(0)
	s.groups(func(g stanza.Group, wanted []uint64, r *groupReport) {
		for _, node := range wanted {
			holds[node]++
		}
		if node, ok := s.Leaders[g]; ok {
			leads[node]++
		}
		if r != nil {
			lag = max(lag, r.Lag)
		}
	})
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "MEMBER\tROLE\tSTATE\tUP\tHOLDS\tLEADS\tVERSION\tLINKS\tRAFT\tNODE\n")
	for _, m := range s.byName() {
		up, version, held := "no", "-", fmt.Sprint(holds[m.Node])
		if s.Up[m.Node] {
			up = "yes"
		}
		if r, ok := s.Reports[m.Node]; ok {
			version = r.build()
			if r.Holds != holds[m.Node] {
				held = fmt.Sprintf("%d/%d", r.Holds, holds[m.Node])
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", m.Name, m.Role, m.State, up, held, leads[m.Node], version, m.Link, m.Raft, nodeName(m.Node))
	}
	err := t.Flush()
	_, errEnd := fmt.Fprintf(w, "cluster %s, roster version %d, %d replicas of each of %d groups\n", nodeName(s.Roster.Cluster), s.Roster.Version, s.Roster.Voters, 2*s.Shards)
	faults := s.Faults()
	if len(faults) == 0 {
		_, errFaults := fmt.Fprintf(w, "all is well: each group has its replicas, the one furthest behind lacks %d entries\n", lag)
		return errors.Join(err, errEnd, errFaults)
	}
	for i, f := range faults {
		if i == maxFaults {
			f = fmt.Sprintf("and %d more", len(faults)-i)
		}
		if _, errFault := fmt.Fprintln(w, f); errFault != nil || i == maxFaults {
			return errors.Join(err, errEnd, errFault)
		}
	}
	return errors.Join(err, errEnd)
}

// maxFaults is how many faults are printed one by one.
const maxFaults = 40

// build names what a member runs: the revision, with a + when the sources were changed, or the version of a release.
func (r *memberReport) build() string {
	if len(r.Revision) < 12 || r.Revision == "unknown" {
		return r.Version
	}
	if strings.HasSuffix(r.Version, "+dirty") {
		return r.Revision[:12] + "+"
	}
	return r.Revision[:12]
}
