package node

import (
	"context"
	"fmt"
	"slices"

	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// replicaHost is what placing needs of shard.Host.
type replicaHost interface {
	Status() []shard.GroupStatus
	Want(func(stanza.Group) []string)
	Drop(stanza.Group) error
	Removed(ctx context.Context, nodes []string, groups []stanza.Group) []stanza.Group
}

// groupOpener is a daemon whose groups come and go.
type groupOpener interface {
	OpenGroup(shard int) error
	CloseGroup(shard int) error
}

// holding is what a member does with one group of its role.
type holding struct {
	open bool  // the daemon has it
	gone int   // looks in a row that it was wanted here neither by the roster nor by its own configuration
	left bool  // closed, and its data are to be deleted: to be tried until they are
	dead error // it did not close: nothing more is done with it before the next start
}

// goneLooks is for how many looks a group has to be unwanted before its data are deleted: the configuration that says so may not be
// committed yet, and be taken back by the next leader.
const goneLooks = 10

// first returns the shard numbers to open at the start: those placed here, and those of which something is here. Who begins the groups opens
// all: where others have joined meanwhile, they get theirs from it.
func (c *cluster) first(held []stanza.Group, begin bool) (shards []int) {
	r := c.board.Current()
	for number := range c.cfg.Shards {
		g := groupOf(c.role, number)
		open := begin || slices.Contains(held, g) || c.places(r, g)
		c.held[number] = &holding{open: open}
		if open {
			shards = append(shards, number)
		}
	}
	return shards
}

// places reports whether a replica of g belongs here.
func (c *cluster) places(r *roster.Roster, g stanza.Group) bool {
	var room [roster.MaxVoters]uint64
	return slices.Contains(r.Replicas(room[:0], g), c.node)
}

// place opens the groups that belong here, and removes those of which this node is no replica any more. Who is to hold a group that this
// node still votes in is the leader's to arrange: until then it stays. What fails is tried again at the next look.
func (c *cluster) place(r *roster.Roster, fault func(string, error)) {
	removed := c.removals()
	in := map[stanza.Group]bool{} // open, and this node is in its configuration
	for _, s := range c.host.Status() {
		in[s.Group] = !slices.Contains(removed, s.Group) && slices.ContainsFunc(s.Servers, func(x shard.ServerStatus) bool { return x.Node == nodeName(c.node) })
	}
	for number := range c.cfg.Shards {
		g := groupOf(c.role, number)
		if err := c.placeOne(number, c.places(r, g), in[g]); err != nil {
			fault(g.String(), err)
		}
	}
}

// placeOne takes the steps that are due for one group. wanted: the roster has it here; in: so has its configuration.
func (c *cluster) placeOne(number int, wanted, in bool) error {
	h := c.held[number]
	if h.dead != nil {
		return h.dead
	}
	if !h.open || wanted || in {
		h.gone = 0
	} else {
		h.gone++
	}
	if h.open && h.gone > goneLooks {
		// Its data are not touched while anything of it may run.
		if err := c.groups.CloseGroup(number); err != nil {
			h.dead = fmt.Errorf("the replica does not belong here any more and did not close; it is removed after the next start: %w", err)
			return h.dead
		}
		h.open, h.left, h.gone = false, true, 0
	}
	if h.left {
		// Also when it is wanted again: a part of it may be deleted already.
		if err := c.host.Drop(groupOf(c.role, number)); err != nil {
			return err
		}
		h.left = false
		c.log.Info("replica removed", "group", groupOf(c.role, number).String())
	}
	if wanted && !h.open {
		if err := c.groups.OpenGroup(number); err != nil {
			return err
		}
		h.open = true
		c.log.Info("replica opened", "group", groupOf(c.role, number).String())
	}
	return nil
}
