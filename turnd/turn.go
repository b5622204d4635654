package turnd

import (
	"sync/atomic"
	"time"
)

// Turn says when a goroutine that many clients depend on last went on: a poller, or the one that decides about the requests of an address.
type Turn struct {
	Name string
	At   time.Time
}

// turning is how such a goroutine tells; both methods are its own.
type turning struct {
	name  string
	since atomic.Int64 // it works on what came then; 0: it waits
}

func (t *turning) works(now int64) { t.since.Store(now) }
func (t *turning) waits()          { t.since.Store(0) }

// Turned returns the last turn of each, for /healthz: now for those that have nothing to do.
func (s *Server) Turned() []Turn {
	now, at := s.deps.Clock(), s.now()
	all := make([]Turn, 0, len(s.turnings))
	for _, t := range s.turnings {
		turn := Turn{Name: t.name, At: now}
		if since := t.since.Load(); since != 0 {
			turn.At = now.Add(-time.Duration(at - since))
		}
		all = append(all, turn)
	}
	return all
}

// watch adds t to those that Turned returns. It is called by New only.
func (s *Server) watch(t *turning, name string) {
	t.name = name
	s.turnings = append(s.turnings, t)
}
