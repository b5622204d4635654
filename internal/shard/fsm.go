package shard

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"linecard.example/internal/planted"
)

// errClosed is what a group or host answers once it is closing.
var errClosed = errors.New("shard: closed")

// fsm is what raft calls. It only hands over to the shard goroutine and waits, so that a machine has one owner.
type fsm struct{ c *core }

// flushReq asks the shard goroutine to flush everything up to at least the index.
type flushReq struct {
	index uint64
	done  chan error
}

// ApplyBatch implements raft.BatchingFSM; raft calls it on one goroutine.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	c := f.c
	c.handed = logs[len(logs)-1].Index
	joined := c.noteConfigurations(logs)
	select {
	case c.applies <- logs:
		select {
		case <-c.applied:
			if joined {
				c.wg.Go(c.pin)
			}
		case <-c.halt.done: // nobody is told that it was applied, and no snapshot covers it
		case <-c.dead:
		}
	case <-c.halt.done:
	case <-c.dead:
	}
	// Results reach proposers through Machine.Done; raft wants one response per log. The slice is raft's until the next call.
	if len(logs) > len(c.responses) {
		c.responses = make([]any, len(logs))
	}
	return c.responses[:len(logs)]
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any {
	f.ApplyBatch([]*raft.Log{l})
	return nil
}

// Snapshot implements raft.FSM. Everything up to the snapshot's index is applied by now, because raft calls it between batches.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return fsmSnapshot(*f), nil }

// Restore implements raft.FSM; raft calls it for a received snapshot only, since NoSnapshotRestoreOnStart is set. The stream was turned into
// tables while it came in: there is nothing to read. After an error everything is as it was, and raft goes on with that.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	c := f.c
	p := c.snaps.arrived()
	if p == nil {
		return errSnapshotStream
	}
	defer p.recv.remove()
	if p.meta.Index < c.handed {
		return fmt.Errorf("%w: %d, applied is %d", errOldSnapshot, p.meta.Index, c.handed)
	}
	err := c.install(p)
	if err != nil {
		c.metrics.streamFailed.Inc()
		return err
	}
	c.handed = p.meta.Index
	c.noteConfigured(p.meta.ConfigurationIndex, p.meta.Configuration)
	return nil
}

// install has the shard goroutine take in p, and waits.
func (c *core) install(p *receipt) error {
	req := restoreReq{p: p, done: make(chan error, 1)}
	select {
	case c.restores <- req:
	case <-c.halt.done:
		return errClosed
	case <-c.dead:
		return errClosed
	}
	select {
	case err := <-req.done:
		return err
	case <-c.dead:
		return errClosed
	}
}

type fsmSnapshot struct{ c *core }

// Persist flushes the machine with F >= the snapshot's index and then the state database, so that the log up to there is not
// needed any more when the sink's metadata become durable.
func (s fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	k, ok := sink.(*snapSink)
	if !ok {
		return errSnapshotStream
	}
	req := flushReq{index: k.meta.Index, done: make(chan error, 1)}
	select {
	case s.c.flushes <- req:
	case <-s.c.dead:
		return errClosed
	}
	select {
	case err := <-req.done:
		if err != nil {
			return err
		}
	case <-s.c.dead:
		return errClosed
	}
	if planted.On(planted.TruncateBeforeFlush) {
		k.durable = true
		return nil
	}
	if err := s.c.host.flushState(); err != nil {
		return err
	}
	k.durable = true
	return nil
}

// Release implements raft.FSMSnapshot.
func (fsmSnapshot) Release() {}
