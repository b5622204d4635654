package testkit

import "time"

// Upgrade starts a new gateway process that takes the sessions of the one which runs, and waits until that has ended in order and the new
// one serves in its place. The shape must be Apart or Cluster, and the gateway one process.
func (s *System) Upgrade() {
	s.t.Helper()
	old := s.Process("gateway")
	next := NewProcess(s.t, "gateway", append(append([]string{}, old.args...), "--upgrade")...)
	next.Log = old.Log
	next.Start()
	select {
	case <-old.done:
	case <-next.done:
		s.t.Fatalf("the new process ended, exit code %d", next.ExitCode())
	case <-time.After(waitLimit):
		s.t.Fatal("the old process goes on")
	}
	if code := old.ExitCode(); code != 0 {
		s.t.Fatalf("the old process ended with %d", code)
	}
	next.args = old.args // should it be started once more
	s.replace(old, next)
	s.WaitReady()
}

// replace puts next in the place of old.
func (s *System) replace(old, next *Process) {
	for i, p := range s.procs {
		if p == old {
			s.procs[i] = next
		}
	}
}
