package shard

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// watched is the transport of a group with peers as raft sees it: it notes what peers answer, answers what raft would answer wrongly, and
// brings heartbeats that change something to raft's main goroutine.
type watched struct {
	raft.Transport
	vote  raft.WithPreVote
	core  *core
	head  raft.RPCHeader            // of answers that raft does not give
	raft  atomic.Pointer[raft.Raft] // nil: it has not started
	beats sync.RWMutex              // held for reading while a heartbeat is handled beside raft's main goroutine

	requests chan raft.RPC // to raft's main goroutine
	stopOnce sync.Once
	stopped  chan struct{}
}

// watch wraps t, which has to carry pre-votes: without them a replica that was cut off deposes the leader when it is back. It takes
// what arrives from now on, until stop or Close. self is the replica's own address.
func watch(t raft.Transport, c *core, self raft.ServerAddress) (*watched, error) {
	v, ok := t.(raft.WithPreVote)
	if !ok {
		return nil, fmt.Errorf("shard: the transport %T carries no pre-votes", t)
	}
	id := c.host.cfg.NodeID
	w := &watched{
		Transport: t, vote: v, core: c, requests: make(chan raft.RPC), stopped: make(chan struct{}),
		head: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: t.EncodePeer(raft.ServerID(id), self)},
	}
	go w.forward(t.Consumer())
	return w, nil
}

// forward passes on what arrives.
func (t *watched) forward(in <-chan raft.RPC) {
	for {
		select {
		case rpc := <-in:
			t.pass(rpc)
		case <-t.stopped:
			return
		}
	}
}

// pass brings a request to raft as it is to see it, or answers in its place.
func (t *watched) pass(rpc raft.RPC) {
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		rpc.Command = t.core.fit(req)
	case *raft.InstallSnapshotRequest:
		if t.core.holds(req.LastLogIndex, req.LastLogTerm) {
			t.answerHeld(rpc, req)
			return
		}
	default:
		if t.core.store.forgetful() && t.refuseElection(rpc) {
			return
		}
	}
	t.enqueue(rpc)
}

// refuseElection answers no if the call asks for a vote, or to stand for an election.
func (t *watched) refuseElection(rpc raft.RPC) bool {
	switch req := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		rpc.Respond(&raft.RequestVoteResponse{RPCHeader: t.head, Term: req.Term}, nil)
	case *raft.RequestPreVoteRequest:
		rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: t.head, Term: req.Term}, nil)
	case *raft.TimeoutNowRequest:
		rpc.Respond(nil, errForgetful)
	default:
		return false
	}
	return true
}

// enqueue hands a request to raft's main goroutine, when that has time for it.
func (t *watched) enqueue(rpc raft.RPC) {
	select {
	case t.requests <- rpc:
	case <-t.stopped:
		rpc.Respond(nil, errClosed)
	}
}

// stop ends the goroutine that forwards.
func (t *watched) stop() { t.stopOnce.Do(func() { close(t.stopped) }) }

// Consumer implements raft.Transport.
func (t *watched) Consumer() <-chan raft.RPC { return t.requests }

// AppendEntries implements raft.Transport.
func (t *watched) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	round := t.core.known.round.Load() // before it is sent
	if err := t.Transport.AppendEntries(id, to, args, resp); err != nil {
		return err
	}
	if resp.Success && resp.Term == args.Term {
		last := resp.LastLog // as it was before the entries
		if n := len(args.Entries); n > 0 {
			last = args.Entries[n-1].Index
		}
		t.core.known.note(id, args.Term, last, round)
	}
	return nil
}

// RequestPreVote implements raft.WithPreVote.
func (t *watched) RequestPreVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.vote.RequestPreVote(id, to, args, resp)
}

// Close implements raft.WithClose.
func (t *watched) Close() error {
	t.stop()
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// SetHeartbeatHandler implements raft.Transport. raft gives the transport a handler of heartbeats that runs beside its main goroutine,
// so that a slow disk does not hold them up. In a term that is new here that handler sets the term, and so may the main goroutine at
// the same time, for a vote in a later one: whichever write ends last counts. A term that falls behind a vote that was given lets this
// replica acknowledge entries of a leader that the vote deposed, and they are lost. So a heartbeat that raises the term or ends a
// candidacy goes to the main goroutine, like any other request. docs/design/0021 has more.
func (t *watched) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.Transport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if !t.beside(rpc, handle) {
			t.enqueue(rpc)
		}
	})
}

// beside handles a heartbeat beside raft's main goroutine if it changes nothing.
func (t *watched) beside(rpc raft.RPC, handle func(raft.RPC)) bool {
	t.beats.RLock()
	defer t.beats.RUnlock()
	args, ok := rpc.Command.(*raft.AppendEntriesRequest)
	r := t.raft.Load()
	if !ok || r == nil || args.Term > r.CurrentTerm() || args.Term == r.CurrentTerm() && r.State() != raft.Follower {
		return false
	}
	handle(rpc)
	return true
}

// started begins to let heartbeats pass r's main goroutine. A follower may turn candidate when a heartbeat was found to change nothing and is
// not handled yet; it would end the candidacy then, and write the term. So the main goroutine, which calls observers when it has changed its
// state and before it does anything else, waits for those that are being handled. Those that come later see the candidate.
func (t *watched) started(r *raft.Raft) {
	r.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if s, ok := o.Data.(raft.RaftState); ok && s == raft.Candidate {
			t.beats.Lock()
			t.beats.Unlock() //nolint:staticcheck // nothing is to be done but to wait
		}
		return false
	}))
	t.raft.Store(r)
}
