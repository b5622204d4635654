package shard

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

// walFS is the file system of the log database. Pebble keeps used WALs and writes over them, which makes a synced append a third
// cheaper (the file has its blocks already); but what it has not written over stays readable for ever. So reuse goes on, and a scrub
// turns it off while it has Pebble go through all WALs that it keeps.
type walFS struct {
	vfs.FS
	fresh atomic.Bool // do not reuse
}

// ReuseForWrite implements vfs.FS, which allows to remove the old file instead.
func (f *walFS) ReuseForWrite(oldname, newname string) (vfs.File, error) {
	if !f.fresh.Load() {
		return f.FS.ReuseForWrite(oldname, newname)
	}
	if err := f.FS.Remove(oldname); err != nil {
		return nil, err
	}
	return f.FS.Create(newname)
}

// errSending puts a wash off: while a state is read for another replica, of whichever group, compactions keep what it may still come to.
var errSending = errors.New("a state is being sent to another replica")

// wash removes from the files of both databases what was deleted of a group: WALs turned over, tables compacted, and the files that
// fell out of use gone, durably.
func (h *Host) wash(g stanza.Group) error {
	if h.sending.Load() > 0 {
		return fmt.Errorf("shard: scrubbing %s: %w", g, errSending)
	}
	h.files.Lock()
	defer h.files.Unlock()
	err := h.turnWALs()
	if err == nil {
		err = h.compactAway(h.log, "log", groupStart(keyLog, g), groupEnd(keyLog, g))
	}
	if err == nil {
		err = h.compactAway(h.state, "state", groupStart(keyTable, g), groupEnd(keyTable, g))
	}
	if err != nil {
		return fmt.Errorf("shard: scrubbing %s: %w", g, err)
	}
	return nil
}

// turnWALs replaces every WAL that there is. Pebble keeps a few of them for reuse: each flush takes one of these, the oldest first.
func (h *Host) turnWALs() error {
	h.wals.fresh.Store(true)
	defer h.wals.fresh.Store(false)
	dir := path.Join(h.cfg.Dir, "log")
	old, err := h.list(dir, ".log")
	if err != nil {
		return err
	}
	for range 4 * walsKept {
		if err := h.log.Flush(); err != nil {
			return err
		}
		if old, err = h.remaining(dir, ".log", old); err != nil {
			return err
		}
		if len(old) == 0 {
			return nil // their removal is made durable by compactAway
		}
	}
	return fmt.Errorf("%d WALs, such as %s, do not go", len(old), old[0])
}

// compactAway compacts a range of keys, so that nothing deleted is left under them, and waits until the replaced tables are gone.
// What is compacted already costs nothing.
func (h *Host) compactAway(db *pebble.DB, name string, lo, hi []byte) error {
	dir := path.Join(h.cfg.Dir, name)
	before, err := h.list(dir, ".sst")
	if err != nil {
		return err
	}
	if err := h.roomToCompact(db, lo, hi); err != nil {
		return err
	}
	if err := db.Compact(lo, hi, false); err != nil {
		return err
	}
	levels, err := db.SSTables()
	if err != nil {
		return err
	}
	live := map[string]bool{}
	for _, tables := range levels {
		for _, t := range tables {
			live[fmt.Sprintf("%06d.sst", uint64(t.FileNum))] = true
		}
	}
	dead := slices.DeleteFunc(before, func(name string) bool { return live[name] })
	if err := h.awaitGone(dir, dead); err != nil {
		return err
	}
	return syncDir(h.cfg.FS, dir)
}

// goneLimit bounds the wait for Pebble to remove what it does not need; an iterator may be holding on to it.
const goneLimit = 30 * time.Second

func (h *Host) awaitGone(dir string, names []string) (err error) {
	limit := time.NewTimer(goneLimit)
	defer limit.Stop()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if names, err = h.remaining(dir, ".sst", names); err != nil || len(names) == 0 {
			return err
		}
		select { // Pebble removes them on a goroutine of its own
		case <-time.After(pause):
		case <-limit.C:
			return fmt.Errorf("%d tables, such as %s, are still there after %v", len(names), names[0], goneLimit)
		case <-h.closing:
			return errClosed // Close waits for this
		case <-h.failing:
			return errClosed
		}
	}
}

func (h *Host) list(dir, suffix string) ([]string, error) {
	names, err := h.cfg.FS.List(dir)
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, suffix) }), err
}

// remaining returns those of the names that are still there.
func (h *Host) remaining(dir, suffix string, names []string) ([]string, error) {
	now, err := h.list(dir, suffix)
	return slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(now, n) }), err
}

// syncDir makes what was created in a directory, and what was removed from it, durable.
func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
