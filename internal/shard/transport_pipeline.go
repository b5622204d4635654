package shard

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// errAnswered ends a pipeline whose last answer left nothing more to be sent on it.
var errAnswered = errors.New("shard: the replica has refused what was sent before")

// pipeline is raft's pipeline to a replica, whose answers somebody takes as long as it is open.
//
// raft takes no answers any more behind one that is a refusal or of a newer term, but goes on to send until it notices. What it sends then waits
// until the answer before is taken, and only the goroutine that waits would close the pipeline: for ever. The group could not close after
// that; and a leader that stayed one, as it does when a call ended without an answer, would send that replica nothing any more but heartbeats,
// which keep it from standing for an election.
type pipeline struct {
	raft.AppendPipeline
	out    chan raft.AppendFuture // what raft takes
	ended  atomic.Bool            // raft takes nothing any more
	closed chan struct{}
	once   sync.Once
}

// AppendEntriesPipeline implements raft.Transport.
func (t *groupTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return relayed(p), nil
}

func relayed(inner raft.AppendPipeline) *pipeline {
	p := &pipeline{AppendPipeline: inner, out: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go p.relay()
	return p
}

// relay passes answers on until raft has the last that it takes, and takes the others until the pipeline is closed.
func (p *pipeline) relay() {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			if p.ended.Load() {
				break
			}
			resp := f.Response()
			p.ended.Store(!resp.Success || resp.Term > f.Request().Term)
			select {
			case p.out <- f:
			case <-p.closed:
				return
			}
		case <-p.closed:
			return
		}
	}
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.ended.Load() {
		return nil, errAnswered
	}
	return p.AppendPipeline.AppendEntries(args, resp)
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.out }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}
