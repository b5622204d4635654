package swarm_test

import (
	"testing"

	"linecard.example/bench/swarm"
	"linecard.example/internal/testkit"
)

func newFleet(t testing.TB, cfg swarm.FleetConfig) *swarm.Fleet {
	t.Helper()
	f, err := swarm.NewFleet(waiting(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestFleet(t *testing.T) {
	sys := testkit.Start(t, testkit.Inside, testkit.Settings{})
	f := newFleet(t, swarm.FleetConfig{Config: configOf(t, sys, 250), PerEngine: 100, Command: []string{testkit.Binary(t), "bench", "swarm"}})
	all := swarm.Range{Count: 250}
	o, err := f.Open(waiting(t), swarm.Open{Range: all})
	t.Logf("%+v %v", o, err)
	tr, err := f.Pairs(waiting(t), swarm.Pairs{Range: all, Size: 64, Messages: 20})
	t.Logf("%+v %v", tr, err)
	tr, err = f.Random(waiting(t), 500, 100)
	t.Logf("%+v %v", tr, err)
	s, err := f.Cut(waiting(t), swarm.Cut{Range: all, Reset: true})
	t.Logf("%+v %v", s, err)
	c, err := f.Counters(waiting(t))
	t.Logf("%+v %v", c, err)
	m, err := f.Memory(waiting(t))
	t.Logf("%+v %v", m, err)
}
