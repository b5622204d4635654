package shard

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// How a received state replaces the one that is here. Two databases change, and a crash must leave the old state or the new one:
//
//  1. The stream becomes tables in files of their own. A crash leaves files that the next start removes.
//  2. Pebble takes all of them in with one change of its manifest, synced: the group's old range is deleted, the new one is there, and the
//     record of the applied index carries the snapshot's metadata. Here the new state begins.
//  3. The metadata go to the log database, in one synced batch that also deletes the log up to the snapshot, so that no gap ever stands
//     in it. A start that finds metadata in the tables newer than those in the log does this step again; everything that it needs is there.
//
// Rejected: metadata first with the intent to take in the files (they may be damaged or gone at the next start), and a copy of the tables
// in the log database (twice the writing).

// errOldSnapshot refuses a snapshot that raft is past. To take it would have raft apply again what the log may not hold any more. What is here
// is not even brought to raft (watched): this is for what changes between.
var errOldSnapshot = errors.New("shard: the snapshot is older than what was applied")

// restoreReq asks the shard goroutine to take in a received snapshot.
type restoreReq struct {
	p    *receipt
	done chan error
}

// restore replaces the group's state, if that is older. Shard goroutine only.
func (g *Group[C, R]) restore(p *receipt) error {
	if g.broken || g.halted() {
		return errClosed
	}
	g.leads = false
	g.unlead() // raft follows by now, and will say so when it has done this
	if g.at >= p.meta.Index {
		return g.adopt(p)
	}
	if err := g.host.state.Ingest(p.recv.files); err != nil {
		return fmt.Errorf("shard: taking in the state of %s: %w", g.id, err)
	}
	if err := g.noteInstall(p.meta, p.recv.applied); err != nil {
		g.host.Fail(err)
		g.stop()
		return err
	}
	if err := g.m.Load(g.tables, p.recv.applied); err != nil {
		err = fmt.Errorf("shard: loading %s: %w", g.id, err)
		g.stopGroup(err)
		g.stop()
		return err
	}
	g.at, g.flushed, g.lastStamp = p.recv.applied, p.recv.applied, p.recv.stamp
	g.logBytes, g.logCount = 0, 0
	g.metrics.streamReceived.Inc()
	g.log.Info("state received", "snapshot", p.meta.Index, "applied", g.at, "records", p.recv.count)
	return nil
}

// adopt takes the metadata alone of a snapshot below what is applied here, which a state that came from further up may be: the tables
// are made as new as the metadata, as for a snapshot of our own.
func (g *Group[C, R]) adopt(p *receipt) error {
	if p.meta.Index <= g.snaps.index.Load() {
		return nil
	}
	if err := g.flush(p.meta.Index); err != nil {
		return err
	}
	if err := g.host.flushState(); err != nil {
		return err
	}
	return g.noteInstall(p.meta, 0)
}

// noteInstall makes m the newest snapshot and deletes the log up to it, durably and at once. What stands behind it in the log stays: raft
// compares it with what the leader has. reached is how far the tables are complete; 0: no further than the log.
func (c *core) noteInstall(m raft.SnapshotMeta, reached uint64) error {
	b := c.host.log.NewBatch()
	err := b.DeleteRange(logKey(c.id, 0), logKey(c.id, m.Index+1), nil)
	if reached != 0 {
		err = errors.Join(err, b.Set(groupStart(keyReached, c.id), binary.BigEndian.AppendUint64(nil, reached), nil))
	}
	joined := c.store.joins(m.Index)
	if joined {
		err = errors.Join(err, b.Delete(groupStart(keyJoin, c.id), nil))
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if err := c.snaps.put(m, b); err != nil {
		return err
	}
	c.snaps.reach(reached)
	return c.store.cutTo(m.Index, joined)
}

func (s *snapStore) reach(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached = max(s.reached, index)
}

// finishInstall does the last step of an install that a crash interrupted.
func (c *core) finishInstall() error {
	v, err := getCopy(c.host.state, groupStart(keyApplied, c.id))
	if err != nil || v == nil {
		return err
	}
	applied, _, meta, err := decodeApplied(v, c.id)
	if err != nil || len(meta) == 0 {
		return err
	}
	var m raft.SnapshotMeta
	if err := json.Unmarshal(meta, &m); err != nil {
		return fmt.Errorf("shard: metadata of the received state of %s: %w", c.id, err)
	}
	if m.Index <= c.snaps.index.Load() {
		return nil
	}
	c.log.Info("received state completed", "snapshot", m.Index, "applied", applied)
	return c.noteInstall(m, applied)
}
