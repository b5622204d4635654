package shard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble"
	"linecard.example/internal/stanza"
)

// keyNode in the log database holds the node id that bootstrapped it.
const keyNode = "Hnode"

// ErrLost says that durable raft state is missing under a node id that has been used: its disk was lost, emptied or exchanged.
var ErrLost = errors.New("shard: raft state is missing under an existing node id")

// Host holds the databases that the groups of one daemon process share. Safe for concurrent use.
type Host struct {
	cfg     HostConfig
	log     *pebble.DB // raft entries, terms and snapshot metadata of all groups; synced
	state   *pebble.DB // tables and applied indexes of all groups; no WAL
	wals    walFS      // of log
	metrics *metricVecs

	failOnce sync.Once
	failed   chan error    // gets the first fatal error
	failing  chan struct{} // closed with it
	why      error         // set before it is closed
	down     atomic.Bool   // set before it is closed

	mu      sync.Mutex
	groups  map[stanza.Group]hosted     // nil: being opened
	wanted  func(stanza.Group) []string // see Want; nil: nobody said
	cores   map[stanza.Group]*core      // of the groups whose goroutines run, closed ones that do not end included
	closed  bool
	opening sync.WaitGroup

	flushes flusher

	receipts atomic.Uint64 // numbers what is received
	sending  atomic.Int64  // states being read for other replicas
	dropped  drops

	still      sync.RWMutex // held for reading while a snapshot becomes durable, for writing while both databases are copied
	files      sync.Mutex   // held while it matters which files there are: a scrub washes, a checkpoint is made or dropped
	checkpoint bool         // there is one; guarded by files

	reclaims reclaimer
	noSpace  atomic.Int64 // since when flushes find no space, monotonic; 0: they do

	closing  chan struct{} // closed when Close begins
	scrubbed chan struct{} // closed when the scrubber has ended
}

// hosted is what the host does with a group of any machine.
type hosted interface {
	status() GroupStatus
	scrubIfDue() time.Time
	reclaim() error
	want(func(stanza.Group) []string)
	handAway(context.Context) error
	hash(context.Context) (GroupHash, error)
	Close() error
}

// OpenHost opens the databases below cfg.Dir, creating them only if cfg.Bootstrap is set.
func OpenHost(cfg HostConfig) (*Host, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, failed: make(chan error, 1), failing: make(chan struct{}), groups: map[stanza.Group]hosted{}, cores: map[stanza.Group]*core{},
		closing: make(chan struct{}), scrubbed: make(chan struct{})}
	if h.metrics, err = newMetricVecs(cfg.Registerer); err != nil {
		return nil, err
	}
	if err := h.unlessFailing(h.openDatabases); err != nil {
		return nil, err
	}
	if err := h.unlessFailing(h.checkNode); err != nil {
		if !h.down.Load() {
			err = errors.Join(err, h.log.Close(), h.state.Close())
		}
		return nil, err
	}
	h.flushes.flush = h.state.Flush
	if err := h.unlessFailing(h.tidy); err != nil {
		if !h.down.Load() {
			err = errors.Join(err, h.log.Close(), h.state.Close())
		}
		return nil, err
	}
	if cfg.Network != nil {
		if err := cfg.Network.attach(h); err != nil {
			return nil, errors.Join(err, h.log.Close(), h.state.Close())
		}
	}
	go h.scrubLoop()
	return h, nil
}

// unlessFailing runs f. What Pebble calls fatal stops the goroutine that meets it for ever, so that f is left behind then: a start on a
// full disk is to end with the reason.
func (h *Host) unlessFailing(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-h.failing:
		return h.why
	}
}

func (h *Host) openDatabases() (err error) {
	logDir, stateDir := path.Join(h.cfg.Dir, "log"), path.Join(h.cfg.Dir, "state")
	if h.cfg.Bootstrap {
		if err := errors.Join(makeDir(h.cfg.FS, logDir), makeDir(h.cfg.FS, stateDir)); err != nil {
			return fmt.Errorf("shard: creating %s: %w", h.cfg.Dir, err)
		}
	} else if _, err := h.cfg.FS.Stat(logDir); err != nil {
		return fmt.Errorf("%w: node %s has no %s (%w); restore it, or remove the node from the cluster and its data directory, to start anew",
			ErrLost, h.cfg.NodeID, logDir, err)
	}
	cache := pebble.NewCache(h.cfg.Cache)
	defer cache.Unref() // the databases hold it
	tables := pebble.NewTableCache(cache, 4, openTables)
	defer func() { err = errors.Join(err, tables.Unref()) }()
	if err := errors.Join(h.checkManifest(logDir), h.checkManifest(stateDir), h.checkWALs(logDir)); err != nil {
		return err
	}
	if h.log, err = openPebble(logDir, h.logOptions(cache, tables)); err != nil {
		return h.openError("log", err)
	}
	if h.state, err = openPebble(stateDir, h.stateOptions(cache, tables)); err != nil {
		return errors.Join(h.openError("state", err), h.log.Close())
	}
	if err := h.DropCheckpoint(); err != nil { // of a process that ended before it was copied; the databases' locks are ours now
		return errors.Join(err, h.state.Close(), h.log.Close())
	}
	return nil
}

// checkNode ties the log database to the node id.
func (h *Host) checkNode() error {
	v, err := getCopy(h.log, []byte(keyNode))
	switch {
	case err != nil:
		return h.report("log", fmt.Errorf("shard: reading the node id: %w", err))
	case v == nil && !h.cfg.Bootstrap:
		return h.report("log", fmt.Errorf("%w: the log below %s is empty, node %s is not", ErrLost, h.cfg.Dir, h.cfg.NodeID))
	case v == nil:
		if err := h.log.Set([]byte(keyNode), []byte(h.cfg.NodeID), h.writeOptions()); err != nil {
			return fmt.Errorf("shard: writing the node id: %w", err)
		}
	case string(v) != h.cfg.NodeID:
		return fmt.Errorf("shard: the log below %s belongs to node %s, this is node %s; if the node file beside it is damaged, write the former into it",
			h.cfg.Dir, v, h.cfg.NodeID)
	}
	return nil
}

func (h *Host) writeOptions() *pebble.WriteOptions {
	if h.cfg.NoSync {
		return pebble.NoSync
	}
	return pebble.Sync
}

// Failed delivers the first fatal error of the host (disk, corruption), once. From then on no group accepts, applies or
// acknowledges anything; the process should report the error and exit, since a database may be stuck.
func (h *Host) Failed() <-chan error { return h.failed }

// Fail stops the host with err, as a failure of its disk does: for what concerns every group, such as data of another cluster. What
// concerns one is for StopGroup. Safe for concurrent use; the first error counts.
func (h *Host) Fail(err error) {
	h.failOnce.Do(func() {
		h.down.Store(true)
		h.why = err
		h.cfg.Logger.Error("raft storage failed", "dir", h.cfg.Dir, "error", err)
		h.failed <- err
		close(h.failing)
	})
}

// reserve claims g for one opening, before anything of its state is touched. The caller ends it with opened.
func (h *Host) reserve(g stanza.Group) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errClosed
	}
	if _, ok := h.groups[g]; ok {
		return fmt.Errorf("shard: %s is open already", g)
	}
	if h.cores[g] != nil {
		return fmt.Errorf("shard: %s was closed and has not ended", g)
	}
	h.groups[g] = nil
	h.opening.Add(1)
	return nil
}

// opened ends an opening: x is the group, or nil if it failed.
func (h *Host) opened(g stanza.Group, x hosted) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x != nil {
		h.groups[g] = x
		if h.wanted != nil {
			x.want(h.wanted)
		}
	} else {
		delete(h.groups, g)
	}
	h.opening.Done()
}

func (h *Host) remove(g stanza.Group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.groups, g)
}

// Close closes every open group and then the databases; it waits for groups that are being opened. After a failure, or if a group
// does not stop, it abandons the databases, which may be stuck.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.mu.Unlock()
	close(h.closing)
	h.opening.Wait()

	h.mu.Lock()
	groups := maps.Clone(h.groups)
	h.mu.Unlock()
	var wg sync.WaitGroup
	errs := make([]error, 0, len(groups))
	for _, g := range groups {
		wg.Go(func() {
			err := g.Close()
			h.mu.Lock()
			defer h.mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	err := errors.Join(errs...)
	h.mu.Lock()
	stuck := len(h.cores) > 0 // closed before, and not ended
	h.mu.Unlock()
	if h.down.Load() || err != nil || stuck {
		return errors.Join(err, errors.New("shard: the databases were not closed, because the host failed or a group did not stop"))
	}
	flushed := make(chan error, 1)
	go func() { <-h.scrubbed; flushed <- h.state.Flush() }() // Pebble tries for ever on a full disk
	select {
	case err := <-flushed:
		return errors.Join(err, h.state.Close(), h.log.Close())
	case <-h.failing:
		return errors.New("shard: the databases were not closed, because the host failed at the last flush")
	}
}

// GroupStatus describes one group for metrics, /readyz and admin.
type GroupStatus struct {
	Group     stanza.Group
	Leading   bool
	Term      uint64
	LeaderID  string    // node id of the leader as this process knows it; empty: none
	Applied   uint64    // index of the last entry applied
	Last      uint64    // index of the last entry in the log
	Flushed   uint64    // F: the tables are complete up to here
	Snapshot  uint64    // index of the newest raft snapshot
	Scrubbed  time.Time // when the last complete scrub took its snapshot, or when the group was opened for the first time
	Turned    time.Time
	Stopped   string         // why the group was stopped, see StopGroup; empty: it was not
	Servers   []ServerStatus // the configuration, as this process knows it
	behind    bool           // see logStore.forgetful
	committed *configured    // the newest configuration that this process knows to be committed; nil: none
	Waits     string         // what the leader waits for to change the configuration to what is wanted; empty: nothing, or not the leader
}

// open returns the open groups.
func (h *Host) open() []hosted {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]hosted, 0, len(h.groups))
	for _, g := range h.groups {
		if g != nil {
			all = append(all, g)
		}
	}
	return all
}

// Status returns the state of every open group, ordered by group.
func (h *Host) Status() []GroupStatus {
	all := h.open()
	out := make([]GroupStatus, 0, len(all))
	for _, g := range all {
		out = append(out, g.status())
	}
	slices.SortFunc(out, func(a, b GroupStatus) int { return cmp.Compare(a.Group, b.Group) })
	return out
}
