package shard

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// layer is the listener and dialler of one group: raft's StreamLayer. Its address is the node id, as in raft's configurations; where
// a node is, the roster says at each dial.
type layer struct {
	n     *Network
	group stanza.Group
	conns chan net.Conn

	ctx  context.Context // ends with Close
	stop context.CancelFunc
}

// nodeAddr is a node id as an address.
type nodeAddr string

// Network implements net.Addr.
func (nodeAddr) Network() string { return "node" }

// String implements net.Addr.
func (a nodeAddr) String() string { return string(a) }

// transport makes the transport of a group. It dials, and serves once it is opened.
func (n *Network) transport(g stanza.Group, log *slog.Logger) *groupTransport {
	l := &layer{n: n, group: g, conns: make(chan net.Conn)}
	l.ctx, l.stop = context.WithCancel(n.ctx)
	return &groupTransport{l: l, pulses: map[raft.ServerID]*pulse{}, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: &raftLogger{log: log}, Stream: l, MaxPool: maxPool, Timeout: n.cfg.Timeout, MsgpackUseNewTimeFormat: true,
	})}
}

// open begins to serve. Not before raft runs: until then nobody would answer, and what callers gave up would wait in its way.
func (t *groupTransport) open() {
	n := t.l.n
	n.mu.Lock()
	defer n.mu.Unlock()
	n.layers[t.l.group] = t.l
}

// deliver hands an accepted connection to raft's transport, or closes it if that has ended.
func (l *layer) deliver(ctx context.Context, c *conn) {
	select {
	case l.conns <- c:
	case <-l.ctx.Done():
		c.Close()
	case <-ctx.Done():
		c.Close()
	}
}

// Accept implements net.Listener.
func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ctx.Done():
		return nil, errClosed
	}
}

// Dial implements raft.StreamLayer.
func (l *layer) Dial(node raft.ServerAddress, limit time.Duration) (net.Conn, error) {
	c, err := l.n.dial(l.ctx, string(node), l, limit)
	if err != nil {
		return nil, lost(err)
	}
	return c, nil
}

// Addr implements net.Listener.
func (l *layer) Addr() net.Addr { return nodeAddr(l.n.cfg.Node) }

// Close implements net.Listener. It ends the group's connections, too, dialled and accepted: raft's transport leaves them open.
func (l *layer) Close() error {
	l.stop()
	l.n.mu.Lock()
	var mine []*conn
	for _, p := range l.n.peers {
		for c := range p.conns {
			if c.layer == l {
				mine = append(mine, c)
			}
		}
	}
	if l.n.layers[l.group] == l {
		delete(l.n.layers, l.group)
	}
	l.n.mu.Unlock()
	for _, c := range mine {
		c.Close()
	}
	return nil
}

// groupTransport is raft's transport of one group, with two of its habits changed: a call is not lost to a connection that lay idle
// while its peer was restarted, and entries are not held back from a replica that is back.
type groupTransport struct {
	*raft.NetworkTransport
	l *layer

	mu     sync.Mutex
	pulses map[raft.ServerID]*pulse
}

// AppendEntries implements raft.Transport.
func (t *groupTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	p := t.pulse(id)
	// What raft's transport at the other end takes for a heartbeat.
	beat := args.PrevLogEntry == 0 && args.PrevLogTerm == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
	if beat {
		p.tried.Store(int64(t.l.n.now()))
	} else if !p.await(t.l.ctx, t.l.n.now) {
		return errNoPulse
	}
	err := t.again(func() error { return t.NetworkTransport.AppendEntries(id, target, args, resp) })
	p.note(answered(err))
	return err
}

// RequestVote implements raft.Transport.
func (t *groupTransport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.again(func() error { return t.NetworkTransport.RequestVote(id, target, args, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t *groupTransport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.again(func() error { return t.NetworkTransport.RequestPreVote(id, target, args, resp) })
}

// TimeoutNow implements raft.Transport.
func (t *groupTransport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.again(func() error { return t.NetworkTransport.TimeoutNow(id, target, args, resp) })
}

// again makes a call once more for each connection of the pool that turns out to have ended. The pool does not notice when its
// connections end, so that the first vote or two after a peer's restart would be lost on them, and with them an election each. The
// calls may be made twice: the answer to the same term and index is the same.
func (t *groupTransport) again(call func() error) error {
	for i := 0; ; i++ {
		err := call()
		if i == maxPool || !ended(err) || t.l.ctx.Err() != nil {
			return err
		}
	}
}

// unwrapped returns err without what raft's codec wraps around errors of connections: it knows Cause only.
func unwrapped(err error) error {
	var c interface{ Cause() error }
	for errors.As(err, &c) {
		err = c.Cause()
	}
	return err
}

// answered reports whether the peer has answered a call that ended with err, be it with an error.
func answered(err error) bool {
	err = unwrapped(err)
	var l *lostError
	return !errors.As(err, &l) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// ended reports whether err says that the peer, or this end, had closed the connection before.
func ended(err error) bool {
	err = unwrapped(err)
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// errNoPulse ends a call to a replica that no heartbeat has reached since the last one failed.
var errNoPulse = errors.New("shard: the replica does not answer heartbeats")

// pulse is what is known of a replica from the calls to it.
//
// After a dozen failures raft waits 10 s between attempts to append, so that a replica that was away for a while gets nothing for up to
// 10 s after its return, although heartbeats reach it at once: a group of three that then loses another replica stands still for that
// long. So an append after a failed one waits for a heartbeat to get through, instead of failing again and again.
type pulse struct {
	tried atomic.Int64 // Network.now of the last heartbeat's beginning

	mu   sync.Mutex
	back chan struct{} // closed when a call is answered; nil: the last one was
}

func (t *groupTransport) pulse(id raft.ServerID) *pulse {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pulses[id]
	if p == nil {
		p = new(pulse)
		t.pulses[id] = p
	}
	return p
}

// note takes down how a call ended.
func (p *pulse) note(ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case ok && p.back != nil:
		close(p.back)
		p.back = nil
	case !ok && p.back == nil:
		p.back = make(chan struct{})
	}
}

// pulseless is how long no heartbeat has begun when the leadership that sends them must be over: longer than one may take.
const pulseless = dialTimeout + 2*defaultTimeout

// await waits until a heartbeat has got through, if the last call failed. False: the group closes, or nobody sends heartbeats any more.
func (p *pulse) await(ctx context.Context, now func() time.Duration) bool {
	p.mu.Lock()
	back := p.back
	p.mu.Unlock()
	if back == nil {
		return true
	}
	look := time.NewTicker(pulseless / 8)
	defer look.Stop()
	for {
		select {
		case <-back:
			return true
		case <-ctx.Done():
			return false
		case <-look.C:
			if now()-time.Duration(p.tried.Load()) > pulseless {
				return false
			}
		}
	}
}
