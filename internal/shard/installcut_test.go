package shard

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"linecard.example/internal/disktest"
)

// The power may go before any sync while entries and whole states come in: what is there then is one of the states that the group was in, the
// log has no gap, nothing that was acknowledged is missing, and the replica can go on.
func TestPowerCutDuringInstalls(t *testing.T) {
	p := rehearse(t)
	disktest.MustSurvive(t, func(d *disktest.Disk) error { return cutRun(p, d) })
}

// acked is what a seat answered while the power was on.
type acked struct {
	d          *disktest.Disk
	last, snap uint64
}

func (a *acked) entries(i uint64) {
	if !a.d.Cut() {
		a.last = i
	}
}

func (a *acked) state(x sent) {
	if !a.d.Cut() {
		a.snap = x.index
		a.last = max(a.last, x.index)
	}
}

func cutRun(p *play, d *disktest.Disk) error {
	a := &acked{d: d}
	s, err := openSeat(d, cutConfig)
	if err != nil {
		return fmt.Errorf("first open: %w", err)
	}
	started := !d.Cut()
	err = cutActs(p, s, a)
	d.Off()
	_ = s.h.Close() // whatever it says: its disk is gone
	if err != nil {
		return err
	}
	d.PowerOn()
	again := func(c *HostConfig) {
		cutConfig(c)
		c.Bootstrap = !started
	}
	if s, err = openSeat(d, again); err != nil {
		return fmt.Errorf("opening after the cut: %w", err)
	}
	if err := a.check(p, s); err != nil {
		return errors.Join(err, s.h.Close())
	}
	if err := errors.Join(s.catchUp(p), s.h.Close()); err != nil {
		return fmt.Errorf("going on: %w", err)
	}
	again = func(c *HostConfig) {
		cutConfig(c)
		c.Bootstrap = false
	}
	if s, err = openSeat(d, again); err != nil {
		return fmt.Errorf("opening once more: %w", err)
	}
	return errors.Join(s.catchUp(p), s.h.Close())
}

func cutConfig(c *HostConfig) {
	c.FlushBytes = 512
	c.NoTrailing = true
}

// cutActs does what may be cut off, until it is.
func cutActs(p *play, s *seat, a *acked) error {
	entries := func(lo, hi uint64) func() error {
		return func() error {
			err := s.mustAppend(lo, hi)
			a.entries(hi)
			return err
		}
	}
	state := func(x sent) func() error {
		return func() error {
			err := s.mustInstall(x)
			a.state(x)
			return err
		}
	}
	snapshot := func() error { return s.g.Snapshot(context.Background()) }
	tail := func() error { // of a leader that lost its place, beyond the state that follows
		ok, err := s.append(61, 83, 60, 1)
		if err == nil && !ok {
			err = errors.New("the tail was not taken")
		}
		return err
	}
	acts := []func() error{
		entries(1, 10), entries(11, 20), snapshot, entries(21, 25), state(p.states[0]), entries(41, 45), entries(46, 60), snapshot,
		tail, state(p.states[1]), entries(81, 90), snapshot, entries(91, 100),
	}
	for _, act := range acts {
		if err := act(); err != nil {
			return err
		}
		if a.d.Cut() {
			return nil
		}
	}
	return nil
}

// check looks at a replica that has heard nothing yet.
func (a *acked) check(p *play, s *seat) error {
	at := s.g.appliedAt.Load()
	if err := s.is(p, at); err != nil {
		return err
	}
	snap := s.g.snaps.index.Load()
	first, _ := s.g.store.FirstIndex()
	last, _ := s.g.store.LastIndex()
	switch {
	case max(last, snap) < a.last:
		return fmt.Errorf("entry %d was acknowledged, the log ends at %d, the snapshot is at %d", a.last, last, snap)
	case snap < a.snap:
		return fmt.Errorf("the state at %d was acknowledged, the snapshot is at %d", a.snap, snap)
	case at < snap:
		return fmt.Errorf("the tables are at %d, the snapshot is at %d", at, snap)
	case first > snap+1, last != 0 && last < snap:
		return fmt.Errorf("a gap: the log is %d to %d, the snapshot is at %d", first, last, snap)
	}
	if names, _ := a.d.List("d/" + recvDir); len(names) != 0 {
		return fmt.Errorf("left over: %v", names)
	}
	return nil
}

// catchUp does what a leader does whose log begins at 81, behind the second state.
func (s *seat) catchUp(p *play) error {
	ok := false
	s.term = 2
	for next := uint64(scriptEnd); next > 80 && !ok; next-- {
		var err error
		if ok, err = s.append(next, scriptEnd, scriptEnd, 0); err != nil {
			return err
		}
	}
	if !ok {
		if err := errors.Join(s.mustInstall(p.states[1]), s.mustAppend(81, scriptEnd)); err != nil {
			return err
		}
	}
	if err := s.reach(scriptEnd); err != nil {
		return err
	}
	return s.is(p, scriptEnd)
}
