package swarm_test

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"linecard.example/bench/swarm"
	"linecard.example/internal/testkit"
)

// limit bounds every wait of these tests. Nothing is asserted about how long anything takes.
const limit = 2 * time.Minute

// configOf returns a configuration for n sessions on a system.
func configOf(t testing.TB, sys *testkit.System, n int) swarm.Config {
	t.Helper()
	root, err := os.ReadFile(sys.Root)
	if err != nil {
		t.Fatal(err)
	}
	return swarm.Config{
		Servers: []netip.AddrPort{netip.MustParseAddrPort(sys.Server)}, Root: strings.TrimSpace(string(root)),
		Sessions: n, Prefix: "s-", Seed: t.Name(), Tickets: true,
	}
}

func newEngine(t testing.TB, cfg swarm.Config) *swarm.Engine {
	t.Helper()
	e, err := swarm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func waiting(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func open(t testing.TB, e *swarm.Engine, n int) swarm.Opened {
	t.Helper()
	o, err := e.Open(waiting(t), swarm.Open{Range: swarm.Range{Count: n}})
	if err != nil || o.Bound != n {
		t.Fatalf("%d of %d sessions are bound: %v; %+v", o.Bound, n, err, e.Counters())
	}
	return o
}

func TestOpen(t *testing.T) {
	sys := testkit.Start(t, testkit.Inside, testkit.Settings{})
	e := newEngine(t, configOf(t, sys, 200))
	o := open(t, e, 200)
	t.Logf("%+v", o)
	tr, err := e.Pairs(waiting(t), swarm.Pairs{Range: swarm.Range{Count: 200}, Size: 64, Messages: 50})
	t.Logf("%+v %v", tr, err)
	t.Logf("%+v", e.Counters())
	p, err := e.Ping(waiting(t), swarm.Ping{Range: swarm.Range{Count: 200}})
	t.Logf("%+v %v", p, err)
	s, err := e.Cut(waiting(t), swarm.Cut{Range: swarm.Range{Count: 200}, Reset: true})
	t.Logf("%+v %v", s, err)
	t.Logf("%+v", e.Counters())
}
