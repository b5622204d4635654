package swarm

import (
	"os"
	"testing"

	"linecard.example/internal/testkit"
)

// TestMemory pins what an idle session takes of a client process, by the kernel's account: under 300 bytes of user memory (the slot and
// what belongs to it are 148 of them; the rest is what the process has touched more of). The first sessions pay for what there is once.
func TestMemory(t *testing.T) {
	first, all := 1000, 5000
	if os.Getenv("LINECARD_LONG") == "1" {
		first, all = 2000, 9000 // the other ends are descriptors of this process
	}
	sys := testkit.Start(t, testkit.Inside, testkit.Settings{Gateway: lifted})
	cfg := configOf(t, sys, all)
	cfg.Tickets = false
	f := newFleet(t, FleetConfig{Config: cfg, Command: []string{testkit.Binary(t), "bench", "swarm"}})
	before := filled(t, f, Range{Count: first})
	after := filled(t, f, Range{From: first, Count: all - first})
	per := (float64(after.PSS) - float64(before.PSS)) / float64(all-first)
	mapped := float64(after.Slots) / float64(all)
	t.Logf("%.0f bytes of PSS a session, %.0f of them mapped; heap %d", per, mapped, after.Heap)
	if per > 300 || per < 64 { // keys alone are 64: below, nothing was measured
		t.Errorf("a session takes %.0f bytes of its client", per)
	}
	if mapped > 160 {
		t.Errorf("%.0f bytes are mapped for a session", mapped)
	}
	if after.Heap > 4<<20 {
		t.Errorf("%d bytes of live heap", after.Heap)
	}
}

// filled opens sessions and returns what the process takes with them.
func filled(t *testing.T, f *Fleet, r Range) Memory {
	t.Helper()
	if o, err := f.Open(waitFor(t), Open{Range: r}); err != nil || o.Bound != r.Count {
		c, _ := f.Counters(waitFor(t))
		t.Fatalf("%+v, %v, %+v", o, err, c)
	}
	m, err := f.Memory(waitFor(t))
	if err != nil || m.PSS == 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	return m
}
