package shard

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"linecard.example/internal/stanza"
)

// GroupHash is a hash of a group's logical state and the index up to which the log is in it. Replicas with equal indexes have equal hashes.
type GroupHash struct {
	Group   stanza.Group
	Applied uint64
	Hash    uint64
}

// Hashes returns the hash of every open group, ordered by group, each taken on its shard goroutine, which does nothing else meanwhile: it walks the whole
// state. Safe for concurrent use.
func (h *Host) Hashes(ctx context.Context) ([]GroupHash, error) {
	var out []GroupHash
	var errs []error
	for _, g := range h.open() {
		x, err := g.hash(ctx)
		out, errs = append(out, x), append(errs, err)
	}
	slices.SortFunc(out, func(a, b GroupHash) int { return cmp.Compare(a.Group, b.Group) })
	return out, errors.Join(errs...)
}

func (g *Group[C, R]) hash(ctx context.Context) (x GroupHash, err error) {
	x.Group = g.id
	err = g.Call(ctx, func() { x.Applied, x.Hash = g.at, g.m.Hash() })
	return x, err
}
