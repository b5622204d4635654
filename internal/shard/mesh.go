package shard

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// Carry is what lies between two nodes of a Mesh. It returns when a message of a group from one node to another has arrived, or with the
// reason why it never will; it may wait meanwhile, but must return when stop is closed.
type Carry func(from, to string, g stanza.Group, stop <-chan struct{}) error

// Mesh connects the replicas of several hosts of one process, for simulations: every request and every answer is carried on its own, so
// that they are delayed, lost, reordered and cut off one by one. It copies nothing: a replica must not change what it sent. Safe for
// concurrent use.
type Mesh struct {
	carry   Carry
	timeout time.Duration

	mu   sync.Mutex
	ends map[meshAddress]*meshEnd
}

type meshAddress struct {
	node  string
	group stanza.Group
}

// meshPending is how many requests wait for one replica; more wait with their senders.
const meshPending = 64

var (
	errMeshTimeout = errors.New("shard: no answer in time")
	errMeshAway    = errors.New("shard: nobody there")
)

// NewMesh returns a mesh without nodes. A request that is not answered within timeout has failed, at the latest.
func NewMesh(timeout time.Duration, carry Carry) *Mesh {
	return &Mesh{carry: carry, timeout: timeout, ends: map[meshAddress]*meshEnd{}}
}

// Transport returns the HostConfig.Transport of a node. A node that comes back must have been closed before.
func (m *Mesh) Transport(node string) func(stanza.Group) (raft.Transport, raft.ServerAddress) {
	return func(g stanza.Group) (raft.Transport, raft.ServerAddress) {
		e := &meshEnd{m: m, at: meshAddress{node, g}, requests: make(chan raft.RPC, meshPending), closed: make(chan struct{})}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ends[e.at] = e
		return e, raft.ServerAddress(node)
	}
}

func (m *Mesh) end(a meshAddress) *meshEnd {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ends[a]
}

// meshEnd is the transport of one replica.
type meshEnd struct {
	m        *Mesh
	at       meshAddress
	requests chan raft.RPC

	closeOnce sync.Once
	closed    chan struct{}

	mu        sync.Mutex
	heartbeat func(raft.RPC)
}

// call carries a request to a replica and its answer back. Who gives up waiting leaves the message on its way, as a network does.
func (e *meshEnd) call(to raft.ServerAddress, cmd any, body io.Reader, timeout time.Duration) (any, error) {
	done, given := make(chan raft.RPCResponse, 1), make(chan struct{})
	defer close(given)
	go func() { done <- e.trip(string(to), cmd, body, given) }()
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	select {
	case r := <-done:
		return r.Response, r.Error
	case <-limit.C:
		return nil, errMeshTimeout
	case <-e.closed:
		return nil, errMeshAway
	}
}

// trip is one message there and one back. A request that has arrived is handled even if nobody waits for the answer any more; a body is
// read from the sender, and ends with his patience.
func (e *meshEnd) trip(to string, cmd any, body io.Reader, given <-chan struct{}) (r raft.RPCResponse) {
	if r.Error = e.m.carry(e.at.node, to, e.at.group, e.closed); r.Error != nil {
		return r
	}
	peer := e.m.end(meshAddress{to, e.at.group})
	if peer == nil {
		r.Error = errMeshAway
		return r
	}
	if body != nil {
		body = &meshBody{r: body, from: e, to: to, given: given}
	}
	answer := make(chan raft.RPCResponse, 1)
	if !peer.take(raft.RPC{Command: cmd, Reader: body, RespChan: answer}, e.closed) {
		r.Error = errMeshAway
		return r
	}
	select {
	case r = <-answer:
	case <-peer.closed:
		r.Error = errMeshAway
		return r
	case <-e.closed:
		r.Error = errMeshAway
		return r
	}
	if err := e.m.carry(to, e.at.node, e.at.group, e.closed); err != nil {
		return raft.RPCResponse{Error: err}
	}
	return r
}

// take gives a request to the replica: heartbeats to a handler of their own, which does not wait for its disk.
func (e *meshEnd) take(rpc raft.RPC, stop <-chan struct{}) bool {
	e.mu.Lock()
	beat := e.heartbeat
	e.mu.Unlock()
	if a, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && beat != nil && isHeartbeat(a) {
		beat(rpc)
		return true
	}
	select {
	case e.requests <- rpc:
		return true
	case <-e.closed:
		return false
	case <-stop:
		return false
	}
}

// meshBody carries a snapshot's bytes piece by piece, so that it can be cut off in the middle.
type meshBody struct {
	r     io.Reader
	from  *meshEnd
	to    string
	given <-chan struct{}
}

// meshPiece is how much of a body travels at once.
const meshPiece = 16 << 10

// Read implements io.Reader.
func (b *meshBody) Read(p []byte) (int, error) {
	select {
	case <-b.given:
		return 0, errMeshTimeout // the sender has closed what it read from
	default:
	}
	if err := b.from.m.carry(b.from.at.node, b.to, b.from.at.group, b.from.closed); err != nil {
		return 0, err
	}
	return b.r.Read(p[:min(len(p), meshPiece)])
}

// Consumer implements raft.Transport.
func (e *meshEnd) Consumer() <-chan raft.RPC { return e.requests }

// LocalAddr implements raft.Transport.
func (e *meshEnd) LocalAddr() raft.ServerAddress { return raft.ServerAddress(e.at.node) }

// AppendEntriesPipeline implements raft.Transport: there is none, so that every request has a fate of its own.
func (e *meshEnd) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport.
func (e *meshEnd) AppendEntries(_ raft.ServerID, to raft.ServerAddress, a *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	return answerTo(r)(e.call(to, a, nil, e.m.timeout))
}

// RequestVote implements raft.Transport.
func (e *meshEnd) RequestVote(_ raft.ServerID, to raft.ServerAddress, a *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	return answerTo(r)(e.call(to, a, nil, e.m.timeout))
}

// RequestPreVote implements raft.WithPreVote.
func (e *meshEnd) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, a *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	return answerTo(r)(e.call(to, a, nil, e.m.timeout))
}

// InstallSnapshot implements raft.Transport.
func (e *meshEnd) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, a *raft.InstallSnapshotRequest, r *raft.InstallSnapshotResponse, body io.Reader) error {
	return answerTo(r)(e.call(to, a, body, 10*e.m.timeout))
}

// TimeoutNow implements raft.Transport.
func (e *meshEnd) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, a *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	return answerTo(r)(e.call(to, a, nil, e.m.timeout))
}

// answerTo copies an answer of type T to where raft wants it.
func answerTo[T any](to *T) func(any, error) error {
	return func(answer any, err error) error {
		if a, ok := answer.(*T); ok && err == nil {
			*to = *a
		}
		return err
	}
}

// EncodePeer implements raft.Transport.
func (e *meshEnd) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// DecodePeer implements raft.Transport.
func (e *meshEnd) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport.
func (e *meshEnd) SetHeartbeatHandler(f func(raft.RPC)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heartbeat = f
}

// Close implements raft.WithClose: the replica is gone.
func (e *meshEnd) Close() error {
	e.closeOnce.Do(func() {
		close(e.closed)
		e.m.mu.Lock()
		defer e.m.mu.Unlock()
		if e.m.ends[e.at] == e {
			delete(e.m.ends, e.at)
		}
	})
	return nil
}
