package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
)

// Groups come with New, and later by OpenGroup and CloseGroup, as the cluster's placement has it.

// openGroups opens all groups of Deps at once: each reads its log.
func (r *Router) openGroups() error {
	all := make([]*hosted, len(r.deps.Groups))
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, n := range r.deps.Groups {
		wg.Go(func() { all[i], errs[i] = r.openGroup(n) })
	}
	wg.Wait()
	if err := shard.Brief(errs); err != nil {
		return errors.Join(err, closeAll(slices.DeleteFunc(all, func(h *hosted) bool { return h == nil })))
	}
	for _, h := range all {
		r.take(h)
	}
	return nil
}

// OpenGroup opens the group dir/n, which is not open here, and waits until it has read its log. Safe for concurrent use.
func (r *Router) OpenGroup(n int) error {
	if n < 0 || n >= r.deps.Shards {
		return fmt.Errorf("router: group %d: want a shard number below %d", n, r.deps.Shards)
	}
	h, err := r.openGroup(n)
	if err != nil {
		return err
	}
	r.take(h)
	return nil
}

func (r *Router) openGroup(n int) (*hosted, error) {
	m := newDirShard(r.cfg, n, r.deps.Shards, r.deps.Cluster, r.deps.Clock(), r.log, r.metrics)
	m.board = r.deps.Board
	m.region, m.directory.region, m.regions = r.deps.Region, r.deps.Region, r.deps.Regions
	m.directory.fail = func(err error) {
		if errors.Is(err, errFacts) { // the configuration is wrong: so it is for every group
			r.deps.Host.Fail(m.errGroup("apply", err))
			return
		}
		r.deps.Host.StopGroup(m.id, m.errGroup("read", err))
	}
	g, err := shard.Open(r.deps.Host, m.id, m)
	if err != nil {
		return nil, m.errGroup("open", err)
	}
	h := &hosted{number: n, shard: m, group: g, inbox: link.NewInbox(g.Wake)}
	// The group runs already; from here on it knows where its envelopes come from.
	if err := g.Call(context.Background(), func() { m.start(g, h.inbox, r.endpoint.Flush) }); err != nil {
		return nil, errors.Join(m.errGroup("start", err), g.Close())
	}
	return h, nil
}

// take gives a group the streams that are up, and envelopes from then on.
func (r *Router) take(h *hosted) {
	r.mu.Lock()
	for s, reach := range r.streams {
		h.shard.events.up(s, s.Peer())
		if reach != 0 {
			h.inbox.Push(s, link.Envelope{Kind: link.KindRegions, ID: reach})
		}
	}
	if last := r.heard.of(h.number); last.from != nil {
		h.inbox.Push(last.from, link.Envelope{Kind: link.KindHello, Group: h.shard.queue, Term: last.term})
	}
	r.hosted = append(slices.Clip(r.hosted), h)
	r.byShard = slices.Clone(r.byShard)
	r.byShard[h.number] = h
	r.mu.Unlock()
	h.group.Wake()
}

// CloseGroup closes the group dir/n; what comes for it from now on, and what waited, is answered as by a process that never had it. A
// group that is not open is closed. Safe for concurrent use.
func (r *Router) CloseGroup(n int) error {
	r.mu.Lock()
	i := slices.IndexFunc(r.hosted, func(h *hosted) bool { return h.number == n })
	if i < 0 {
		r.mu.Unlock()
		return nil
	}
	h := r.hosted[i]
	r.hosted = slices.Delete(slices.Clone(r.hosted), i, i+1)
	r.byShard = slices.Clone(r.byShard)
	r.byShard[n] = nil
	r.mu.Unlock()
	err := closeAll([]*hosted{h})
	h.shard.metrics.drop(h.shard.name)
	items := h.inbox.Drain() // its owner, the shard goroutine, has ended
	for i := range items {
		if e := &items[i].Env; items[i].From != nil && wantsAnswer(e.Kind) {
			_ = items[i].From.Send(notLeader(e.Group, 0, e)) // as in notHosted
		}
	}
	h.inbox.Done(items)
	return err
}

func closeAll(groups []*hosted) error {
	var errs []error
	for _, h := range groups {
		if err := h.group.Close(); err != nil {
			errs = append(errs, h.shard.errGroup("close", err))
		}
	}
	return errors.Join(errs...)
}

// groups returns the groups that are open.
func (r *Router) groups() []*hosted {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.hosted
}

// Up takes in a stream. It is called by the link.
func (r *Router) Up(s *link.Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[s] = 0
	for _, h := range r.hosted {
		if h.shard.events.up(s, s.Peer()) {
			h.group.Wake()
		}
	}
}

// regions notes what a border reaches, for groups that are here and those that come.
func (r *Router) regions(s *link.Stream, e *link.Envelope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, up := r.streams[s]; !up || s.Peer().Role != link.RoleBorder {
		return
	}
	r.streams[s] = e.ID
	for _, h := range r.hosted {
		h.inbox.Push(s, *e)
	}
}

// Down notes the end of a stream. It is called by the link.
func (r *Router) Down(s *link.Stream, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, s)
	r.heard.down(s)
	for _, h := range r.hosted {
		if h.shard.events.down(s) {
			h.group.Wake()
		}
	}
}

// notHosted answers for groups that have no replica here.
func (r *Router) notHosted(s *link.Stream, batch []link.Envelope) {
	size := 0
	for i := range batch {
		e := &batch[i]
		size += e.Size()
		if !wantsAnswer(e.Kind) {
			continue
		}
		// An answer without credit is lost like any other; the client asks again.
		_ = s.Send(notLeader(e.Group, 0, e))
	}
	s.Done(batch[0].Group, size)
}

// leadingShards returns the groups that this process leads, by shard number.
func (r *Router) leadingShards() map[int]*hosted {
	led := map[int]*hosted{}
	for _, h := range r.groups() {
		if _, ok := h.group.Leading(); ok {
			led[h.number] = h
		}
	}
	return led
}
