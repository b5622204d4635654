package testkit

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// TestStarvedLeaders: processes that take every processor several times over must not make replicas take a late leader for a dead one, at
// the default timeouts and under load. What is counted is elections; some there may be, a storm is many for each group.
func TestStarvedLeaders(t *testing.T) {
	rounds, length := 2, 5*time.Second
	if os.Getenv("LINECARD_LONG") != "" {
		rounds, length = 20, 15*time.Second
	}
	s := Start(t, Cluster, Settings{})
	s.WaitVoters(3)
	h := NewHistory()
	ann := s.NewDevice("ann", h, DeviceOptions{})
	s.NewDevice("bob", h, DeviceOptions{})
	talk, stopTalk := make(chan error, 1), make(chan struct{})
	go func() { talk <- talkUntil(stopTalk, ann) }()
	before := s.Elections()
	for round := range rounds {
		burners := runtime.NumCPU() * 2 * (1 + round%4)
		was := s.Elections()
		stop := Burn(t, burners)
		rest(length) // starved meanwhile: what is counted is elections
		stop()
		t.Logf("%d burners for %v: %d elections", burners, length, s.Elections()-was)
	}
	close(stopTalk)
	must(t, <-talk)
	if n, most := s.Elections()-before, 2*defaultShards; n > most {
		t.Errorf("%d elections of %d groups in %d rounds", n, 2*defaultShards, rounds)
	}
	must(t, ann.SayAll("bob", 8, 8))
	h.Judge(t, annAndBob)
}
