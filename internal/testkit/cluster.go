package testkit

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"linecard.example/internal/node"
)

// Cluster is a gateway, three routers and three offlines, a process each, in which every group has three replicas. The members are called
// router-1 to offline-3.
const Cluster Shape = "cluster"

// founders lists the members that a cluster begins with, the first router first.
func founders() (names []string) {
	for i := range 3 {
		names = append(names, fmt.Sprintf("router-%d", i+1), fmt.Sprintf("offline-%d", i+1))
	}
	return names
}

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
	keys := filepath.Join(s.Dir, "keys")
	if err := node.InitKeys(keys, "local", time.Now()); err != nil {
		s.t.Fatal(err)
	}
	s.Root = filepath.Join(keys, "root.pub")
	links, names := map[string]string{}, founders()
	var routers []string
	for _, name := range names {
		links[name] = FreeAddr(s.t)
		if roleOf(name) == "router" {
			routers = append(routers, fmt.Sprintf("%q", links[name]))
		}
	}
	seeds := fmt.Sprintf("keys = %q\nrouters = [%s]\n%s\n", keys, strings.Join(routers, ", "), set.Links)
	set.Links = ""
	for _, name := range append([]string{"gateway"}, names...) {
		s.prepareOne(name, links[name], seeds, set)
	}
	s.mustRun("cluster", "init", "--config", s.config(names[0]))
	s.Process(names[0]).Start()
	for _, name := range names[1:] {
		s.mustRun("cluster", "join", "--config", s.config(name), "--role", roleOf(name))
	}
}

// prepareOne makes keys and configuration of one process of a cluster, by lines of [links] that all have in common.
func (s *System) prepareOne(name, link, seeds string, set Settings) {
	s.t.Helper()
	if err := node.IssueKeys(filepath.Join(s.Dir, "keys"), name, time.Now()); err != nil {
		s.t.Fatal(err)
	}
	s.admin[name] = FreeAddr(s.t)
	own := seeds + "roster = true\n"
	if name != "gateway" {
		own = seeds + fmt.Sprintf("name = %q\nlisten = %q\n[raft]\nlisten = %q\n", name, link, FreeAddr(s.t))
	}
	s.writeConfig(name, own, set)
	s.procs = append(s.procs, NewProcess(s.t, name, roleOf(name), "--config", s.config(name)))
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
