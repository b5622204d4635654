package shard

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"linecard.example/internal/stanza"
)

// conn is one identified connection. raft's transport gets it as a net.Conn; what it adds is that it is counted while it is open, and
// that it ends when it makes no progress.
type conn struct {
	net.Conn
	n           *Network
	peer        string
	incarnation uint64 // of the peer's process
	accepted    bool   // by this end; else dialled
	group       stanza.Group
	layer       *layer      // nil: a status connection
	cut         func() bool // undoes what closes it with Serve; nil if it was dialled

	used   atomic.Int64 // Network.now of the last bytes read
	readBy atomic.Int64 // Network.now at which a read ends with a timeout; 0: never

	// Accepted: the goroutine that reads requests and writes answers, or raft's while it takes in a state.
	within bool // a request has begun and is not answered: reads have the timeout

	once sync.Once
}

// lostError is a failure of a connection, or to get one: whatever was to be asked, the peer has not answered. Errors without it come
// from the peer.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }

func (e *lostError) Unwrap() error { return e.err }

// lost marks an error of a connection; io.EOF stays what it is, since readers compare.
func lost(err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // a reader's io.EOF is never wrapped
		return err
	}
	return &lostError{err}
}

// Read implements net.Conn. An accepted connection waits for requests without a limit, but each piece of one that has begun has the
// timeout: raft takes in a state on its main goroutine, which neither votes nor follows anybody meanwhile, and a peer that is stopped in the
// middle of sending one would stop this replica, too. The connection ends then, for the rest of a request must not be read as the next.
func (c *conn) Read(p []byte) (int, error) {
	if c.within {
		if err := c.SetReadDeadline(time.Now().Add(c.n.cfg.Timeout)); err != nil {
			return 0, lost(err)
		}
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.used.Store(int64(c.n.now()))
	}
	if n > 0 && c.accepted && c.layer != nil {
		c.within = true
	}
	if err != nil && c.within {
		c.Close()
	}
	return n, lost(err)
}

// Write implements net.Conn. It has the timeout to itself, whatever came before on the connection: raft's transport sets one deadline for
// a whole call, and with that 16 MiB of entries would never pass over a path that takes longer for them, however often they
// are sent again. For the same reason the answer to a call is waited for from its last byte on.
func (c *conn) Write(p []byte) (int, error) {
	limit := c.n.cfg.Timeout
	if err := c.Conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return 0, lost(err)
	}
	n, err := c.Conn.Write(p)
	if c.accepted { // one goroutine reads and writes; of a dialled one several do
		c.within = false
	}
	if err == nil && c.accepted && c.layer != nil && c.readBy.Load() != 0 {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil || c.accepted {
		return n, lost(err)
	}
	if by := int64(c.n.now() + limit); c.readBy.Load() < by {
		c.readBy.Store(by)
		err = c.Conn.SetReadDeadline(time.Now().Add(limit))
	}
	return n, lost(err)
}

// SetDeadline implements net.Conn, for reads: a write sets its own.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	by := int64(0)
	if !t.IsZero() {
		by = int64(c.n.now() + time.Until(t))
	}
	c.readBy.Store(by)
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn: a write sets its own.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.Conn. It may be called from any goroutine, more than once. It says no goodbye: TLS would wait five seconds for room for
// it on a connection whose peer does not read any more, and a group that closes has several of those to close.
func (c *conn) Close() (err error) {
	c.once.Do(func() {
		c.n.forget(c)
		if c.cut != nil {
			c.cut()
		}
		raw := c.Conn
		if t, ok := raw.(*tls.Conn); ok {
			raw = t.NetConn()
		}
		err = raw.Close()
	})
	return err
}

// rivalWindow is how long the connections of a process have time to show life when another one comes with its node id.
const rivalWindow = time.Second

// peerConns are the connections with one node, which all belong to one process of it. Network.mu.
type peerConns struct {
	incarnation uint64
	conns       map[*conn]struct{}

	rival uint64        // incarnation of another process that claims to be the node; 0: none
	since time.Duration // when the window began in which the connections must show life
}

// admit counts c as open, or says why it must not be. c is not closed then.
//
// All connections with a node belong to one process of it. When another process comes under the node's id, the former was
// restarted, or somebody runs a copy of its data, whose votes would count twice. Bytes that come from the former after the other appeared
// decide: they prove it alive, and the other is refused as long as that is so. If none come within a second the former's connections, left
// over by a machine that lost its power or kept idle by us, are closed. Rejected: to trust what was read before, which refuses every
// quick restart for a while, and to let the newcomer win, which makes two processes with one id take turns.
func (n *Network) admit(c *conn) error {
	n.mu.Lock()
	stale, err := n.admitLocked(c)
	n.mu.Unlock()
	for _, old := range stale {
		old.Close()
	}
	return err
}

func (n *Network) admitLocked(c *conn) (stale []*conn, err error) {
	if n.ctx.Err() != nil || (c.layer != nil && c.layer.ctx.Err() != nil) {
		return nil, errStopping
	}
	p := n.peers[c.peer]
	if p != nil && p.incarnation != c.incarnation {
		if err = p.contest(c.incarnation, n.now()); err != nil {
			return nil, err
		}
		for old := range p.conns {
			stale = append(stale, old)
			n.uncount(p, old)
		}
		p = nil
	}
	if p == nil {
		p = &peerConns{incarnation: c.incarnation, conns: map[*conn]struct{}{}}
		n.peers[c.peer] = p
	}
	if c.accepted {
		same := 0
		for x := range p.conns {
			if x.accepted && x.group == c.group && (x.layer == nil) == (c.layer == nil) {
				same++
			}
		}
		if same >= maxPerGroup || n.accepted >= maxAccepted {
			n.tidy(c.peer)
			return stale, errFull
		}
		n.accepted++
	}
	p.conns[c] = struct{}{}
	n.metrics.open(c.accepted).Inc()
	return stale, nil
}

// contest decides between the process whose connections are open and another with the same node id: nil if the other has won.
func (p *peerConns) contest(rival uint64, now time.Duration) error {
	if p.rival != rival {
		p.rival, p.since = rival, now
	}
	alive, idle := false, true
	for c := range p.conns {
		alive = alive || time.Duration(c.used.Load()) > p.since
		idle = idle && c.layer == nil && !c.accepted // kept for our next question, it cannot end by itself
	}
	waited := now - p.since
	switch {
	case idle:
		return nil
	case alive && waited >= rivalWindow:
		p.since = now // it has to show life again
		return ErrDuplicate
	case alive:
		return ErrDuplicate
	case waited < rivalWindow:
		return errEarlier
	}
	return nil
}

// uncount takes c out of the count, if it is in it. Network.mu.
func (n *Network) uncount(p *peerConns, c *conn) {
	if _, ok := p.conns[c]; !ok {
		return
	}
	delete(p.conns, c)
	n.metrics.open(c.accepted).Dec()
	if c.accepted {
		n.accepted--
	}
}

// tidy forgets a node without connections. Network.mu.
func (n *Network) tidy(node string) {
	if p := n.peers[node]; p != nil && len(p.conns) == 0 {
		delete(n.peers, node)
	}
}

// forget takes c out of the count when it closes.
func (n *Network) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.peers[c.peer]; p != nil {
		n.uncount(p, c)
		n.tidy(c.peer)
	}
}
