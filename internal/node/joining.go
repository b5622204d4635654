package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
)

// JoinCluster makes the data directory of cfg that of a member: it tells a router the name and the addresses, and keeps the roster for the
// start of the daemon. Done again it does no harm. It returns when the member is in the roster, or ctx ends.
func JoinCluster(ctx context.Context, cfg Config, role Role, log *slog.Logger) (*roster.Roster, error) {
	if _, err := cfg.checkFacts(); err != nil {
		return nil, err
	}
	known, err := readRoster(cfg.Data)
	if err != nil {
		return nil, err
	}
	held, err := heldAlone(cfg, role, known)
	if err != nil {
		return nil, err
	}
	conf, err := linkTLS(cfg.keyDir(), cfg.linkName(role), time.Now())
	if err != nil {
		return nil, err
	}
	id, err := makeIdentity(cfg.Data)
	if err != nil {
		return nil, err
	}
	board := link.NewBoard()
	if known != nil {
		if err := board.Offer(known); err != nil {
			return nil, err
		}
	}
	a := newEnquirer(&cfg, id.id, randomID(), board, log, nil)
	defer a.begin(conf)()
	if held {
		if err := a.awaitRoster(ctx, board); err != nil {
			return nil, err
		}
		if f := board.Current().Founder(rosterRole(role)); f != 0 && f != id.id {
			return nil, fmt.Errorf("data directory %s has groups of its own, and the cluster has them already: join with an empty one", cfg.Data)
		}
	}
	if err := a.announce(ctx, cfg.member(id.id, role)); err != nil {
		return nil, err
	}
	changed := board.Changed()
	for {
		if r := board.Current(); r != nil && r.Member(id.id) != nil {
			switch m := r.Member(id.id); {
			case m.State == roster.Leaving:
				return nil, fmt.Errorf("data directory %s: node %s has left the cluster for good; an empty directory can join", cfg.Data, nodeName(id.id))
			case held && r.Founder(m.Role) != id.id:
				return nil, fmt.Errorf("another %s was first: linecard cluster leave %s, and join with an empty directory", role, m.Name)
			}
			return r, writeRoster(cfg.Data, r)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the roster did not come: %w", ctx.Err())
		case <-changed:
		}
	}
}

// heldAlone reports whether the directory has the groups of a process that was alone, or of a backup. They are others than the cluster's,
// unless the cluster has none of that role yet: then they become its own, if all are there.
func heldAlone(cfg Config, role Role, known *roster.Roster) (bool, error) {
	if known != nil {
		return false, nil
	}
	text, err := os.ReadFile(filepath.Join(cfg.Data, "node"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.Contains(string(text), freshMark) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("node id: %w", err)
	}
	groups, err := shard.GroupsAtRest(nil, filepath.Join(cfg.Data, string(role)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("data directory %s was in use, but not by %s: take an empty one", cfg.Data, role)
	}
	if err != nil {
		return false, named(role, err)
	}
	for number := range cfg.Shards {
		if g := groupOf(role, number); !slices.Contains(groups, g) {
			return false, fmt.Errorf("data directory %s holds %d of %d groups, without %s: a cluster cannot begin with it; join with an empty one",
				cfg.Data, len(groups), cfg.Shards, g)
		}
	}
	return true, nil
}
