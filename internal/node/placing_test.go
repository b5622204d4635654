package node

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/stanza"
)

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
