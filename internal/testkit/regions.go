package testkit

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"linecard.example/internal/node"
)

// StartRegions starts two systems, region 1 and region 2, that reach each other over a path which the test may take apart. Region 1 dials.
// Region 1 is of the shape, and has a border process of its own if that is Apart; region 2 is then Together.
func StartRegions(t testing.TB, shape Shape, set Settings) (one, two *System, path *Path) {
	t.Helper()
	listen := FreeAddr(t)
	path = NewPath(t, listen)
	one = prepare(t, shape, set)
	if shape == Apart {
		one.addBorder()
		shape = Together
	}
	two = prepare(t, shape, set)
	one.writeRegion(set, 1, fmt.Sprintf("[region.peers.2]\naddrs = [%q]\nca = %q\n", path.Addr, two.authority()))
	two.writeRegion(set, 2, fmt.Sprintf("listen = %q\n[region.peers.1]\nca = %q\n", listen, one.authority()))
	one.StartAll()
	two.StartAll()
	return one, two, path
}

// writeRegion makes the system a region, and its keys, which the other one needs before it starts.
func (s *System) writeRegion(set Settings, number int, peers string) {
	s.t.Helper()
	s.Region = number
	set.Region = fmt.Sprintf("number = %d\n%s", number, peers)
	for role := range s.admin {
		s.writeConfig(role, s.links[role], set)
	}
	if s.Shape == Apart {
		return
	}
	cfg, err := node.LoadConfig(s.config("up"))
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.Data = filepath.Join(s.Dir, "data")
	if err := node.EnsureKeys(cfg); err != nil {
		s.t.Fatal(err)
	}
}

// authority is the file of the system's certificate authority.
func (s *System) authority() string {
	if s.Shape == Apart {
		return filepath.Join(s.Dir, "keys", "ca.pem")
	}
	return filepath.Join(s.Dir, "data", "keys", "ca.pem")
}

// addBorder gives a system of processes a border.
func (s *System) addBorder() {
	s.t.Helper()
	const role = "border"
	if err := node.IssueKeys(filepath.Join(s.Dir, "keys"), role, time.Now()); err != nil {
		s.t.Fatal(err)
	}
	s.admin[role] = FreeAddr(s.t)
	s.links[role] = s.links["gateway"] // it dials as a gateway does
	s.procs = append(s.procs, NewProcess(s.t, role, role, "--config", s.config(role)))
}
