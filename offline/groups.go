package offline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// Groups come with New, and later by OpenGroup and CloseGroup, as the cluster's placement has it.

// newServed returns a group that is not open.
func (o *Offline) newServed(id stanza.Group) *served {
	stop := func(err error) { o.deps.Host.StopGroup(id, err) }
	return &served{group: newGroup(o.cfg, id, o.deps.Shards, o.deps.Region, o.peers, o.count, o.log.With("group", id.String()), stop)}
}

// open opens all groups of Deps side by side: each reads its whole log.
func (o *Offline) open() error { return o.each(o.openGroup) }

func (o *Offline) openGroup(s *served) error {
	g, err := shard.Open(o.deps.Host, s.id, s.group)
	if err != nil {
		return fmt.Errorf("offline: opening %s: %w", s.id, err)
	}
	s.raft = g
	return g.Call(context.Background(), func() { s.bind(g, o.ep.Flush) })
}

// OpenGroup opens the group queue/n, which is not open here, and waits until it has read its log. Safe for concurrent use.
func (o *Offline) OpenGroup(n int) error {
	if n < 0 || n >= o.deps.Shards {
		return fmt.Errorf("offline: shard %d of %d", n, o.deps.Shards)
	}
	s := o.newServed(stanza.QueueGroup(n))
	if !o.expect(s) {
		return fmt.Errorf("offline: %s is open already", s.id)
	}
	if err := o.openGroup(s); err != nil {
		if s.raft != nil {
			err = errors.Join(err, s.raft.Close())
		}
		o.forget(s)
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.order = append(slices.Clip(o.order), s)
	return nil
}

// expect lets envelopes and streams for a group that is not open yet wait in its inbox: it may lead, and say so, before its opening has
// returned. false: it is there already.
func (o *Offline) expect(s *served) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.groups[s.id] != nil {
		return false
	}
	o.groups = maps.Clone(o.groups)
	o.groups[s.id] = s
	return true
}

// forget takes away a group that has ended, and answers what waits in its inbox.
func (o *Offline) forget(s *served) {
	o.mu.Lock()
	o.groups = maps.Clone(o.groups)
	delete(o.groups, s.id)
	o.mu.Unlock()
	o.count.drop(s.id)
	items := s.inbox.Drain() // its owner, the shard goroutine, has ended
	for i := range items {
		s.notLeader(&items[i])
	}
	s.inbox.Done(items)
}

// CloseGroup closes the group queue/n; what comes for it from now on, and what waited, is answered as by a process that never had it. A
// group that is not open is closed. Safe for concurrent use.
func (o *Offline) CloseGroup(n int) error {
	id := stanza.QueueGroup(n)
	o.mu.Lock()
	i := slices.IndexFunc(o.order, func(s *served) bool { return s.id == id })
	if i < 0 {
		o.mu.Unlock()
		return nil
	}
	s := o.order[i]
	o.order = slices.Delete(slices.Clone(o.order), i, i+1)
	o.mu.Unlock()
	err := s.raft.Close()
	o.forget(s)
	if err != nil {
		return fmt.Errorf("offline: closing %s: %w", id, err)
	}
	return nil
}

func (o *Offline) close() error {
	return o.each(func(s *served) error {
		if s.raft == nil {
			return nil
		}
		return s.raft.Close()
	})
}

// each runs f for all groups at once and joins the errors.
func (o *Offline) each(f func(*served) error) error {
	all := o.served()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() { errs[i] = f(s) })
	}
	wg.Wait()
	return shard.Brief(errs)
}

// served returns the groups that are open.
func (o *Offline) served() []*served {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.order
}
