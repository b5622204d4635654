package shard

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble"
)

// reclaimEvery is the least time between two passes of reclaim.
const reclaimEvery = 3 * time.Second

// reclaimer is when space was last given back. Scrubber goroutine only.
type reclaimer struct {
	at      time.Duration // monotonic
	applied uint64        // entries of all groups then
}

// reclaimIfLow gives space back while the disk is below its floor. In the course of things snapshots and compactions come with new
// entries; below the floor those are refused, and what is deleted would keep its space until the next scrub. A pass follows only if
// something was applied since the last one.
func (h *Host) reclaimIfLow() {
	now := h.cfg.Monotonic()
	if !h.StorageFull() || now-h.reclaims.at < reclaimEvery {
		return
	}
	applied := uint64(0)
	for _, s := range h.Status() {
		applied += s.Applied
	}
	if applied == h.reclaims.applied {
		return
	}
	err := h.reclaim()
	h.reclaims.at = h.cfg.Monotonic()
	if err != nil { // the next pass tries again, whether something is applied or not
		h.cfg.Logger.Warn("giving space back failed", "dir", h.cfg.Dir, "error", err)
		return
	}
	h.reclaims.applied = applied
}

// reclaim cuts the log of every group up to a fresh snapshot, and compacts what is deleted then where that is little.
func (h *Host) reclaim() error {
	var errs []error
	for _, g := range h.open() {
		if err := g.reclaim(); !errors.Is(err, errClosed) && !errors.Is(err, errBehind) {
			errs = append(errs, err) // what the others give back counts all the same
		}
	}
	errs = append(errs, h.compactSmall(h.log, []byte{0}, []byte{0xff}))
	for _, s := range h.Status() {
		errs = append(errs, h.compactSmall(h.state, groupStart(keyTable, s.Group), groupEnd(keyTable, s.Group)))
	}
	return errors.Join(errs...)
}

func (c *core) reclaim() error {
	upTo, err := c.coverLog()
	if err != nil || !c.alone() {
		return err // followers may need the log; raft keeps what TrailingLogs says
	}
	return c.cutLog(upTo)
}

// compactSmall compacts a range of keys if there is room for it. Pebble finds out by itself where much is deleted among more than that;
// it does not bother with a few small tables, and on a small disk they are all there is.
func (h *Host) compactSmall(db *pebble.DB, lo, hi []byte) error {
	err := db.Flush()
	if err == nil {
		err = h.roomToCompact(db, lo, hi)
	}
	if errors.Is(err, errNoRoom) {
		return nil
	}
	if err == nil {
		err = db.Compact(lo, hi, false)
	}
	if err != nil {
		return fmt.Errorf("shard: compacting below %s: %w", h.cfg.Dir, err)
	}
	return nil
}

// errNoRoom says that a compaction would need more space than may be used for it.
var errNoRoom = errors.New("shard: too little free space to compact")

// roomToCompact refuses a compaction by hand that would take more than half of the free space: a compaction writes before it removes,
// and one that finds the disk full ends the process.
func (h *Host) roomToCompact(db *pebble.DB, lo, hi []byte) error {
	if h.cfg.Disk == nil {
		return nil
	}
	size, err := db.EstimateDiskUsage(lo, hi)
	if err != nil {
		return err
	}
	if free := h.cfg.Disk.Status().Free; int64(size) > free/2 {
		return fmt.Errorf("%w: %d bytes, %d are free", errNoRoom, size, free)
	}
	return nil
}
