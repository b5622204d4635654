package bench

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"

	"linecard.example/bench/cluster"
)

// machines is how many routers and how many offlines a cluster has here.
const machines = 3

// found makes keys and configurations of a cluster and founds it. Its first router runs then.
func (s *system) found(o Options, sessions int) error {
	addrs, err := freeAddrs(1 + 1 + 2*machines*3)
	if err != nil {
		return err
	}
	s.servers = []netip.AddrPort{netip.MustParseAddrPort(addrs[0])}
	rest := addrs[1:]
	free := func() (a string, err error) {
		a, rest = rest[0], rest[1:]
		return a, nil
	}
	l, err := cluster.Plan(s.dir, addrs[0], machines, free, o.run)
	if err != nil {
		return err
	}
	lines := maps.Clone(o.Settings)
	if lines == nil {
		lines = map[string]string{}
	}
	lines["gateway"] = lifted + workers(o, sessions) + o.Settings["gateway"]
	if o.Shards > 0 {
		lines[""] = fmt.Sprintf("shards = %d\n", o.Shards)
	}
	if err := l.Prepare(lines); err != nil {
		return err
	}
	for _, p := range l.All() {
		s.daemons = append(s.daemons, &daemon{
			name: p.Name, part: p.Role, exe: o.Exe, admin: p.Admin, log: filepath.Join(s.dir, p.Name+".log"), args: p.Args(), data: p.Data,
		})
	}
	if err := l.Found(func(p cluster.Process) error { return s.daemon(p.Name).start() }); err != nil {
		return err
	}
	return s.readRoot(l.Root)
}

// daemon returns the process of a name, which is there.
func (s *system) daemon(name string) *daemon {
	for _, d := range s.daemons {
		if d.name == name {
			return d
		}
	}
	return nil
}

// members are the processes that hold replicas.
func (s *system) members() (all []*daemon) {
	for _, d := range s.daemons {
		if d.part != "gateway" {
			all = append(all, d)
		}
	}
	return all
}

// standing is what a member says of its groups.
type standing struct {
	leads     int     // groups
	voters    int     // of the groups that it leads, the fewest
	reachable int     // of those, the fewest that answer
	lag       float64 // of those, the furthest that a replica is behind, in entries
}

// stand asks a member about its groups.
func (d *daemon) stand() (s standing, err error) {
	text, err := metricsPage(d.admin)
	if err != nil {
		return s, err
	}
	prefix := "linecard_" + d.part + "_shard_"
	leads := map[string]bool{}
	eachSeries(text, func(name, labels string, v float64) {
		if name == prefix+"leader" && v == 1 {
			leads[labels] = true
		}
	})
	s = standing{leads: len(leads), voters: machines, reachable: machines}
	eachSeries(text, func(name, labels string, v float64) {
		kind, ok := strings.CutPrefix(name, prefix)
		if !ok || !leads[labels] {
			return
		}
		switch kind {
		case "voters":
			s.voters = min(s.voters, int(v))
		case "reachable_voters":
			s.reachable = min(s.reachable, int(v))
		case "lag_entries":
			s.lag = max(s.lag, v)
		}
	})
	return s, nil
}
