package shard

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// A replica that was away when it was removed finds out by asking; who is in the configuration, was taken in again, or asks those who know
// less, is not removed.
func TestRemovedWhileAway(t *testing.T) {
	ss := openStations(t, 2)
	commitAll(t, 2, 20, ss...)
	away, groups, nodes := ss[2], []stanza.Group{0, 1}, []string{ss[0].id, ss[1].id, ss[2].id}
	away.close(t)
	lead := leads(t, 0, ss[0], ss[1])
	if err := lead.gs[0].raft.RemoveServer(raft.ServerID(away.id), 0, 10*time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	commitAll(t, 2, 20, ss[0], ss[1])
	away.listen(t)
	away.open(t, 2, true)
	ctx := context.Background()
	eventually(t, "it hears that it was removed from group 0", func() bool { return slices.Equal(away.h.Removed(ctx, nodes, groups), groups[:1]) })
	for _, s := range ss[:2] {
		if gone := s.h.Removed(ctx, nodes, groups); len(gone) > 0 {
			t.Errorf("%s, a member, was removed from %v", s.id, gone)
		}
	}
	if !away.h.olderThan(0, 1<<40) || away.h.olderThan(0, 1) || away.h.olderThan(7, 1<<40) {
		t.Error("which configuration is newer")
	}
	lead = leads(t, 0, ss[0], ss[1])
	if err := lead.gs[0].raft.AddNonvoter(raft.ServerID(away.id), raft.ServerAddress(away.id), 0, 10*time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is in again", func() bool { return len(away.h.Removed(ctx, nodes, groups)) == 0 })
	concur(t, 0, ss...)
	if newer, err := away.gs[0].configuredAfter(1); !newer || err != nil {
		t.Error("the log has no configuration", err)
	}
}

// An answer of before there were configurations in it says nothing of them.
func TestStatusOfOldPeer(t *testing.T) {
	s := ReplicaStatus{Group: 3, Open: true, Term: 4, Applied: 5, Last: 6, Snapshot: 7, Configured: 8, Member: true, Behind: true}
	b := s.append(nil)
	if got := parseStatus(b); got != s {
		t.Errorf("%+v", got)
	}
	want := s
	want.Configured, want.Member = 0, false
	b[2] &^= flagMember
	if got := parseStatus(b[:statusSizeV1]); got != want {
		t.Errorf("%+v", got)
	}
}
