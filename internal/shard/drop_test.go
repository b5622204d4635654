package shard

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/disktest"
)

// What is dropped is gone from both databases, soon afterwards from their files, and stays away over a restart. It may come back.
func TestDrop(t *testing.T) {
	p, fs := rehearse(t), vfs.NewMem()
	quick := func(c *HostConfig) { c.Tick = time.Millisecond }
	s := seatFor(t, fs, quick)
	noErr(t, s.mustAppend(1, 30))
	marker := []byte("what nobody shall find, 0123456789abcdef")
	onShard(t, s.g, func() {
		s.m.o.Set([]byte("m"), marker)
		_ = s.g.flush(0)
	})
	noErr(t, s.h.flushState())
	if err := s.h.Drop(testGroup); err == nil {
		t.Fatal("an open group was dropped")
	}
	noErr(t, s.g.Close(), s.h.Drop(testGroup))
	limit := time.Now().Add(20 * time.Second)
	for {
		v, err := getCopy(s.h.log, groupStart(keyDrop, testGroup))
		noErr(t, err)
		if v == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the files were not washed")
		}
		time.Sleep(time.Millisecond) // the scrubber tells nobody
	}
	found, err := disktest.Search(fs, "d", [][]byte{marker, []byte("term 1 entry 7")})
	if err != nil || len(found) > 0 {
		t.Errorf("still there: %v %v", found, err)
	}
	noErr(t, s.h.Close())
	s = seatFor(t, fs, func(c *HostConfig) { quick(c); c.Bootstrap = false })
	s.mustBe(t, p, 0)
	noErr(t, s.mustInstall(p.states[0]), s.mustAppend(41, 100))
	s.mustBe(t, p, 100)
}

// A drop survives a power cut anywhere within it: what is left is the group, or nothing of it.
func TestPowerCutDuringDrop(t *testing.T) {
	p := rehearse(t)
	disktest.MustSurvive(t, func(d *disktest.Disk) error { return dropRun(p, d) })
}

func dropRun(p *play, d *disktest.Disk) error {
	s, err := openSeat(d, func(*HostConfig) {})
	if err != nil {
		return err
	}
	started := !d.Cut()
	dropped, gone := false, false
	for round := range 4 { // more than once, for enough syncs
		err = errors.Join(s.mustInstall(p.states[0]), s.mustAppend(41, 60), s.g.Close())
		if err == nil {
			err = s.h.Drop(testGroup)
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if d.Cut() {
			break
		}
		dropped = true
		if round == 3 {
			gone = true
			break
		}
		s.m = newToy()
		if s.g, err = Open[int, uint64](s.h, testGroup, s.m); err != nil {
			return fmt.Errorf("opening in round %d: %w", round, err)
		}
		if d.Cut() {
			break
		}
	}
	d.Off()
	_ = s.h.Close()
	d.PowerOn()
	if s, err = openSeat(d, func(c *HostConfig) { c.Bootstrap = !started }); err != nil {
		return fmt.Errorf("opening after the cut: %w", err)
	}
	defer s.h.Close()
	at := s.g.appliedAt.Load()
	if stage, err := getCopy(s.h.log, groupStart(keyDrop, testGroup)); err != nil || len(stage) > 0 && stage[0] == dropTables {
		return errors.Join(errors.New("a drop was left half done"), err)
	}
	if gone && at != 0 {
		return fmt.Errorf("what was dropped is there again, up to %d", at)
	}
	if err := s.is(p, at); err != nil {
		return err
	}
	if dropped && !s.g.store.forgetful() && at == 0 && s.g.snaps.index.Load() == 0 {
		return errors.New("it forgot that it had forgotten")
	}
	return errors.Join(s.mustInstall(p.states[0]), s.catchUp(p))
}

// A replica that was dropped and comes back does not vote before it has what it had: a node that missed all that could win by its vote an
// election that it must not win. It votes afterwards, and one that was never here has nothing to remember.
func TestNoVoteOfTheForgetful(t *testing.T) {
	p, fs := rehearse(t), vfs.NewMem()
	s := seatFor(t, fs, func(*HostConfig) {})
	vote := func(term uint64) (bool, error) {
		req := &raft.RequestVoteRequest{RPCHeader: s.header(), Term: term, LastLogIndex: 1000, LastLogTerm: term - 1, LeadershipTransfer: true}
		var resp raft.RequestVoteResponse
		err := s.lead.RequestVote("n1", "n1", req, &resp)
		return resp.Granted, err
	}
	if ok, err := vote(3); !ok || err != nil {
		t.Fatalf("a new replica: %v %v", ok, err)
	}
	s.term = 4
	noErr(t, s.mustAppend(1, 50), s.g.Close(), s.h.Drop(testGroup), s.h.Close())
	s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
	if ok, err := vote(5); ok || err != nil {
		t.Errorf("it voted, with nothing in its log: %v", err)
	}
	var pre raft.RequestPreVoteResponse
	noErr(t, s.lead.RequestPreVote("n1", "n1", &raft.RequestPreVoteRequest{RPCHeader: s.header(), Term: 5, LastLogIndex: 1000, LastLogTerm: 4}, &pre))
	if pre.Granted {
		t.Error("it promised a vote")
	}
	s.term = 6
	noErr(t, s.mustAppend(1, 49))
	if ok, err := vote(7); ok || err != nil {
		t.Errorf("it voted with less than it had: %v", err)
	}
	s.term = 8
	noErr(t, s.mustAppend(50, 51))
	if ok, err := vote(9); !ok || err != nil {
		t.Errorf("it does not vote with all that it had: %v", err)
	}
	s.mustBe(t, p, 51)
	v, err := getCopy(s.h.log, groupStart(keyJoin, testGroup))
	if err != nil || v != nil {
		t.Errorf("it still joins: %v %v", v, err)
	}
}

// Only a node of a cluster takes a missing log for one that is to come, and not when the tables are there.
func TestJoinRule(t *testing.T) {
	fs := vfs.NewMem()
	s := seatFor(t, fs, func(*HostConfig) {})
	noErr(t, s.h.Close())
	// A term and nothing else is what a crash leaves of a join.
	db, err := pebble.Open("d/log", &pebble.Options{FS: fs, FormatMajorVersion: formatVersion})
	noErr(t, err, db.Set(append(groupStart(keyStable, testGroup), keyTerm...), []byte{0, 0, 0, 0, 0, 0, 0, 9}, pebble.Sync), db.Close())
	alone := testConfig(fs)
	alone.Bootstrap = false
	h := openHost(t, alone)
	if _, err := Open[int, uint64](h, testGroup, newToy()); !errors.Is(err, ErrLost) {
		t.Errorf("without Join: %v", err)
	}
	noErr(t, h.Close())
	s = seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
	s.term = 10
	noErr(t, s.mustAppend(1, 10), s.g.Snapshot(t.Context()), s.h.Close())
	deleteKeys(t, fs, "log", []byte{keyLog}, []byte{keySnap + 1})
	deleteKeys(t, fs, "log", []byte{keyStable}, []byte{keyStable + 1})
	if _, err := openSeat(fs, func(c *HostConfig) { c.Bootstrap = false }); !errors.Is(err, ErrLost) {
		t.Errorf("a log that was lost: %v", err)
	}
}
