package testkit

import (
	"fmt"
	"path/filepath"
	"testing"

	"linecard.example/internal/node"
)

// StartRegions starts two systems, region 1 and region 2, that reach each other over a path which the test may take apart. Region 1 dials.
// Shape is Inside or Together.
func StartRegions(t testing.TB, shape Shape, set Settings) (one, two *System, path *Path) {
	t.Helper()
	listen := FreeAddr(t)
	path = NewPath(t, listen)
	one, two = prepare(t, shape, set), prepare(t, shape, set)
	ca := func(s *System) string { return filepath.Join(s.Dir, "data", "keys", "ca.pem") }
	one.writeRegion(set, 1, fmt.Sprintf("[region.peers.2]\naddrs = [%q]\nca = %q\n", path.Addr, ca(two)))
	two.writeRegion(set, 2, fmt.Sprintf("listen = %q\n[region.peers.1]\nca = %q\n", listen, ca(one)))
	one.StartAll()
	two.StartAll()
	return one, two, path
}

// writeRegion makes the system a region, and its keys, which the other one needs before it starts.
func (s *System) writeRegion(set Settings, number int, peers string) {
	s.t.Helper()
	s.Region = number
	set.Region = fmt.Sprintf("number = %d\n%s", number, peers)
	s.writeConfig("up", "", set)
	cfg, err := node.LoadConfig(s.config("up"))
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.Data = filepath.Join(s.Dir, "data")
	if err := node.EnsureKeys(cfg); err != nil {
		s.t.Fatal(err)
	}
}
