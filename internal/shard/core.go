package shard

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// core is what a group is apart from its machine's types: the raft engine and the ways between its goroutines and the shard
// goroutine.
type core struct {
	// Set before the goroutines start.
	host    *Host
	id      stanza.Group
	name    string
	log     *slog.Logger
	tables  Tables
	store   *logStore
	stable  *stableStore
	snaps   *snapStore
	raft    *raft.Raft
	peers   *groupTransport // nil: there is no Network
	metrics groupMetrics
	nonce   uint64 // marks this opening's packs in the log
	scrubs  scrubs
	halt    halt
	yields  yielding
	voters  int       // of raft's configuration at the last look; shard goroutine only
	known   *contacts // nil: the group is alone
	patient bool      // raft was started so that it stands for no election; shard goroutine only, once it is started

	// FSM goroutine -> shard goroutine.
	applies   chan []*raft.Log
	applied   chan struct{} // answers applies
	flushes   chan flushReq
	restores  chan restoreReq
	responses []any  // FSM goroutine only
	handed    uint64 // index of the last entry that raft handed over; FSM goroutine only

	// raft's main goroutine -> shard goroutine, which never waits for raft.
	notify chan bool // leadership gained or lost

	// shard goroutine -> submitter -> waiter. The sender does not wait for raft: the packs in flight are bounded by the first
	// channel's size, and the waiter waits only for futures that raft answers without the shard goroutine's help.
	submit  chan submission
	futures chan pendingFuture

	wake chan struct{} // anybody -> shard goroutine: look at mail, take a turn
	quit chan struct{} // closed: the shard goroutine settles what is left and ends
	dead chan struct{} // closed when it has ended
	wg   sync.WaitGroup

	mailMu sync.Mutex
	mail   mail

	configured atomic.Pointer[configured] // committed; by the FSM goroutine

	// Published by the shard goroutine.
	term      atomic.Uint64 // of the leadership held; 0: none
	appliedAt atomic.Uint64
	flushedAt atomic.Uint64
	turned    atomic.Int64           // Unix ns
	waits     atomic.Pointer[string] // what the leader waits for to change the configuration
}

// mail is what other goroutines leave for the shard goroutine.
type mail struct {
	failed   []failure
	calls    []*call
	verified []bool   // raft's answers
	want     []string // see Host.Want
	wants    bool     // want is set
	stepped  []stepped
	heard    []error // what the heirs of hand-overs answered; nil: fit
	started  bool    // core.raft is set
	snapped  bool
	closing  bool
}

type submission struct {
	seq  uint64
	data []byte
}

type pendingFuture struct {
	seq uint64
	f   raft.ApplyFuture
}

// failure is the outcome of a pack that raft did not commit, or not for certain.
type failure struct {
	seq uint64
	out Outcome
}

func newCore(h *Host, g stanza.Group) (*core, error) {
	inFlight := h.cfg.PacksInFlight
	c := &core{
		host: h, id: g, name: g.String(), log: h.cfg.Logger.With("group", g.String()), tables: Tables{db: h.state, g: g},
		stable:  &stableStore{db: h.log, g: g, sync: h.writeOptions()},
		applies: make(chan []*raft.Log), applied: make(chan struct{}), flushes: make(chan flushReq), restores: make(chan restoreReq),
		notify: make(chan bool), submit: make(chan submission, inFlight), futures: make(chan pendingFuture, 4*inFlight),
		halt: halt{done: make(chan struct{})}, wake: make(chan struct{}, 1), quit: make(chan struct{}), dead: make(chan struct{}),
		metrics: h.metrics.group(g),
	}
	var seed [8]byte
	if _, err := io.ReadFull(rand.Reader, seed[:]); err != nil {
		return nil, fmt.Errorf("shard: opening %s: %w", g, err)
	}
	c.nonce = binary.BigEndian.Uint64(seed[:])
	if !c.alone() {
		c.known = newContacts(h.cfg.Monotonic, c.poke)
	}
	var err error
	if c.store, err = openLogStore(h.log, g, h.writeOptions()); err != nil {
		return nil, err
	}
	if c.snaps, err = openSnapStore(h.log, g, h.writeOptions()); err != nil {
		return nil, err
	}
	c.snaps.core, c.store.snaps, c.store.tail.on = c, c.snaps, !c.alone()
	if m, err := c.snaps.load(); err != nil {
		return nil, err
	} else if m != nil {
		c.noteConfigured(m.ConfigurationIndex, m.Configuration)
	}
	if err := c.loadJoin(); err != nil {
		return nil, err
	}
	return c, c.loadScrub()
}

// checkState refuses a group whose durable pieces do not belong together. fresh: it has never run.
func (c *core) checkState(flushed uint64) (fresh bool, err error) {
	if err := c.undoHalfBootstrap(); err != nil {
		return false, fmt.Errorf("shard: opening %s: %w", c.id, err)
	}
	has, err := raft.HasExistingState(c.store, c.stable, c.snaps)
	if err != nil {
		return false, fmt.Errorf("shard: opening %s: %w", c.id, err)
	}
	snap, join := c.snaps.index.Load(), c.host.cfg.Join
	last := max(c.store.last, snap)
	switch {
	case !has && !c.host.cfg.Bootstrap && !join:
		return false, fmt.Errorf("%w: %s has no log here, and node %s is not new", ErrLost, c.id, c.host.cfg.NodeID)
	case has && last == 0 && !(c.store.joining && join):
		return false, fmt.Errorf("%w: %s has a term but neither log nor snapshot", ErrLost, c.id)
	case flushed < snap:
		return false, fmt.Errorf("%w: the tables of %s end at %d, its snapshot is at %d: DIR/state was lost or exchanged", ErrLost, c.id, flushed, snap)
	case flushed > max(last, c.snaps.reached):
		return false, fmt.Errorf("%w: the tables of %s are at %d, its log ends at %d: DIR/log was lost or exchanged", ErrLost, c.id, flushed, last)
	case c.store.first > snap+1:
		return false, fmt.Errorf("%w: the log of %s begins at %d, its snapshot is at %d", ErrLost, c.id, c.store.first, snap)
	}
	if !has && join {
		return true, c.noteJoin()
	}
	return !has, nil
}

// Raft's keys of the stable store, as raft names them.
var (
	keyTerm      = []byte("CurrentTerm")
	keyVote      = []byte("LastVoteTerm")
	keyCandidate = []byte("LastVoteCand")
)

// undoHalfBootstrap takes back the first of the two writes by which raft bootstraps a group, term 1 and then the first entry, if a
// crash came between them. Nothing else leaves term 1 without a vote: the first election of a group is for term 2.
func (c *core) undoHalfBootstrap() error {
	if !c.host.cfg.Bootstrap || c.store.last != 0 || c.snaps.index.Load() != 0 || c.store.joining {
		return nil
	}
	term, err := c.stable.GetUint64(keyTerm)
	if err != nil || term != 1 {
		return err
	}
	if vote, err := c.stable.GetUint64(keyVote); err != nil || vote != 0 {
		return err
	}
	return c.stable.SetUint64(keyTerm, 0)
}

// startRaft starts the engine; a fresh group becomes its own only voter. The shard goroutine must be running: replay needs it.
func (c *core) startRaft(fresh bool) error {
	cfg := &c.host.cfg
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(cfg.NodeID)
	rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout = cfg.Heartbeat, cfg.Heartbeat, cfg.Heartbeat
	// How long a leader that commits nothing waits before it tells how far it has committed, a call for each replica and group: an idle
	// process would do little else. It is news to nobody but a replica that lacks the commit of the very last entry.
	rc.CommitTimeout = cfg.Heartbeat
	if c.patient = c.store.forgetful(); c.patient {
		rc.HeartbeatTimeout, rc.ElectionTimeout = patience, patience
	}
	rc.TrailingLogs = cfg.TrailingLogs
	rc.SnapshotInterval, rc.SnapshotThreshold = 365*24*time.Hour, 1<<62 // the shard goroutine decides
	rc.NoSnapshotRestoreOnStart = true
	rc.NoLegacyTelemetry = true
	rc.ShutdownOnRemove = false // who removes a replica closes its group
	// One submitter keeps the order of packs, so raft can only gather several into one synced append if they queue in its channel.
	// What is queued there at a shutdown gets no answer: Close waits for the packs in flight first.
	rc.BatchApplyCh = true
	rc.NotifyCh = c.notify
	rc.Logger = &raftLogger{log: c.log, alone: c.alone()}
	trans, addr := c.transport()
	fail := func(err error) error {
		if t, ok := trans.(raft.WithClose); ok {
			err = errors.Join(err, t.Close())
		}
		return fmt.Errorf("shard: opening %s: %w", c.id, err)
	}
	if fresh && !cfg.Join {
		if err := raft.BootstrapCluster(rc, c.store, c.stable, c.snaps, trans, c.firstVoters(rc.LocalID, addr)); err != nil {
			return fail(err)
		}
	}
	c.handed = c.snaps.index.Load()
	r, err := c.newRaft(rc, trans, addr)
	if err != nil {
		return fail(err)
	}
	c.raft = r
	if c.peers != nil {
		c.peers.open()
	}
	c.post(func(m *mail) { m.started = true })
	c.wg.Go(c.submitter)
	c.await(c.waiter)
	return nil
}

// await runs f, which waits for an answer of raft through one of the channels that raft buffers. Closing does not wait for it: what waits in
// such a channel when raft ends is never answered, and f, which only leaves mail, stays behind with it. That takes a group that was
// stopped, since Close has everything answered first.
func (c *core) await(f func()) { go f() }

// newRaft makes raft run. trans is still the caller's to close after an error.
func (c *core) newRaft(rc *raft.Config, trans raft.Transport, self raft.ServerAddress) (*raft.Raft, error) {
	if c.alone() {
		return c.newEngine(rc, trans)
	}
	w, err := watch(trans, c, self)
	if err != nil {
		return nil, err
	}
	r, err := c.newEngine(rc, w)
	if err != nil {
		w.stop()
		return nil, err
	}
	w.started(r)
	return r, nil
}

// shutdown ends the engine without waiting for it. The transport goes at once, too: raft itself closes it only when its goroutines have
// ended, and those wait for answers of replicas that may be gone.
func (c *core) shutdown() raft.Future {
	f := c.raft.Shutdown()
	if c.peers != nil {
		_ = c.peers.Close() // never fails
	}
	return f
}

// firstVoters returns the configuration with which a fresh group begins.
func (c *core) firstVoters(self raft.ServerID, addr raft.ServerAddress) (conf raft.Configuration) {
	for _, id := range c.host.cfg.Voters {
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	if len(conf.Servers) == 0 {
		conf.Servers = []raft.Server{{Suffrage: raft.Voter, ID: self, Address: addr}}
	}
	return conf
}

// alone reports whether the group has no peers: one voter by construction.
func (c *core) alone() bool { return c.host.cfg.Transport == nil && c.host.cfg.Network == nil }

func (c *core) transport() (raft.Transport, raft.ServerAddress) {
	switch {
	case c.host.cfg.Transport != nil:
		return c.host.cfg.Transport(c.id)
	case c.host.cfg.Network != nil:
		c.peers = c.host.cfg.Network.transport(c.id, c.log)
		return c.peers, raft.ServerAddress(c.host.cfg.NodeID)
	}
	addr, t := raft.NewInmemTransport(raft.ServerAddress(c.host.cfg.NodeID))
	return t, addr
}

// post changes the mail under its lock and wakes the shard goroutine.
func (c *core) post(f func(*mail)) {
	c.mailMu.Lock()
	f(&c.mail)
	c.mailMu.Unlock()
	c.poke()
}

func (c *core) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *core) status() GroupStatus {
	s := GroupStatus{
		Group: c.id, Term: c.raft.CurrentTerm(), Applied: c.appliedAt.Load(), Flushed: c.flushedAt.Load(),
		Snapshot: c.snaps.index.Load(), Scrubbed: time.UnixMilli(c.scrubs.done.Load()), Turned: time.Unix(0, c.turned.Load()),
	}
	s.Stopped = c.stopped()
	s.Leading = c.term.Load() != 0
	_, id := c.raft.LeaderWithID()
	s.LeaderID = string(id)
	s.Last, _ = c.store.LastIndex()
	s.committed, s.behind = c.configured.Load(), c.store.forgetful()
	c.replicas(&s)
	return s
}
