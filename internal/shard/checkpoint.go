package shard

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/stanza"
)

// checkpointDir, below HostConfig.Dir, holds a checkpoint until it was copied away.
const checkpointDir = "checkpoint"

var (
	// ErrLowDisk says that there is no room for a checkpoint: what it holds on to cannot be given back meanwhile.
	ErrLowDisk = errors.New("shard: the disk is below its free-space floor")
	// ErrCheckpoint says that there is a checkpoint already.
	ErrCheckpoint = errors.New("shard: there is a checkpoint already")
)

// Checkpoint makes a copy of both databases as of one moment, in a directory beside them, which it returns; tables are links, so it costs
// the logs that are not in tables yet. It is what a crash at that moment would leave: everything that was committed before the call is
// in it. last is the end of each open group's log at the call, which the copy must reach. It holds on to what is deleted from now on,
// until DropCheckpoint. The groups serve on; their snapshots wait for it. Safe for concurrent use, one at a time.
func (h *Host) Checkpoint() (dir string, last map[stanza.Group]uint64, err error) {
	h.dropped.mu.Lock() // no group is dropped meanwhile: it would be in one copy and not in the other
	defer h.dropped.mu.Unlock()
	h.files.Lock()
	defer h.files.Unlock()
	switch {
	case h.checkpoint:
		return "", nil, ErrCheckpoint
	case h.down.Load() || h.isClosed():
		return "", nil, errClosed
	case h.cfg.Disk.Low():
		return "", nil, ErrLowDisk
	}
	last = map[stanza.Group]uint64{}
	for _, s := range h.Status() {
		last[s.Group] = s.Last
	}
	dir = path.Join(h.cfg.Dir, checkpointDir)
	if err := h.unlessFailing(func() error { return h.copyDatabases(dir) }); err != nil {
		return "", nil, errors.Join(fmt.Errorf("shard: checkpoint: %w", err), h.cfg.FS.RemoveAll(dir))
	}
	h.checkpoint = true
	return dir, last, nil
}

// copyDatabases makes the two copies, state first: the tables of a copy may be older than its log, but not older than the snapshot in
// it, and never newer than the log's end. So no snapshot becomes durable between the two.
func (h *Host) copyDatabases(dir string) error {
	if err := errors.Join(h.cfg.FS.RemoveAll(dir), makeDir(h.cfg.FS, dir)); err != nil {
		return err
	}
	h.still.Lock()
	err := h.state.Checkpoint(path.Join(dir, "state"))
	if err == nil {
		err = h.log.Checkpoint(path.Join(dir, "log"), pebble.WithFlushedWAL())
	}
	h.still.Unlock()
	if err != nil {
		return err
	}
	logDir := path.Join(dir, "log")
	names, err := h.list(logDir, ".log")
	for _, name := range names {
		err = errors.Join(err, clipWAL(h.cfg.FS, path.Join(logDir, name)))
	}
	return errors.Join(err, syncDir(h.cfg.FS, logDir))
}

// DropCheckpoint removes the checkpoint; there need be none.
func (h *Host) DropCheckpoint() error {
	h.files.Lock()
	defer h.files.Unlock()
	h.checkpoint = false
	if err := h.cfg.FS.RemoveAll(path.Join(h.cfg.Dir, checkpointDir)); err != nil {
		return fmt.Errorf("shard: removing the checkpoint: %w", err)
	}
	return nil
}

func (h *Host) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// clipWAL cuts a copied WAL where it first does not go on. It was written while it was copied, so that behind its last record there may
// be records with a hole before them, which looks like damage; and there may be what the file held before Pebble wrote over it, which
// was deleted. Nothing that was committed before the copy began is behind a hole: a WAL is written from the front. Real damage would be
// cut off as well: who copies compares the ends of the logs.
func clipWAL(fs vfs.FS, file string) error {
	number, err := strconv.ParseUint(strings.TrimSuffix(path.Base(file), ".log"), 10, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	b, err := readAll(fs, file)
	if err != nil {
		return err
	}
	end := 0
	chunks(b, uint32(number), func(offset int, _ byte, payload []byte, gaps int) {
		if gaps == 0 {
			end = offset + chunkRecycle + len(payload)
		}
	})
	if end == len(b) {
		return nil
	}
	if err := writeWhole(fs, file+".cut", b[:end]); err != nil {
		return err
	}
	return fs.Rename(file+".cut", file)
}

func writeWhole(fs vfs.FS, file string, b []byte) error {
	f, err := fs.Create(file)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
