package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/bloom"
	"github.com/cockroachdb/pebble/vfs"
)

// formatVersion is the newest format of the pinned Pebble; its own default is the oldest.
const formatVersion = pebble.FormatNewest

// openTables bounds the table files that a host's two databases hold open together. A gateway in the same process leaves 256
// descriptors for everything that is no client; tables are few and large, and opening one costs little beside reading it.
const openTables = 64

// memTables is how many memtables a database may have. Pebble keeps one WAL more than that for reuse.
const (
	memTables = 4
	walsKept  = memTables + 1
)

func (h *Host) baseOptions(name string, cache *pebble.Cache, tables *pebble.TableCache) *pebble.Options {
	return &pebble.Options{
		FS:                          h.cfg.FS,
		Cache:                       cache,
		FormatMajorVersion:          formatVersion,
		ErrorIfNotExists:            !h.cfg.Bootstrap,
		TableCache:                  tables,
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       40, // entries are truncated or overwritten soon: rather a deep L0 than a stalled commit
		MaxConcurrentCompactions:    func() int { return 1 },
		Logger:                      pebbleLogger{h: h, log: h.cfg.Logger.With("db", name)},
		EventListener:               &pebble.EventListener{BackgroundError: h.backgroundError, FlushEnd: h.flushEnded},
	}
}

func (h *Host) logOptions(cache *pebble.Cache, tables *pebble.TableCache) *pebble.Options {
	o := h.baseOptions("log", cache, tables)
	o.MemTableSize = uint64(h.cfg.LogMemTable)
	h.wals.FS = o.FS
	o.FS = &h.wals
	// A sync that comes at once after another one carries the few packs that arrived during it, and each sync wakes the whole
	// path to the clients. The first one after a pause does not wait.
	o.WALMinSyncInterval = func() time.Duration { return h.cfg.SyncInterval }
	return o
}

func (h *Host) stateOptions(cache *pebble.Cache, tables *pebble.TableCache) *pebble.Options {
	o := h.baseOptions("state", cache, tables)
	o.MemTableSize = uint64(h.cfg.StateMemTable)
	o.DisableWAL = true // the raft log is the WAL
	// A flush is small and spread over all queues, so that a compaction of it rewrites whatever waits in them. Fewer of those are worth looking
	// into more tables.
	o.L0CompactionThreshold = 16
	o.Levels = []pebble.LevelOptions{{FilterPolicy: bloom.FilterPolicy(10), FilterType: pebble.TableFilter}}
	// A received state is durable when Ingest returns. The lazy way keeps it in memory until the next flush, as a part of the WAL that is not.
	o.Experimental.DisableIngestAsFlushable = func() bool { return true }
	return o
}

// backgroundError stops the host: a flush that fails would let the log be truncated only in theory, but nothing says it will
// ever succeed, and an operator must know.
func (h *Host) backgroundError(err error) {
	if errors.Is(err, pebble.ErrCancelledCompaction) {
		return // Pebble retries it by design
	}
	if h.cfg.Disk != nil && errors.Is(err, syscall.ENOSPC) {
		// What it wrote so far is removed, which may be all the room that the rest needs: a compaction that was under way when
		// the disk filled up would else take the ballast and the process with it. It is tried again. A flush has its limit.
		return
	}
	h.Fail(fmt.Errorf("shard: storage below %s: %w", h.cfg.Dir, err))
}

// noSpaceLimit is how long flushes may find no space before the host gives up: memtables fill up, and at last nothing is taken.
const noSpaceLimit = 30 * time.Second

// flushEnded notes whether flushes find space. Any goroutine of Pebble.
func (h *Host) flushEnded(info pebble.FlushInfo) {
	now := int64(h.cfg.Monotonic()) + 1
	switch {
	case info.Err == nil:
		h.noSpace.Store(0)
	case !errors.Is(info.Err, syscall.ENOSPC) || h.noSpace.CompareAndSwap(0, now):
	case time.Duration(now-h.noSpace.Load()) > noSpaceLimit:
		h.Fail(fmt.Errorf("shard: storage below %s: %w; %s", h.cfg.Dir, info.Err, makeRoom))
	}
}

// pebbleLogger passes Pebble's messages on at debug level.
type pebbleLogger struct {
	h   *Host
	log *slog.Logger
}

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(format, args...))
	}
}

// Fatalf implements pebble.Logger. Pebble must not go on behind it, for its caller would take a failed write for a durable one;
// so the goroutine ends its life here and the process is told to exit.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("shard: storage below %s: %s", l.h.cfg.Dir, fmt.Sprintf(format, args...))
	for _, a := range args {
		if cause, ok := a.(error); ok && errors.Is(cause, syscall.ENOSPC) {
			err = noSpaceError{err}
		}
	}
	l.h.Fail(err)
	select {}
}

// noSpaceError is what Pebble called fatal when it found no space.
type noSpaceError struct{ error }

// Error implements error.
func (e noSpaceError) Error() string { return e.error.Error() + "; " + makeRoom }

// Unwrap lets errors.Is find the cause.
func (e noSpaceError) Unwrap() []error { return []error{e.error, syscall.ENOSPC} }

// makeDir creates dir and its missing parents so that they survive a power loss.
func makeDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	}
	parent := path.Dir(dir)
	if parent != dir {
		if err := makeDir(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

// flusher lets callers that want the state database flushed share one flush: a call is served by a flush that starts after it.
type flusher struct {
	flush func() error

	mu      sync.Mutex
	running chan struct{} // closed when the flush in progress ends; nil: none
	next    *flushRun     // collects callers while one runs
}

type flushRun struct {
	done chan struct{}
	err  error
}

func (h *Host) flushState() error { return h.flushes.do() }

func (f *flusher) do() error {
	f.mu.Lock()
	if run := f.next; run != nil { // someone leads the next flush already
		f.mu.Unlock()
		<-run.done
		return run.err
	}
	run := &flushRun{done: make(chan struct{})}
	f.next = run
	for f.running != nil {
		wait := f.running
		f.mu.Unlock()
		<-wait
		f.mu.Lock()
	}
	f.next, f.running = nil, run.done
	f.mu.Unlock()

	run.err = f.flush()

	f.mu.Lock()
	f.running = nil
	f.mu.Unlock()
	close(run.done)
	return run.err
}
