package shard

import (
	"io"

	"github.com/hashicorp/raft"
)

// What a leader sends may be behind what is here: its requests arrived and the answers were lost, or they arrive late. If the log here, or
// the leader's, was cut meanwhile, the two find no entry to compare: raft refuses the entries, then the leader's snapshot is refused for being
// older than what was applied, and in a group in which nothing is written that goes on for ever. But a leader has all that was committed,
// and so has everything that a snapshot here covers: what is covered needs no comparison. A snapshot whose last entry is here brings
// nothing, and is as good as an empty request behind that entry.
//
// Rejected: a leader that takes a new snapshot when one is refused (a whole state is sent for nothing, and in a busy group the next one is
// too old again); keeping some of the log behind every scrub (what was deleted stays on the disk).

// fit returns a as raft is to see it. It never changes a, which may be its sender's still.
//
// raft takes what a leader says is committed to be so for all that is in the log here. Only what the request reaches was compared: behind it
// there may be entries of a leader that lost its place, which the sender does not know of. It reads what is committed later than how far it
// sends, and both are apart when it has waited in between. So it counts as far as the request reaches, as in Raft's paper.
func (c *core) fit(a *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	reach := a.PrevLogEntry + uint64(len(a.Entries))
	if a.PrevLogEntry >= c.snaps.index.Load() && a.LeaderCommitIndex <= reach || isHeartbeat(a) {
		return a
	}
	b := *a
	at, term := c.snaps.point()
	b.LeaderCommitIndex = min(b.LeaderCommitIndex, max(at, reach))
	if b.PrevLogEntry >= at {
		return &b
	}
	n := int(min(at-b.PrevLogEntry, uint64(len(b.Entries))))
	if n > 0 && b.Entries[n-1].Index == at && b.Entries[n-1].Term != term {
		return &b // not what was committed here: raft refuses it
	}
	b.Entries, b.PrevLogEntry, b.PrevLogTerm = b.Entries[n:], at, term
	return &b
}

// isHeartbeat tells heartbeats as raft's network transport does.
func isHeartbeat(a *raft.AppendEntriesRequest) bool {
	return a.Term != 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// holds reports whether the entry with which a snapshot ends is here, and so all before it.
func (c *core) holds(index, term uint64) bool {
	if index <= c.snaps.index.Load() {
		return true
	}
	var l raft.Log
	return c.store.GetLog(index, &l) == nil && l.Term == term
}

// answerHeld answers for a snapshot that brings nothing: raft is asked as if the leader had sent nothing behind its last entry, which keeps
// terms, the leader and its lease as they should be. The bytes are read off on a goroutine of their own, until they end or the sender takes too
// long for the next ones: votes and entries do not wait for that.
func (t *watched) answerHeld(rpc raft.RPC, req *raft.InstallSnapshotRequest) {
	answer := make(chan raft.RPCResponse, 1)
	t.enqueue(raft.RPC{RespChan: answer, Command: t.core.fit(&raft.AppendEntriesRequest{
		RPCHeader: req.RPCHeader, Term: req.Term, PrevLogEntry: req.LastLogIndex, PrevLogTerm: req.LastLogTerm, LeaderCommitIndex: req.LastLogIndex,
	})})
	go func() {
		r := <-answer
		_, _ = io.Copy(io.Discard, rpc.Reader) // the next request comes behind it; who cannot read it fails there
		if a, ok := r.Response.(*raft.AppendEntriesResponse); ok {
			r.Response = &raft.InstallSnapshotResponse{RPCHeader: a.RPCHeader, Term: a.Term, Success: a.Success}
		}
		rpc.Respond(r.Response, r.Error)
	}()
}
