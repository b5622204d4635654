package shard

import (
	"errors"

	"github.com/hashicorp/raft"
)

// submitter hands packs to raft in order. It is a goroutine of its own because raft.Apply waits for raft's main goroutine, which
// may be waiting for the FSM and so for the shard goroutine. It sets no timeout for that: a pack that waits behind a slow disk is
// not refused but held, within the bound of pending bytes, and shutdown ends the wait.
func (c *core) submitter() {
	defer close(c.futures)
	for s := range c.submit {
		f := c.raft.ApplyLog(raft.Log{Data: s.data}, 0)
		c.futures <- pendingFuture{seq: s.seq, f: f}
	}
}

// waiter collects the outcomes in order. Committed packs need no word from here: the shard goroutine applied them before.
func (c *core) waiter() {
	for p := range c.futures {
		err := p.f.Error()
		if err == nil {
			continue
		}
		out := outcomeOf(err)
		c.log.Debug("pack not committed", "outcome", out.String(), "error", err)
		c.post(func(m *mail) { m.failed = append(m.failed, failure{seq: p.seq, out: out}) })
	}
}

// outcomeOf maps raft's answer to a proposal. Everything that is not known to have been refused before it entered the log is
// unknown: ErrLeadershipLost entries may still be committed by the next leader, and at ErrRaftShutdown they may be on disk.
func outcomeOf(err error) Outcome {
	switch {
	case err == nil:
		return Committed
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return Rejected
	}
	return Unknown
}
