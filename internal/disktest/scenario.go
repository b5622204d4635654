package disktest

import (
	"errors"
	"fmt"
	"strings"
)

// Groups is how many groups a subject has. They share the disk, and with it WALs, memtables and tables.
const Groups = 2

// Subject is two groups of one daemon with a model of each: what a scenario drives. One goroutine.
type Subject interface {
	// Open opens the databases and groups and waits until all lead. first: the disk is new.
	Open(d *Disk, first bool) error
	// Step commits one or more further commands in a group, and holds their answers against the model. What was answered while the
	// power was on after the answer counts as acked.
	Step(group int) error
	// WriteAhead writes to tables what may be written ahead of the applied index.
	WriteAhead(group int) error
	// Snapshot takes a raft snapshot of a group.
	Snapshot(group int) error
	// Scrub moves the clock until all groups are scrubbed.
	Scrub() error
	// Dead returns what the models say is deleted by now: a scrub removes it from every file, and it never comes again.
	Dead() [][]byte
	// Check compares the groups with their models. Acked commands are there, all and whole; behind them may be a part of those that
	// were not answered, in order, and the models follow. It is called once after each Open.
	Check() error
	// Close closes everything, in order.
	Close() error
}

// Scenario drives s on d until the power goes, and then looks: it brings the power back, opens, checks, goes on, and restarts. It covers
// the first start, appends, records written ahead and made durable without their F, flushes, snapshots, truncations, a restart in
// order and a scrub. work scales the steps between these.
func Scenario(d *Disk, s Subject, work int) error {
	var dead [][]byte
	started, err := perform(d, s, work, &dead)
	if err != nil {
		return err
	}
	d.Off()
	_ = s.Close() // whatever it says: its disk is gone
	d.PowerOn()
	found, err := Search(d, "", dead)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%d of what a scrub had removed came back: %s", len(found), strings.Join(found[:min(3, len(found))], "; "))
	}
	return aftermath(d, s, !started)
}

// perform returns at the end or when the power is off. started: the first start was complete.
func perform(d *Disk, s Subject, work int, dead *[][]byte) (started bool, err error) {
	both := func(f func(int) error) func() error {
		return func() error { return errors.Join(f(0), f(1)) }
	}
	one := func(f func(int) error, group int) func() error { return func() error { return f(group) } }
	steps := both(s.Step)
	acts := []struct {
		times int
		name  string
		do    func() error
	}{
		{3 * work, "step", steps},
		{1, "write ahead", one(s.WriteAhead, 0)},
		{1, "snapshot of the other", one(s.Snapshot, 1)}, // makes durable what is written ahead, and not its F
		{2 * work, "step", steps},
		{1, "snapshot", one(s.Snapshot, 0)},
		{2 * work, "step", steps},
		{1, "close", s.Close},
		{1, "open", func() error { return s.Open(d, false) }},
		{1, "check", s.Check},
		{2 * work, "step", steps},
		{1, "scrub", func() (err error) { *dead, err = scrub(d, s); return err }},
		{work, "step", steps},
		{1, "write ahead", both(s.WriteAhead)},
		{1, "snapshot of the other", one(s.Snapshot, 0)},
		{work, "step", steps},
	}
	if err := s.Open(d, true); err != nil {
		return false, fmt.Errorf("first open: %w", err)
	}
	if d.Cut() {
		return false, nil
	}
	for _, a := range acts {
		for range a.times {
			if err := a.do(); err != nil {
				return true, fmt.Errorf("%s: %w", a.name, err)
			}
			if d.Cut() {
				return true, nil
			}
		}
	}
	return true, nil
}

// scrub scrubs, and returns what is on the disk no more, for certain: nothing, if the power went on the way.
func scrub(d *Disk, s Subject) ([][]byte, error) {
	dead := s.Dead()
	found, err := Search(d, "", dead)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("nothing of what is deleted is found before the scrub: that it is not there afterwards shows nothing")
	}
	if err := s.Scrub(); err != nil || d.Cut() {
		return nil, err
	}
	return dead, nil
}

// aftermath is what must hold once the power is back.
func aftermath(d *Disk, s Subject, first bool) error {
	open := func(when string, first bool) error {
		if err := s.Open(d, first); err != nil {
			return fmt.Errorf("opening %s: %w", when, err)
		}
		if err := s.Check(); err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		return nil
	}
	if err := open("after the cut", first); err != nil {
		return err
	}
	for range 2 {
		if err := errors.Join(s.Step(0), s.Step(1)); err != nil {
			return fmt.Errorf("going on: %w", err)
		}
	}
	if err := errors.Join(s.Snapshot(0), s.Step(0), s.Close()); err != nil {
		return fmt.Errorf("going on: %w", err)
	}
	if err := open("after another restart", false); err != nil {
		return err
	}
	return s.Close()
}
