package turnd

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// late returns the names of what has not gone on for a minute and more.
func late(s *Server, clock *time.Time) (names []string) {
	at := *clock
	for _, t := range s.Turned() {
		if at.Sub(t.At) >= time.Minute {
			names = append(names, t.Name)
		}
	}
	return names
}

// TestTurned: what waits for packets turns, whatever the time; what hangs does not.
func TestTurned(t *testing.T) {
	clock := time.Unix(1_700_000_000, 0)
	s, err := New(testConfig(), Deps{Clock: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	open, held, release := s.open, make(chan struct{}), make(chan struct{})
	var once sync.Once // a port may be another program's: then another one is tried
	s.open = func(via carrier, at netip.AddrPort) (port, error) {
		once.Do(func() { close(held) })
		<-release
		return open(via, at)
	}
	run(t, s)
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.greet()
	if names := late(s, &clock); len(names) > 0 {
		t.Errorf("%v have not turned", names)
	}
	done := make(chan struct{})
	go func() { defer close(done); d.allocate() }()
	<-held
	s.fronts[0].turning.since.Add(-int64(time.Minute))
	if names := late(s, &clock); len(names) != 1 || names[0] != s.fronts[0].turning.name {
		t.Errorf("%v have not turned, one hangs", names)
	}
	close(release)
	<-done
	eventually(t, "it goes on", func() bool { return len(late(s, &clock)) == 0 })
}

// TestReaderFails: a relay that does not read its clients any more ends, with the reason.
func TestReaderFails(t *testing.T) {
	s, err := New(testConfig(), Deps{})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	s.loops = append(s.loops, func() error { return broken })
	if err := s.Run(context.Background()); !errors.Is(err, broken) {
		t.Errorf("Run: %v", err)
	}
}
