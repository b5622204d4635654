package shard

import (
	"math/rand/v2"
	"testing"
	"time"
)

// twoClocks is a wall clock that can be set and a monotonic clock that only runs.
type twoClocks struct {
	wall time.Time
	mono time.Duration
}

func (c *twoClocks) run(d time.Duration) { c.wall, c.mono = c.wall.Add(d), c.mono+d }

func (c *twoClocks) stamper() *stamper {
	return &stamper{wall: func() time.Time { return c.wall }, mono: func() time.Duration { return c.mono }}
}

func TestStampStartsAtTheHigher(t *testing.T) {
	c := &twoClocks{wall: time.UnixMilli(5000)}
	s := c.stamper()
	if s.lead(3000); s.now() != 5000 {
		t.Error("behind the wall clock")
	}
	if s.lead(9000); s.now() != 9000 {
		t.Error("below a stamp in the log")
	}
}

func TestStampIgnoresSteps(t *testing.T) {
	c := &twoClocks{wall: time.UnixMilli(1_000_000)}
	s := c.stamper()
	s.lead(0)
	c.wall = c.wall.Add(time.Hour) // the wall clock is set forward
	prev := s.now()
	for range 60 {
		c.run(time.Second)
		prev = s.now()
	}
	if want := int64(1_000_000 + 61_000); prev < want-1 || prev > want {
		t.Errorf("a minute after the step: %d, want %d", prev, want)
	}
	c.wall = c.wall.Add(-2 * time.Hour) // and back
	for range 60 * 1000 {
		c.run(time.Millisecond)
		if n := s.now(); n < prev {
			t.Fatalf("fell from %d to %d", prev, n)
		} else {
			prev = n
		}
	}
	if want := int64(1_000_000 + 61_000 + 59_000); prev < want-1 || prev > want+1 {
		t.Errorf("a minute after the step back: %d, want %d", prev, want)
	}
}

func TestStampReachesTheWall(t *testing.T) {
	c := &twoClocks{wall: time.UnixMilli(1000)}
	s := c.stamper()
	s.lead(3000) // two seconds ahead: caught up after two minutes
	for range 121 {
		c.run(time.Second)
		s.now()
	}
	if n := s.now(); n < c.wall.UnixMilli()-1 || n > c.wall.UnixMilli()+1 {
		t.Errorf("stamp %d, wall clock %d", n, c.wall.UnixMilli())
	}
}

func TestStampNeverFalls(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	c := &twoClocks{wall: time.UnixMilli(1e12)}
	s := c.stamper()
	s.lead(0)
	prev := s.now()
	for range 100_000 {
		switch rng.IntN(10) {
		case 0:
			c.wall = c.wall.Add(time.Duration(rng.Int64N(int64(48*time.Hour))) - 24*time.Hour)
		case 1:
			s.lead(prev)
		default:
			c.run(time.Duration(rng.Int64N(int64(50 * time.Millisecond))))
		}
		n := s.now()
		if n < prev {
			t.Fatalf("fell from %d to %d", prev, n)
		}
		prev = n
	}
}
