package node

import (
	"context"
	"slices"
	"time"

	"linecard.example/internal/roster"
	"linecard.example/internal/stanza"
)

// removalSearch asks other members about replicas that the roster has elsewhere and that nobody leads here: this node may have been removed
// while it was away, and then nobody would ever tell it.
type removalSearch struct{ c *cluster }

// Pauses of a removalSearch.
const (
	searchEvery = 5 * time.Second
	searchLimit = 30 * time.Second // for one search, over all members
)

// Serve searches until ctx ends.
func (s removalSearch) Serve(ctx context.Context) error {
	tick := time.NewTicker(searchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.c.search(ctx)
		}
	}
}

// search asks once.
func (c *cluster) search(ctx context.Context) {
	groups, nodes := c.abandoned(c.board.Current())
	ctx, cancel := context.WithTimeout(ctx, searchLimit)
	defer cancel()
	var absent []stanza.Group
	if len(groups) > 0 {
		absent = c.host.Removed(ctx, nodes, groups)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent = absent
}

// abandoned lists the groups that are here, belong elsewhere by the roster and have no leader, and the members to ask about them.
func (c *cluster) abandoned(r *roster.Roster) (groups []stanza.Group, nodes []string) {
	if r == nil {
		return nil, nil
	}
	for _, s := range c.host.Status() {
		if s.Leading || s.LeaderID != "" || c.places(r, s.Group) {
			continue
		}
		groups = append(groups, s.Group)
		for _, node := range nodeNames(r.Replicas(nil, s.Group)) {
			if !slices.Contains(nodes, node) {
				nodes = append(nodes, node)
			}
		}
	}
	return groups, nodes
}

// removals returns what the last search found.
func (c *cluster) removals() []stanza.Group {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.absent
}
