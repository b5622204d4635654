package shard

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

const (
	lookEvery  = time.Second     // pause between two looks of a leader at its group's configuration
	lookFirst  = 2 * time.Second // after the leadership began: the peers have answered, and a newer roster has come
	stepLimit  = 5 * time.Second // for raft to begin a change
	askLimit   = 2 * time.Second // for a peer to say how far it is
	maxBackoff = 30 * time.Second

	// nearEntries is what a replica may lack to be promoted or to be handed the leadership: less than a second's worth of a busy group,
	// and more than what is on its way to it at any moment.
	nearEntries = 256
)

// PeerStatus is how far another replica of a group is.
type PeerStatus struct {
	Applied uint64 // index of the last entry applied
	Stopped bool   // the replica stopped itself because of damage
	Low     bool   // its disk is below its floor
	Behind  bool   // it must not vote: it was dropped once, and does not have again what it had
}

// Want tells the host which nodes shall be the voters of each group, by node id, the preferred leader first; nil: those that are. Where this
// process leads a group, it changes the group's raft configuration step by step until it is so, and then sees to it that the
// preferred node leads. f also holds for groups that are opened later, and is called once for each; call Want again when
// the answers change. f must not call the host. Safe for concurrent use.
func (h *Host) Want(f func(stanza.Group) []string) {
	h.mu.Lock()
	h.wanted = f
	h.mu.Unlock()
	for _, g := range h.open() {
		g.want(f)
	}
}

// want passes the wish on to the shard goroutine.
func (c *core) want(f func(stanza.Group) []string) {
	ids := slices.Clone(f(c.id))
	c.post(func(m *mail) { m.want, m.wants = ids, true })
}

// reconciler is what a group's leader knows of the way from the configuration it has to the one it shall have. Shard goroutine only.
type reconciler struct {
	want    []string
	next    time.Duration // not before
	began   time.Duration // when the leadership did
	busy    bool          // a step is under way
	step    step          // the right one at the last look
	since   time.Duration // since when it has been
	backoff time.Duration // after the last failure
}

// start begins anew with a leadership.
func (r *reconciler) start(now time.Duration) {
	r.step, r.backoff, r.began, r.next = step{}, 0, now, now+lookFirst
}

// stepped is the end of a step.
type stepped struct {
	step step
	err  error
}

// wish sets what the group shall have.
func (g *Group[C, R]) wish(ids []string) {
	if slices.Equal(g.rec.want, ids) {
		return
	}
	g.rec.want, g.rec.backoff = ids, 0
	g.rec.next = min(g.rec.next, g.host.cfg.Monotonic()+lookEvery)
	g.log.Debug("wanted voters", "nodes", ids)
}

// reconcile takes the next step if one is due. It is called every tick.
func (g *Group[C, R]) reconcile() {
	r, now := &g.rec, g.host.cfg.Monotonic()
	g.watchDisk(now)
	if g.known == nil || g.led == 0 || g.closing || r.busy || g.handing.at != handIdle || now < r.next {
		return
	}
	r.next = now + lookEvery
	v := g.view(now)
	g.watchPeers(v)
	s := plan(v)
	if s != r.step {
		r.step, r.since = s, now
		g.waits.Store(&s.why)
	}
	switch {
	case s.do == rest || now-r.since < s.wait:
	case s.do == handOver:
		g.handTo(s.node, nil)
	default:
		r.busy = true
		g.wg.Go(func() {
			err := g.change(s)
			g.post(func(m *mail) { m.stepped = append(m.stepped, stepped{s, err}) })
		})
	}
}

// tookStep notes the end of a step. After a success the next one may follow at once.
func (g *Group[C, R]) tookStep(d stepped) {
	r := &g.rec
	if d.step.do == handOver {
		g.handedOver(d.err)
	} else {
		r.busy = false
	}
	if d.err == nil {
		r.backoff, r.next = 0, 0
		return
	}
	r.backoff = min(max(2*r.backoff, lookEvery), maxBackoff)
	r.next = g.host.cfg.Monotonic() + r.backoff
	r.step = step{} // what was right has to be so for its time again
}

// change makes one change of raft's configuration and waits until it is committed.
func (c *core) change(s step) error {
	id, addr := raft.ServerID(s.node), raft.ServerAddress(s.node)
	begun := c.host.cfg.Monotonic()
	var f raft.Future
	switch s.do {
	case addStandby:
		f = c.raft.AddNonvoter(id, addr, 0, stepLimit)
	case promote:
		if err := c.caughtUp(s.node, false); err != nil {
			c.log.Debug("not promoted", "node", s.node, "error", err)
			return err
		}
		f = c.raft.AddVoter(id, addr, 0, stepLimit)
	case remove:
		f = c.raft.RemoveServer(id, 0, stepLimit)
	default:
		return fmt.Errorf("shard: %s is no change of a configuration", s.do)
	}
	if err := f.Error(); err != nil {
		c.metrics.changeFailed.Inc()
		c.log.Warn("configuration not changed", "change", s.do.String(), "node", s.node, "error", err)
		return err
	}
	c.metrics.changeOK.Inc()
	c.log.Info("configuration changed", "change", s.do.String(), "node", s.node, "took", c.host.cfg.Monotonic()-begun)
	return nil
}

// caughtUp asks a replica how far it is, where that can be asked: what is in its log may still have to be applied. One that is to lead also
// needs room on its disk.
func (c *core) caughtUp(node string, lead bool) error {
	ask := c.host.cfg.AskPeer
	if ask == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	at := c.appliedAt.Load()
	st, err := ask(ctx, node, c.id)
	switch {
	case err != nil:
		return fmt.Errorf("shard: asking %s about %s: %w", node, c.id, err)
	case st.Stopped:
		return fmt.Errorf("shard: %s is stopped at %s", c.id, node)
	case st.Behind: // as a voter it would be one that answers nobody
		return fmt.Errorf("shard: %s has not got again what it had of %s", node, c.id)
	case lead && st.Low:
		return errLowHeir
	case st.Applied+nearEntries < at:
		return fmt.Errorf("shard: %s has applied %s to %d, the leader to %d", node, c.id, st.Applied, at)
	}
	return nil
}
