package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// fakeReplicas is host and daemon of a member: it keeps what was asked.
type fakeReplicas struct {
	open                []int
	in                  map[int]bool // this node is in the group's configuration
	led, gone           map[int]bool // it has a leader; others know that this node was removed
	asked               []string
	did                 []string
	failed, stuck, full error // of opening, closing, deleting
	want                func(stanza.Group) []string
}

func (f *fakeReplicas) Status() (all []shard.GroupStatus) {
	for _, n := range f.open {
		s := shard.GroupStatus{Group: stanza.QueueGroup(n)}
		if f.in[n] {
			if f.led[n] {
				s.LeaderID = "2"
			}
			s.Servers = []shard.ServerStatus{{Node: "1"}, {Node: "2"}}
		}
		all = append(all, s)
	}
	return all
}
func (f *fakeReplicas) Want(w func(stanza.Group) []string) { f.want = w }
func (f *fakeReplicas) Drop(g stanza.Group) error {
	f.did = append(f.did, fmt.Sprint("drop ", g.Shard()))
	return f.full
}
func (f *fakeReplicas) Removed(_ context.Context, nodes []string, groups []stanza.Group) (gone []stanza.Group) {
	f.asked = nodes
	for _, g := range groups {
		if f.gone[g.Shard()] {
			gone = append(gone, g)
		}
	}
	return gone
}
func (f *fakeReplicas) OpenGroup(n int) error {
	if f.failed != nil {
		return f.failed
	}
	f.did = append(f.did, fmt.Sprint("open ", n))
	f.open = append(f.open, n)
	return nil
}
func (f *fakeReplicas) CloseGroup(n int) error {
	f.did = append(f.did, fmt.Sprint("close ", n))
	f.open = slices.DeleteFunc(f.open, func(x int) bool { return x == n })
	return f.stuck
}

// placed is a member alone, and the roster with which most of its groups go to others.
func placed(t *testing.T) (c *cluster, f *fakeReplicas, more *roster.Roster, lose int) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Shards, cfg.Data = 8, t.TempDir()
	f = &fakeReplicas{in: map[int]bool{}}
	c = &cluster{cfg: &cfg, node: 1, role: Offline, log: slog.New(slog.DiscardHandler), board: link.NewBoard(), host: f, groups: f, held: map[int]*holding{}}
	if err := c.board.Offer(testRoster(t, 1, 1)); err != nil {
		t.Fatal(err)
	}
	f.open = c.first(nil, false)
	for n := range 8 {
		f.in[n] = true
	}
	more = testRoster(t, 1, 4)
	lose = slices.IndexFunc(f.open, func(n int) bool { return !c.places(more, stanza.QueueGroup(n)) })
	if lose < 0 {
		t.Fatal("nothing to see")
	}
	f.in[lose] = false
	return c, f, more, lose
}

// TestDropTriedAgain: data of a replica that could not be deleted are deleted later, and before it is opened again.
func TestDropTriedAgain(t *testing.T) {
	c, f, more, lose := placed(t)
	f.full = errors.New("no space")
	for range goneLooks + 3 {
		c.follow(more)
	}
	drop, name := fmt.Sprint("drop ", lose), stanza.QueueGroup(lose).String()
	if want := []string{fmt.Sprint("close ", lose), drop, drop, drop}; !slices.Equal(f.did, want) {
		t.Errorf("%q, want %q", f.did, want)
	}
	if w := texts(c.warnings()); !slices.Equal(w, []string{name + ": no space"}) {
		t.Errorf("%q", w)
	}
	f.did = nil
	back := c.board.Current()
	c.follow(back) // it is wanted here again
	if !slices.Equal(f.did, []string{drop}) {
		t.Errorf("%q", f.did)
	}
	f.did, f.full = nil, nil
	c.follow(back)
	c.follow(back)
	if want := []string{drop, fmt.Sprint("open ", lose)}; !slices.Equal(f.did, want) || len(c.warnings()) > 0 {
		t.Errorf("%q, want %q, %v", f.did, want, c.warnings())
	}
}

// TestDropNothingThatRuns: the data of a replica that did not close stay, and so does the warning.
func TestDropNothingThatRuns(t *testing.T) {
	c, f, more, lose := placed(t)
	f.stuck = errors.New("stuck")
	for range goneLooks + 3 {
		c.follow(more)
	}
	c.follow(c.board.Current())
	if want := []string{fmt.Sprint("close ", lose)}; !slices.Equal(f.did, want) {
		t.Errorf("%q, want %q", f.did, want)
	}
	if w := texts(c.warnings()); len(w) != 1 || !has(w, stanza.QueueGroup(lose).String(), "stuck", "next start") {
		t.Errorf("%q", w)
	}
}

// TestRemovedWhileAway: a replica that was removed while its process was away is found by asking those who have the group now, and deleted.
func TestRemovedWhileAway(t *testing.T) {
	c, f, more, lose := placed(t)
	f.in[lose] = true // it knows no better
	if err := c.board.Offer(more); err != nil {
		t.Fatal(err)
	}
	look := func() {
		c.search(t.Context())
		for range goneLooks + 2 {
			c.follow(more)
		}
	}
	f.led, f.gone = map[int]bool{}, map[int]bool{}
	for n := range 8 {
		f.led[n], f.gone[n] = !c.places(more, stanza.QueueGroup(n)), true // nobody is to ask about what belongs here
	}
	look()
	if len(f.did) > 0 || len(f.asked) > 0 {
		t.Errorf("led: %q, asked %q", f.did, f.asked)
	}
	f.led[lose] = false
	look()
	if want := []string{fmt.Sprint("close ", lose), fmt.Sprint("drop ", lose)}; !slices.Equal(f.did, want) {
		t.Errorf("%q, want %q", f.did, want)
	}
	if want := nodeNames(more.Replicas(nil, stanza.QueueGroup(lose))); !slices.Equal(f.asked, want) {
		t.Errorf("asked %q, want %q", f.asked, want)
	}
}
