package shard

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// A replica that is away when it is removed from its group never hears of it: who leads sends nothing to who is not in the configuration, and
// takes no votes of him. So it has to ask. What another replica has committed is for ever: if that configuration is newer than any in
// the log here, and this node is not in it, nobody counts on what is here. Had the node been taken in again later, and been sent anything
// since, it would have the configuration that did so.

// configured is a configuration that was committed.
type configured struct {
	index  uint64
	nodes  []string
	voters int
}

func (c *configured) has(node string) bool { return slices.Contains(c.nodes, node) }

// noteConfigured takes down a configuration that is committed, unless it is older than one that was. Not concurrently with itself.
func (c *core) noteConfigured(index uint64, conf raft.Configuration) {
	if was := c.configured.Load(); was != nil && was.index >= index {
		return
	}
	next := &configured{index: index}
	for _, s := range conf.Servers {
		next.nodes = append(next.nodes, string(s.ID))
		if s.Suffrage == raft.Voter {
			next.voters++
		}
	}
	c.configured.Store(next)
}

// configuredAfter reports whether the log, or a snapshot, has a configuration behind index, committed or not.
func (c *core) configuredAfter(index uint64) (bool, error) {
	if known := c.configured.Load(); known != nil && known.index > index {
		return true, nil
	}
	first, err := c.store.FirstIndex()
	if err != nil {
		return false, err
	}
	last, err := c.store.LastIndex()
	if err != nil {
		return false, err
	}
	var l raft.Log
	for i := max(index+1, first); i <= last && first > 0; i++ {
		if err := c.store.GetLog(i, &l); err != nil {
			return false, fmt.Errorf("shard: looking for configurations of %s: %w", c.id, err)
		}
		if l.Type == raft.LogConfiguration {
			return true, nil
		}
	}
	return false, nil
}

// Removed asks nodes about groups that are open here, over the Network, and returns those of which this node was removed while it was away.
// Who does not answer counts for nothing. It takes as long as they do, within ctx. Safe for concurrent use.
func (h *Host) Removed(ctx context.Context, nodes []string, groups []stanza.Group) (gone []stanza.Group) {
	if h.cfg.Network == nil || len(groups) == 0 {
		return nil
	}
	for _, node := range nodes {
		if node == h.cfg.NodeID {
			continue
		}
		list, err := h.cfg.Network.Status(ctx, node, groups...)
		if err != nil {
			continue // it is logged when it begins
		}
		for _, s := range list {
			if s.Configured != 0 && !s.Member && !slices.Contains(gone, s.Group) && h.olderThan(s.Group, s.Configured) {
				gone = append(gone, s.Group)
			}
		}
	}
	return gone
}

// olderThan reports whether a group is open and its newest configuration here is older than index.
func (h *Host) olderThan(g stanza.Group, index uint64) bool {
	h.mu.Lock()
	c := h.cores[g]
	h.mu.Unlock()
	if c == nil {
		return false
	}
	newer, err := c.configuredAfter(index)
	if err != nil {
		c.log.Warn("not known whether this replica was removed", "error", err)
		return false
	}
	own := c.configured.Load()
	return !newer && (own == nil || own.index < index)
}
