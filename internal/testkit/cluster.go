package testkit

import (
	"cmp"
	"fmt"
	"net"
	"strings"
	"time"

	"linecard.example/bench/cluster"
)

// Cluster is a gateway, three routers and three offlines, a process each, in which every group has three replicas. The members are called
// router-1 to offline-3.
const Cluster Shape = "cluster"

// members lists the names of the processes that are members.
func (s *System) members() (names []string) {
	for _, p := range s.procs {
		if p.name != "gateway" {
			names = append(names, p.name)
		}
	}
	return names
}

// roleOf is the daemon of a member.
func roleOf(name string) string {
	role, _, _ := strings.Cut(name, "-")
	return role
}

// prepareCluster makes keys and configurations, founds the cluster and has all members join. The first router runs then.
func (s *System) prepareCluster(set Settings) {
	s.t.Helper()
	free := func() (string, error) { return FreeAddr(s.t), nil }
	run := func(args ...string) error { s.mustRun(args...); return nil }
	l, err := cluster.Plan(s.Dir, s.Server, 3, free, run)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Root, s.layout = l.Root, l
	if set.Machine != nil {
		s.spread(l, set.Machine)
	}
	for _, p := range append([]cluster.Process{l.Gateway}, l.Members...) {
		q := s.addProcess(p)
		if set.Machine != nil {
			q.wrap = set.Machine(p.Name).Wrap
		}
	}
	if err = l.Prepare(set.lines()); err == nil {
		err = l.Found(func(p cluster.Process) error { s.Process(p.Name).Start(); return nil })
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// spread puts the processes of a layout on machines.
func (s *System) spread(l *cluster.Layout, machine func(process string) Machine) {
	place := func(p *cluster.Process) {
		m := machine(p.Name)
		for _, a := range []*string{&p.Admin, &p.Link, &p.Raft} {
			*a = onHost(*a, m.Host)
		}
		p.Data = cmp.Or(m.Data, p.Data)
	}
	place(&l.Gateway)
	for i := range l.Members {
		place(&l.Members[i])
	}
	s.Server = onHost(s.Server, machine("gateway").Host)
	l.Server = s.Server
}

// dataDir is the data directory of a process of a cluster.
func (s *System) dataDir(name string) string {
	for _, p := range s.layout.All() {
		if p.Name == name {
			return p.Data
		}
	}
	s.t.Fatalf("no process %s", name)
	return ""
}

// onHost replaces the host of an address, unless there is none to replace it with.
func onHost(addr, host string) string {
	_, port, err := net.SplitHostPort(addr)
	if host == "" || err != nil {
		return addr
	}
	return net.JoinHostPort(host, port)
}

func (s *System) addProcess(p cluster.Process) *Process {
	s.admin[p.Name] = p.Admin
	q := NewProcess(s.t, p.Name, p.Args()...)
	q.exe = s.exe
	s.procs = append(s.procs, q)
	return q
}

// lines are the settings by section.
func (set Settings) lines() map[string]string {
	return map[string]string{
		"": set.Top, "log": cmp.Or(set.Log, "level = \"info\""), "links": set.Links, "raft": set.Raft, "gateway": set.Gateway, "router": set.Router,
		"offline": set.Offline, "disk": set.Disk,
	}
}

func (s *System) mustRun(args ...string) string {
	s.t.Helper()
	out, code := s.Run(args...)
	if code != 0 {
		s.t.Fatalf("linecard %s: exit code %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

// WaitVoters waits until every group of a cluster has n voters, by the word of its leader.
func (s *System) WaitVoters(n int) {
	s.t.Helper()
	deadline := time.Now().Add(waitLimit)
	for {
		led, short := 0, ""
		for _, name := range s.members() {
			_, page := s.Get(name, "/metrics")
			m, prefix := parseMetrics(page), "linecard_"+roleOf(name)+"_shard_"
			for series, leads := range m {
				group, ok := strings.CutPrefix(series, prefix+"leader")
				if !ok || leads != 1 {
					continue
				}
				led++
				if v := m[prefix+"voters"+group]; v != float64(n) {
					short = fmt.Sprintf("%s has %v voters", group, v)
				}
			}
		}
		if led == 2*defaultShards && short == "" {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d groups have leaders of %d; %s, want %d", led, 2*defaultShards, short, n)
		}
		time.Sleep(50 * time.Millisecond) // other processes: they can only be asked again
	}
}

const defaultShards = 16
