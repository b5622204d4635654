package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// Group is one raft group of this process with its machine. Methods marked so belong to the shard goroutine, that is, to the
// machine's own methods and to functions run by Call; the others are safe for concurrent use.
type Group[C, R any] struct {
	*core
	m Machine[C, R]

	closeOnce sync.Once
	closeErr  error
	idle      chan struct{} // closed by the shard goroutine when it is closing and nothing is in flight

	// Shard goroutine.
	props     proposals[C]
	stamps    stamper
	at        uint64 // index of the last entry applied
	flushed   uint64 // F
	lastStamp int64  // the highest stamp in the log up to at
	leads     bool   // raft says so
	leadSeq   uint64 // number of the lead pack in flight; 0: none
	led       uint64 // term of the leadership announced to the machine; 0: none
	started   bool   // core.raft may be used
	broken    bool   // the group or the host failed: nothing is accepted or applied any more
	ended     bool   // raft was shut down because the group failed
	closing   bool
	settled   bool // idle is closed
	snapping  bool
	logBytes  int64 // since the last snapshot was begun
	logCount  uint64
	trail     trail
	verifies  []func(bool) // wait for the next round
	verifying verification // the round in progress
	rec       reconciler
	handing   handing
	alive     map[string]bool // which replicas answered at the last look
	lazyTimer *time.Timer
	published time.Duration // when gauges were last set
}

// Open opens a group of h with its machine m, loads the tables, replays the log and takes part in raft from then on. It does not
// wait for a leader. Groups may be opened in parallel. After an error the machine is not used any more.
func Open[C, R any](h *Host, g stanza.Group, m Machine[C, R]) (*Group[C, R], error) {
	if err := h.reserve(g); err != nil {
		return nil, err
	}
	var x *Group[C, R]
	err := h.unlessFailing(func() (err error) {
		x, err = open(h, g, m)
		return err
	})
	if err != nil {
		h.leave(g)
		h.opened(g, nil)
		return nil, err
	}
	h.opened(g, x)
	return x, nil
}

func open[C, R any](h *Host, g stanza.Group, m Machine[C, R]) (*Group[C, R], error) {
	c, err := newCore(h, g)
	if err != nil {
		return nil, h.report("log", err)
	}
	x := &Group[C, R]{core: c, m: m, idle: make(chan struct{}), lazyTimer: time.NewTimer(time.Hour), alive: map[string]bool{}}
	x.stamps = stamper{wall: h.cfg.Clock, mono: h.cfg.Monotonic}
	if err := c.finishInstall(); err != nil {
		return nil, h.report("", fmt.Errorf("shard: opening %s: %w", g, err))
	}
	if x.flushed, x.lastStamp, err = c.tables.applied(); err != nil {
		return nil, h.report("state", fmt.Errorf("shard: opening %s: %w", g, err))
	}
	fresh, err := c.checkState(x.flushed)
	if err != nil {
		return nil, h.report("", err)
	}
	x.at = x.flushed
	x.publish()
	loaded := make(chan error, 1)
	h.enter(c)
	go x.run(loaded)
	if err := <-loaded; err != nil {
		return nil, h.report("state", fmt.Errorf("shard: loading %s: %w", g, err))
	}
	if err := c.startRaft(fresh); err != nil {
		close(c.quit)
		<-c.dead
		return nil, h.report("log", err)
	}
	return x, nil
}

// ID returns the group's address.
func (g *Group[C, R]) ID() stanza.Group { return g.id }

// Propose appends cmd, which it copies, to the pack that goes to raft next; Machine.Done gets ctx with the outcome. False: not
// accepted, there will be no Done, because this process does not lead the group or too many bytes are pending (answer busy). It
// panics if cmd is larger than MaxCommand. Shard goroutine only.
func (g *Group[C, R]) Propose(cmd []byte, ctx C) bool { return g.propose(cmd, ctx, false) }

// ProposeLazy is Propose for a command that may wait up to HostConfig.LazyWait (20 ms) for company. Shard goroutine only.
func (g *Group[C, R]) ProposeLazy(cmd []byte, ctx C) bool { return g.propose(cmd, ctx, true) }

func (g *Group[C, R]) propose(cmd []byte, ctx C, lazy bool) bool {
	if len(cmd) > MaxCommand {
		panic("shard: command is larger than MaxCommand")
	}
	if g.led == 0 || g.props.pending+len(cmd) > g.host.cfg.PendingBytes {
		return false
	}
	g.props.add(cmd, ctx, lazy, g.host.cfg.PackCommands, g.host.cfg.Monotonic())
	return true
}

// Stamp returns what the leader would stamp now, in Unix ms: never below a stamp in the log. Shard goroutine only.
func (g *Group[C, R]) Stamp() int64 {
	if g.led != 0 {
		return g.stamps.now()
	}
	return max(g.lastStamp, g.host.cfg.Clock().UnixMilli())
}

// Verify calls f on the shard goroutine, later, with true if this process was still the leader at some moment after the call, so
// that what the machine holds is not stale. One round to the followers serves all that wait. Shard goroutine only.
func (g *Group[C, R]) Verify(f func(ok bool)) { g.verifies = append(g.verifies, f) }

// Leading returns the term if this process leads the group and has applied everything of earlier terms. It may be outdated: see
// Verify.
func (g *Group[C, R]) Leading() (term uint64, ok bool) {
	term = g.term.Load()
	return term, term != 0
}

// Wake makes the shard goroutine call Machine.Turn soon. It never blocks.
func (g *Group[C, R]) Wake() { g.poke() }

// Tables returns the group's tables.
func (g *Group[C, R]) Tables() Tables { return g.tables }

// Turned returns the time, by the injected clock, of the shard goroutine's last turn.
func (g *Group[C, R]) Turned() time.Time { return time.Unix(0, g.turned.Load()) }

// call is one Call; it runs or is cancelled, never both.
type call struct {
	f     func()
	taken atomic.Bool
	done  chan struct{}
}

// Call runs f on the shard goroutine and waits for it. An error means that f did not run and will not.
func (g *Group[C, R]) Call(ctx context.Context, f func()) error {
	k := &call{f: f, done: make(chan struct{})}
	g.post(func(m *mail) { m.calls = append(m.calls, k) })
	var err error
	select {
	case <-k.done:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-g.dead:
		err = errClosed
	}
	if k.taken.CompareAndSwap(false, true) {
		return err
	}
	<-k.done
	return nil
}

// Snapshot flushes the machine, takes a raft snapshot and truncates the log, and waits for it. If ctx ends first, the snapshot
// goes on.
func (g *Group[C, R]) Snapshot(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- g.snapshot() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.dead:
		return errClosed
	}
}

// snapshot waits for raft's snapshot; nothing new is a success.
func (c *core) snapshot() error {
	if c.halt.down.Load() {
		return errClosed
	}
	err := c.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	if err != nil {
		c.metrics.snapshotFailed.Inc()
		return fmt.Errorf("shard: snapshot of %s: %w", c.id, err)
	}
	c.metrics.snapshotOK.Inc()
	return nil
}

// Bounds of Close: raft answers everything in flight within its lease timeout, unless the disk hangs.
const (
	closeQuiet = 3 * time.Second
	closeRaft  = 10 * time.Second
)

// Close stops the group: it takes no more proposals, waits briefly for those in flight, delivers every context (Rejected if never
// submitted, else Unknown), flushes the machine and ends its goroutines. Not on the shard goroutine.
func (g *Group[C, R]) Close() error {
	g.closeOnce.Do(func() { g.closeErr = g.close() })
	return g.closeErr
}

// abandon ends a group of a host that failed. The raft goroutines, and even the shard goroutine, may be stuck in a database for
// ever: they are left behind, the process is about to exit.
func (g *Group[C, R]) abandon() error {
	g.shutdown()
	close(g.quit)
	limit := time.NewTimer(closeQuiet)
	defer limit.Stop()
	select {
	case <-g.dead:
		close(g.submit)
		return nil
	case <-limit.C:
		return fmt.Errorf("shard: %s is stuck in a failed database", g.id)
	}
}

func (g *Group[C, R]) close() error {
	g.host.remove(g.id)
	g.post(func(m *mail) { m.closing = true })
	limit := time.NewTimer(closeQuiet)
	defer limit.Stop()
	select {
	case <-g.idle:
	case <-g.host.failing:
	case <-limit.C:
	}
	if g.host.down.Load() {
		return g.abandon()
	}
	g.snaps.end()
	down := make(chan error, 1)
	go func() { down <- g.shutdown().Error() }()
	limit.Reset(closeRaft)
	var err error
	select {
	case err = <-down:
	case <-g.host.failing:
		err = errors.New("shard: the host failed")
	case <-limit.C:
		err = fmt.Errorf("shard: %s did not stop within %v", g.id, closeRaft)
	}
	close(g.quit)
	<-g.dead
	close(g.submit)
	g.host.metrics.drop(g.id)
	if err != nil {
		return err // it is not left: nobody may open or drop it beside an engine that still writes
	}
	ended := make(chan struct{})
	go func() { g.endScrubs(); g.wg.Wait(); close(ended) }()
	select {
	case <-ended:
		g.store.end()
		g.host.leave(g.id)
		return nil
	case <-limit.C:
		return fmt.Errorf("shard: raft has ended, and what waits for it in %s has not", g.id)
	}
}
