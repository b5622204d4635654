package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/cockroachdb/pebble"
	"linecard.example/internal/stanza"
)

// drops are the groups that were dropped and may still be in the files.
type drops struct {
	mu    sync.Mutex // held while one is dropped, or washed off
	wash  []stanza.Group
	retry time.Time // not before, after a failure
}

// Stages of a drop, the values of keyDrop.
const (
	dropTables = 1 // the log is deleted, the tables may be there
	dropFiles  = 2 // both are deleted; their bytes may still be in the files
)

// Drop deletes everything of a group of which this node is no replica any more: log, snapshot and tables. Term and vote stay, and how far
// the log went, for the case that the group comes back (HostConfig.Join). The group must be closed. What was deleted leaves the files
// soon afterwards, as in a scrub. A drop that a crash interrupts is completed by the next OpenHost. Safe for concurrent use.
func (h *Host) Drop(g stanza.Group) error {
	if err := h.reserve(g); err != nil {
		return err
	}
	defer h.opened(g, nil)
	return h.unlessFailing(func() error { return h.drop(g) })
}

func (h *Host) drop(g stanza.Group) error {
	h.dropped.mu.Lock()
	defer h.dropped.mu.Unlock()
	upTo, err := h.reachOf(g)
	if err != nil {
		return fmt.Errorf("shard: dropping %s: %w", g, err)
	}
	b := h.log.NewBatch()
	err = b.DeleteRange(logKey(g, 0), groupEnd(keyLog, g), nil)
	for _, kind := range []byte{keySnap, keyReached, keyScrub} {
		err = errors.Join(err, b.Delete(groupStart(kind, g), nil))
	}
	err = errors.Join(err, b.Set(groupStart(keyJoin, g), binary.BigEndian.AppendUint64(nil, upTo), nil),
		b.Set(groupStart(keyDrop, g), []byte{dropTables}, nil))
	if err == nil {
		err = b.Commit(h.writeOptions())
	}
	if err = errors.Join(err, b.Close()); err != nil {
		return fmt.Errorf("shard: dropping %s: %w", g, err)
	}
	return h.dropTables(g)
}

// reachOf returns the index of the last entry that g ever had here.
func (h *Host) reachOf(g stanza.Group) (uint64, error) {
	c := &core{host: h, id: g}
	var err error
	if c.store, err = openLogStore(h.log, g, h.writeOptions()); err != nil {
		return 0, err
	}
	if c.snaps, err = openSnapStore(h.log, g, h.writeOptions()); err != nil {
		return 0, err
	}
	err = c.loadJoin()
	return max(c.store.last, c.snaps.index.Load(), c.store.joinAt), err
}

// dropTables deletes the tables of a group whose log is deleted. Under dropped.mu.
func (h *Host) dropTables(g stanza.Group) error {
	b := h.state.NewBatch()
	err := errors.Join(b.DeleteRange(groupStart(keyTable, g), groupEnd(keyTable, g), nil), b.Delete(groupStart(keyApplied, g), nil))
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err = errors.Join(err, b.Close()); err == nil {
		err = h.flushState()
	}
	if err == nil {
		// Synced, or else the tables that the group has when it comes back could be deleted by a later start.
		err = h.log.Set(groupStart(keyDrop, g), []byte{dropFiles}, h.writeOptions())
	}
	if err != nil {
		return fmt.Errorf("shard: dropping %s: %w", g, err)
	}
	h.dropped.wash = append(h.dropped.wash, g)
	return nil
}

// tidy ends what a crash left half done: states that were being received, groups that were being dropped.
func (h *Host) tidy() error {
	if err := h.cfg.FS.RemoveAll(path.Join(h.cfg.Dir, recvDir)); err != nil {
		return fmt.Errorf("shard: removing what was being received: %w", err)
	}
	it, err := h.log.NewIter(&pebble.IterOptions{LowerBound: []byte{keyDrop}, UpperBound: []byte{keyDrop + 1}})
	if err != nil {
		return h.report("log", fmt.Errorf("shard: reading what was dropped: %w", err))
	}
	var half []stanza.Group
	for ok := it.First(); ok; ok = it.Next() {
		if len(it.Key()) != 3 || len(it.Value()) != 1 {
			return errors.Join(h.report("log", fmt.Errorf("%w: a dropped group", errLogRecord)), it.Close())
		}
		g := stanza.Group(binary.BigEndian.Uint16(it.Key()[1:]))
		if it.Value()[0] == dropTables {
			half = append(half, g)
		} else {
			h.dropped.wash = append(h.dropped.wash, g)
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return h.report("log", fmt.Errorf("shard: reading what was dropped: %w", err))
	}
	for _, g := range half {
		if err := h.dropTables(g); err != nil {
			return err
		}
	}
	return nil
}

// washDropped removes from the files what was dropped. Scrubber goroutine only.
func (h *Host) washDropped() {
	d, now := &h.dropped, h.cfg.Clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if wait := d.retry.Sub(now); len(d.wash) == 0 || wait > 0 && wait <= scrubAgain {
		return
	}
	for ; len(d.wash) > 0; d.wash = d.wash[1:] {
		g := d.wash[0]
		err := h.wash(g)
		if err == nil {
			err = h.log.Delete(groupStart(keyDrop, g), pebble.NoSync) // lost in a crash: it is washed once more
		}
		if errors.Is(err, errClosed) {
			return // the next start goes on
		}
		if err != nil {
			d.retry = now.Add(scrubAgain)
			h.cfg.Logger.Warn("the files still hold what was dropped", "group", g.String(), "error", err)
			return
		}
		h.cfg.Logger.Info("dropped", "group", g.String())
	}
}
