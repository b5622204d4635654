package shard

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/vfs"
)

// A leader that does not know how far a follower is, since its answers were lost, starts below what that one has in its log: whatever it
// sends is taken, and what is here already does no harm.
func TestEntriesBelowTheSnapshot(t *testing.T) {
	p := rehearse(t)
	s := seatFor(t, vfs.NewMem(), func(c *HostConfig) { c.NoTrailing = true })
	noErr(t, s.mustAppend(1, 90), s.g.Snapshot(t.Context()))
	if first, _ := s.g.store.FirstIndex(); first != 0 {
		t.Fatalf("the log begins at %d: nothing is shown", first)
	}
	for _, r := range [][2]uint64{{1, 20}, {50, 61}, {70, 90}, {80, 92}, {95, 94}} {
		if ok, err := s.append(r[0], r[1], min(r[1], 92), 0); r[0] <= 91 && (!ok || err != nil) {
			t.Errorf("entries %d to %d: %v, %v", r[0], r[1], ok, err)
		} else if r[0] > 91 && ok {
			t.Errorf("entries behind %d, which is not here, were taken", r[0]-1)
		}
	}
	s.mustBe(t, p, 92)
	if ok, err := s.append(85, 95, 95, 1); ok || err != nil {
		t.Errorf("entries that contradict the snapshot: %v, %v", ok, err)
	}
	noErr(t, s.mustAppend(93, 100))
	s.mustBe(t, p, 100)
}

// What a leader has committed says nothing of entries that it did not compare: those of a leader that lost its place may stand there.
func TestCommittedAsFarAsCompared(t *testing.T) {
	p := rehearse(t)
	s := seatFor(t, vfs.NewMem(), func(*HostConfig) {})
	noErr(t, s.mustAppend(1, 60))
	if ok, err := s.append(61, 70, 60, 1); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.term = 2
	if ok, err := s.append(61, 60, 80, 0); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if at := s.g.raft.CommitIndex(); at != 60 {
		t.Fatalf("committed up to %d", at)
	}
	noErr(t, s.mustAppend(61, 100))
	s.mustBe(t, p, 100)
}

// A follower whose answers are lost goes on, cuts its log, and the leader cuts its own: when the leader hears it again they find each other,
// though nothing stands in either log that the other one has.
func TestFollowerIsAheadOfWhatItsLeaderKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, 2)
		one := func() (lead *cloudNode) {
			within(t, time.Minute, "a leader", func() bool {
				for _, n := range c.nodes {
					if _, ok := n.g.Leading(); ok {
						lead = n
					}
				}
				return lead != nil
			})
			return lead
		}
		commit := func(n int) {
			c.lookAll()
			before := len(c.acked)
			within(t, time.Minute, "commits", func() bool { c.ask(); return len(c.acked) >= before+n })
		}
		lead := one()
		commit(10)
		var mute *cloudNode
		for _, n := range c.nodes {
			if n != lead {
				mute = n
			}
		}
		c.change(func() { c.cut[[2]string{mute.name, lead.name}] = true })
		commit(30)
		if one() != lead {
			t.Fatal("another leader: nothing is shown")
		}
		upTo, err := lead.g.coverLog()
		noErr(t, err)
		within(t, time.Minute, "more entries", func() bool { c.ask(); return lead.g.appliedAt.Load() > upTo+5 })
		within(t, time.Minute, "everything", func() bool { return mute.g.appliedAt.Load() == lead.g.appliedAt.Load() })
		further, err := mute.g.coverLog()
		noErr(t, err, mute.g.cutLog(further), lead.g.cutLog(upTo))
		if further <= upTo {
			t.Fatalf("the follower's snapshot is at %d, the leader's at %d: nothing is shown", further, upTo)
		}
		time.Sleep(5 * time.Second) // what was sent before is forgotten
		c.clear()
		c.change(func() { // the leader has nobody else to commit with
			for _, n := range c.nodes {
				if n != lead && n != mute {
					c.cut[[2]string{n.name, lead.name}], c.cut[[2]string{n.name, mute.name}] = true, true
				}
			}
		})
		commit(1)
		c.calm()
	})
}
