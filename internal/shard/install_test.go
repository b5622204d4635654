package shard

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/disktest"
	"linecard.example/internal/stanza"
)

func seatFor(t *testing.T, fs vfs.FS, change func(*HostConfig)) *seat {
	t.Helper()
	s, err := openSeat(fs, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.h.Close() })
	return s
}

func noErr(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (s *seat) mustBe(t *testing.T, p *play, at uint64) {
	t.Helper()
	noErr(t, s.reach(at), s.is(p, at))
}

// A replica of which nothing was here starts with a state, goes on with entries, is ahead of its log for a while, and restarts.
func TestJoinWithAState(t *testing.T) {
	p, fs := rehearse(t), vfs.NewMem()
	s := seatFor(t, fs, func(*HostConfig) {})
	noErr(t, s.mustInstall(p.states[0]))
	s.mustBe(t, p, 50) // F is 50, the log ends at 40
	restart := func() {
		t.Helper()
		noErr(t, s.h.Close())
		s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
	}
	restart()
	s.mustBe(t, p, 50)
	noErr(t, s.mustAppend(41, 45)) // folded already
	s.mustBe(t, p, 50)
	restart()
	noErr(t, s.mustAppend(46, 70))
	s.mustBe(t, p, 70)
	if names, _ := fs.List("d/" + recvDir); len(names) != 0 {
		t.Errorf("left over: %v", names)
	}
	noErr(t, s.mustInstall(p.states[1]))
	s.mustBe(t, p, 85)
	noErr(t, s.mustAppend(81, 100))
	s.mustBe(t, p, 100)
	restart()
	if s.m.loadedF < 85 {
		t.Errorf("F is %d after the restart", s.m.loadedF)
	}
	noErr(t, s.mustAppend(100, 100))
	s.mustBe(t, p, 100)
}

// A state that is older than what was applied, because an earlier attempt arrives late or its sender does not know better, changes nothing;
// nor does raft apply again what the log has no more. The sender hears that its last entry is here.
func TestLateStateChangesNothing(t *testing.T) {
	p := rehearse(t)
	s := seatFor(t, vfs.NewMem(), func(c *HostConfig) { c.NoTrailing = true })
	noErr(t, s.mustAppend(1, 90), s.mustInstall(p.states[1])) // in the log
	if at := s.g.snaps.index.Load(); at != 0 {
		t.Errorf("snapshot %d", at)
	}
	noErr(t, s.g.Snapshot(t.Context()))
	for _, x := range p.states {
		noErr(t, s.mustInstall(x))
	}
	if at := s.g.snaps.index.Load(); at != 90 {
		t.Errorf("snapshot %d", at)
	}
	s.term = 1
	if ok, err := s.install(p.states[0]); ok || err != nil {
		t.Errorf("a state of an earlier term: %v, %v", ok, err)
	}
	s.term = 2
	noErr(t, s.mustAppend(91, 100))
	s.mustBe(t, p, 100)
}

// The first entries of all, which a leader sent before it turned to sending its state, may arrive after that. They change nothing.
func TestLateEntries(t *testing.T) {
	p, fs := rehearse(t), vfs.NewMem()
	s := seatFor(t, fs, func(*HostConfig) {})
	noErr(t, s.mustInstall(p.states[1]))
	if _, err := s.append(1, 20, 20, 0); err != nil {
		t.Fatal(err)
	}
	if first, _ := s.g.store.FirstIndex(); first != 0 {
		t.Errorf("the log begins at %d, the snapshot is at 80", first)
	}
	noErr(t, s.mustAppend(81, 90), s.h.Close())
	s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
	noErr(t, s.mustAppend(91, 100))
	s.mustBe(t, p, 100)
}

// A state further down than the one that is here, but further up than the log, brings its metadata alone.
func TestStateBelowTheTables(t *testing.T) {
	p, fs := rehearse(t), vfs.NewMem()
	s := seatFor(t, fs, func(*HostConfig) {})
	ahead := p.states[1]
	ahead.index = 62 // another leader's, whose F was the same
	noErr(t, s.mustInstall(ahead))
	s.mustBe(t, p, 85)
	noErr(t, s.mustInstall(p.states[1]))
	s.mustBe(t, p, 85)
	if at := s.g.snaps.index.Load(); at != 80 {
		t.Errorf("snapshot %d", at)
	}
	noErr(t, s.h.Close())
	s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
	noErr(t, s.mustAppend(81, 100))
	s.mustBe(t, p, 100)
}

// A follower whose last entries are of a leader that lost its place gets rid of them, wherever the logs of both were cut: with a state
// in front of them, and with its own snapshot directly before them.
func TestConflictingTail(t *testing.T) {
	p := rehearse(t)
	t.Run("behind a received state", func(t *testing.T) {
		fs := vfs.NewMem()
		s := seatFor(t, fs, func(*HostConfig) {})
		noErr(t, s.mustAppend(1, 60))
		if ok, err := s.append(61, 83, 60, 1); !ok || err != nil {
			t.Fatal(ok, err)
		}
		s.term = 2
		if ok, _ := s.append(81, 83, 83, 0); ok {
			t.Fatal("entries were taken behind others of another term")
		}
		noErr(t, s.mustInstall(p.states[1]), s.h.Close())
		i, err := Inspect(fs, "d")
		noErr(t, err)
		if len(i.Faults) > 0 {
			t.Errorf("files that are whole: %v", i.Faults)
		}
		noErr(t, i.Close())
		s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
		noErr(t, s.mustAppend(81, 100))
		s.mustBe(t, p, 100)
	})
	t.Run("behind a snapshot with nothing left before it", func(t *testing.T) {
		fs := vfs.NewMem()
		s := seatFor(t, fs, func(*HostConfig) {})
		noErr(t, s.mustAppend(1, 60))
		if ok, err := s.append(61, 64, 60, 1); !ok || err != nil {
			t.Fatal(ok, err)
		}
		noErr(t, s.g.Snapshot(t.Context()), s.g.cutLog(60)) // as a scrub does
		noErr(t, s.h.Close())
		s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
		noErr(t, s.mustAppend(61, 100))
		s.mustBe(t, p, 100)
		var l raft.Log
		if err := s.g.store.GetLog(59, &l); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("an entry that was cut: %v", err)
		}
	})
}

// A leader that is deposed while it does not know it may be sent a state at once: it follows, and says so, before that takes effect.
func TestLeaderTakesAState(t *testing.T) {
	p := rehearse(t)
	s := seatFor(t, vfs.NewMem(), func(c *HostConfig) { c.Join = false })
	awaitLead(t, s.m)
	propose(t, s.g, s.m, 0, 10)
	s.term = 50
	var follows int
	noErr(t, s.mustInstall(p.states[0]))
	led := true
	onShard(t, s.g, func() { follows, led = s.m.follows, s.m.loadLed })
	if _, ok := s.g.Leading(); ok || led || follows != 1 {
		t.Errorf("leading %v, when the state was loaded %v, told to follow %d times", ok, led, follows)
	}
	s.mustBe(t, p, 50)
}

// What a crash between the steps of an install leaves is completed by the next start, and what one before them leaves is removed.
func TestInstallIsCompleted(t *testing.T) {
	p, fs := rehearse(t), vfs.NewMem()
	s := seatFor(t, fs, func(*HostConfig) {})
	noErr(t, s.mustAppend(1, 30))
	k := newReceiver(s.h, testGroup)
	_, err := k.Write(p.states[0].bytes)
	noErr(t, err, k.finish(&raft.SnapshotMeta{Version: 1, Index: 40, Term: 1, Configuration: seatConf, ConfigurationIndex: 1}))
	half := newReceiver(s.h, testGroup)
	_, err = half.Write(p.states[1].bytes[:1000])
	noErr(t, err, s.h.state.Ingest(k.files))
	half.w.Close()
	s.h.Fail(errors.New("a crash")) // nothing of the machine is flushed
	s.h.Close()
	noErr(t, s.h.log.Close(), s.h.state.Close())

	s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
	s.mustBe(t, p, 50)
	if at := s.g.snaps.index.Load(); at != 40 {
		t.Errorf("snapshot %d", at)
	}
	if names, _ := fs.List("d/" + recvDir); len(names) != 0 {
		t.Errorf("left over: %v", names)
	}
	noErr(t, s.mustAppend(41, 100))
	s.mustBe(t, p, 100)
}

// A received state replaces the old one, and a scrub leaves nothing of that in any file.
func TestReplacedStateIsScrubbed(t *testing.T) {
	p, fs, clock := rehearse(t), vfs.NewMem(), newHandClock()
	s := seatFor(t, fs, func(c *HostConfig) { c.Clock, c.Tick = clock.now, time.Millisecond })
	noErr(t, s.mustAppend(1, 30))
	marker := []byte("what only this replica has, 0123456789abcdef")
	onShard(t, s.g, func() {
		s.m.o.Set([]byte("m"), marker)
		_ = s.g.flush(0)
	})
	noErr(t, s.h.flushState())
	if found, err := disktest.Search(fs, "d", [][]byte{marker}); err != nil || len(found) == 0 {
		t.Fatal("the search shows nothing", err)
	}
	noErr(t, s.mustInstall(p.states[0]))
	s.mustBe(t, p, 50)
	due := clock.now().Add(time.Millisecond)
	clock.advance(scrubEvery)
	limit := time.Now().Add(20 * time.Second)
	for s.h.Status()[0].Scrubbed.Before(due) { // the snapshot, and the cut after the time for followers
		clock.advance(scrubGrace / 10)
		if time.Now().After(limit) {
			t.Fatal("not scrubbed")
		}
		time.Sleep(5 * time.Millisecond) // the scrubber tells nobody
	}
	if found, err := disktest.Search(fs, "d", [][]byte{marker}); err != nil || len(found) > 0 {
		t.Errorf("%v %v", found, err)
	}
	s.mustBe(t, p, 50)
}

// Two groups of one host: a state of one leaves the other alone, whatever its keys are.
func TestInstallTouchesOneGroup(t *testing.T) {
	p := rehearse(t)
	s := seatFor(t, vfs.NewMem(), func(*HostConfig) {})
	for _, g := range []stanza.Group{testGroup - 1, testGroup + 1} {
		b := Tables{db: s.h.state, g: g}.Ahead()
		for i := range 50 {
			b.Set(fmt.Appendf(nil, "key %d", i), []byte("v"))
		}
		b.setApplied(7, 7)
		noErr(t, b.Commit())
	}
	noErr(t, s.mustAppend(1, 30), s.mustInstall(p.states[0]))
	s.mustBe(t, p, 50)
	for _, g := range []stanza.Group{testGroup - 1, testGroup + 1} {
		n, tables := 0, Tables{db: s.h.state, g: g}
		noErr(t, tables.Scan(nil, nil, func(_, _ []byte) bool { n++; return true }))
		if at, _, err := tables.applied(); n != 50 || at != 7 || err != nil {
			t.Errorf("%s: %d records, applied %d, %v", g, n, at, err)
		}
	}
}
