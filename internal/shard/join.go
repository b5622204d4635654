package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// A replica without a log is one of three: its disk was lost, and its votes with it (ErrLost); it was never here; or it was here and was
// dropped, when the group moved to other nodes. The last two begin empty and wait for the leader, and a record says so (keyJoin), since a
// crash may leave them with a term and nothing else.
//
// One that was dropped has acknowledged entries that it has no more. A node that missed everything since may still take it for a voter, and
// with the vote of somebody who forgot win an election that it must not win. So it does not vote until it has again as many entries as it had:
// not for others (watched answers for it), and not for itself. Its log comes to it from the beginning, when it may have been the only voter:
// if the leader were silent for a moment then, it would elect itself, alone, and acknowledge what is lost when the true leader is back. So its
// raft waits for a leader for longer than any process lives.

// loadJoin reads whether the group waits for its first entries.
func (c *core) loadJoin() error {
	v, err := getCopy(c.host.log, groupStart(keyJoin, c.id))
	if err != nil {
		return fmt.Errorf("shard: opening %s: %w", c.id, err)
	}
	if v == nil {
		return nil
	}
	if len(v) != 8 {
		return fmt.Errorf("%w: how %s joins", errLogRecord, c.id)
	}
	c.store.joining, c.store.joinAt = true, binary.BigEndian.Uint64(v)
	return nil
}

// noteJoin records, before raft writes anything, that the group begins here without a log.
func (c *core) noteJoin() error {
	if c.store.joining {
		return nil
	}
	if err := c.host.log.Set(groupStart(keyJoin, c.id), make([]byte, 8), c.host.writeOptions()); err != nil {
		return fmt.Errorf("shard: opening %s: %w", c.id, err)
	}
	c.store.joining = true
	return nil
}

// joins reports whether the group has joined when it has everything up to index, and had not before.
func (s *logStore) joins(index uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joining && index >= s.joinAt
}

// forgetful reports whether the group was here before and knows less than then.
func (s *logStore) forgetful() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joining && s.joinAt > 0
}

// cutTo follows a batch that deleted everything up to index, and the record of joining with it if joined is set.
func (s *logStore) cutTo(index uint64, joined bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joining = s.joining && !joined
	if s.last == 0 {
		return nil
	}
	s.block.forget(0, index)
	s.tail.forget(0, index)
	if index >= s.last {
		s.first, s.last = 0, 0
		return nil
	}
	s.first = max(s.first, index+1)
	return s.skipGap()
}

// patience is the heartbeat timeout of a raft that shall not stand for elections.
const patience = 10 * 365 * 24 * time.Hour

// endPatience lets raft stand for elections when the group has what it had. Each turn.
func (g *Group[C, R]) endPatience() {
	if !g.started || !g.patient || g.store.forgetful() {
		return
	}
	g.patient = false
	rc := g.raft.ReloadableConfig()
	rc.HeartbeatTimeout, rc.ElectionTimeout = g.host.cfg.Heartbeat, g.host.cfg.Heartbeat
	if err := g.raft.ReloadConfig(rc); err != nil {
		g.stopGroup(fmt.Errorf("shard: %s cannot take part in elections: %w", g.id, err)) // a mistake in this package
	}
}

// errForgetful refuses a leadership that is handed to a replica which must not vote for itself.
var errForgetful = errors.New("shard: the replica was dropped and does not have again what it had")
