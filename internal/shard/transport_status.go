package shard

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"linecard.example/internal/stanza"
)

// ReplicaStatus is what a process says of one of its replicas: how far it is, by its own word, which a leader needs before it makes
// a voter of it.
type ReplicaStatus struct {
	Group    stanza.Group
	Open     bool // false: it is not open there, the rest is zero
	Leading  bool
	Stopped  bool   // because of damage, see StopGroup
	Low      bool   // the disk is below its floor
	Behind   bool   // it was dropped once, and does not have again what it had: it must not vote
	Term     uint64 // raft's
	Applied  uint64 // index of the last entry applied
	Last     uint64 // index of the last entry in the log
	Snapshot uint64 // index of the newest snapshot

	Configured uint64 // index of the newest configuration that is known there to be committed; 0: it does not say
	Member     bool   // whoever asks is in that configuration
}

// On a status connection the dialler asks and the other end answers, in turns: a question is a count and as many groups, 0 asks for
// all that are open; an answer is a count, the size of an entry, and the entries. Both counts are 16 bits. A later version may
// lengthen an entry.
const (
	maxAsked      = 4096
	statusSize    = statusSizeV1 + 8
	statusSizeV1  = 2 + 1 + 4*8 // before Configured
	maxStatusSize = 256
	statusIdle    = time.Minute // without a question the connection is closed
)

const (
	flagOpen    = 1
	flagLeading = 2
	flagStopped = 4
	flagLow     = 8
	flagMember  = 16
	flagBehind  = 32
)

func (s *ReplicaStatus) append(dst []byte) []byte {
	flags := byte(0)
	for i, on := range []bool{s.Open, s.Leading, s.Stopped, s.Low, s.Member, s.Behind} {
		if on {
			flags |= 1 << i
		}
	}
	dst = append(binary.BigEndian.AppendUint16(dst, uint16(s.Group)), flags)
	for _, v := range []uint64{s.Term, s.Applied, s.Last, s.Snapshot, s.Configured} {
		dst = binary.BigEndian.AppendUint64(dst, v)
	}
	return dst
}

// parseStatus reads an entry of at least statusSizeV1 bytes.
func parseStatus(b []byte) ReplicaStatus {
	s := ReplicaStatus{Group: stanza.Group(binary.BigEndian.Uint16(b)),
		Open: b[2]&flagOpen != 0, Leading: b[2]&flagLeading != 0, Stopped: b[2]&flagStopped != 0,
		Low: b[2]&flagLow != 0, Member: b[2]&flagMember != 0, Behind: b[2]&flagBehind != 0}
	for i, v := range []*uint64{&s.Term, &s.Applied, &s.Last, &s.Snapshot, &s.Configured} {
		if at := 3 + 8*i; at+8 <= len(b) {
			*v = binary.BigEndian.Uint64(b[at:])
		}
	}
	return s
}

// replicas tells a node the status of the groups listed, or of all that are open. h may be nil.
func (h *Host) replicas(asker string, groups []stanza.Group) []ReplicaStatus {
	var out []ReplicaStatus
	open := map[stanza.Group]ReplicaStatus{}
	if h != nil {
		for _, s := range h.Status() {
			r := ReplicaStatus{Group: s.Group, Open: true, Leading: s.Leading, Stopped: s.Stopped != "", Low: h.StorageFull(), Behind: s.behind, Term: s.Term,
				Applied: s.Applied, Last: s.Last, Snapshot: s.Snapshot}
			if s.committed != nil {
				r.Configured, r.Member = s.committed.index, s.committed.has(asker)
			}
			open[s.Group] = r
			if len(groups) == 0 && len(out) < maxAsked {
				out = append(out, r)
			}
		}
	}
	for _, g := range groups {
		r := open[g]
		r.Group = g
		out = append(out, r)
	}
	return out
}

// answerStatus serves a status connection until it ends.
func (n *Network) answerStatus(c *conn) {
	r := bufio.NewReader(c)
	for {
		if c.SetReadDeadline(time.Now().Add(statusIdle)) != nil {
			return
		}
		groups, err := readQuestion(r)
		if err != nil {
			return
		}
		list := n.host.Load().replicas(c.peer, groups)
		out := binary.BigEndian.AppendUint16(nil, uint16(len(list)))
		out = binary.BigEndian.AppendUint16(out, statusSize)
		for i := range list {
			out = list[i].append(out)
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func readQuestion(r io.Reader) ([]stanza.Group, error) {
	var count [2]byte
	if _, err := io.ReadFull(r, count[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(count[:]))
	if n > maxAsked {
		return nil, errHello
	}
	raw := make([]byte, 2*n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	groups := make([]stanza.Group, n)
	for i := range groups {
		groups[i] = stanza.Group(binary.BigEndian.Uint16(raw[2*i:]))
	}
	return groups, nil
}

// readAnswer reads the answer to a question for asked groups, 0: all.
func readAnswer(r io.Reader, asked int) ([]ReplicaStatus, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n, size := int(binary.BigEndian.Uint16(head[:])), int(binary.BigEndian.Uint16(head[2:]))
	if n > maxAsked || (asked > 0 && n != asked) || size < statusSizeV1 || size > maxStatusSize {
		return nil, errHello
	}
	raw := make([]byte, n*size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	out := make([]ReplicaStatus, n)
	for i := range out {
		out[i] = parseStatus(raw[i*size : (i+1)*size])
	}
	return out, nil
}

// statusClient is the connection over which a node is asked, one question at a time.
type statusClient struct {
	turn chan struct{} // holds a token while somebody asks, who alone uses c
	c    *conn
}

// Status asks a node about groups, at most 4096, or without any about all that are open there; the answer has the order asked for. It
// waits for the node, within ctx and the transport's own timeouts. Safe for concurrent use.
func (n *Network) Status(ctx context.Context, node string, groups ...stanza.Group) ([]ReplicaStatus, error) {
	if len(groups) > maxAsked {
		return nil, fmt.Errorf("shard: asking about %d groups at once", len(groups))
	}
	if node == n.cfg.Node {
		return n.host.Load().replicas(node, groups), nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	q := n.asker(node)
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-q.turn }()
	for {
		fresh := q.c == nil
		if fresh {
			var err error
			if q.c, err = n.dial(ctx, node, nil, 0); err != nil {
				n.forgetAsker(node, err)
				return nil, err
			}
		}
		out, err := q.ask(ctx, groups)
		if err == nil {
			return out, nil
		}
		q.c.Close()
		q.c = nil
		if fresh || !ended(err) || ctx.Err() != nil {
			return nil, fmt.Errorf("shard: asking node %s: %w", node, err)
		}
	}
}

// askPeer is HostConfig.AskPeer of a host with a Network.
func (n *Network) askPeer(ctx context.Context, node string, g stanza.Group) (PeerStatus, error) {
	list, err := n.Status(ctx, node, g)
	switch {
	case err != nil:
		return PeerStatus{}, err
	case !list[0].Open:
		return PeerStatus{}, fmt.Errorf("%w: %s", errNotServed, g)
	}
	return PeerStatus{Applied: list[0].Applied, Stopped: list[0].Stopped, Low: list[0].Low, Behind: list[0].Behind}, nil
}

func (n *Network) asker(node string) *statusClient {
	n.mu.Lock()
	defer n.mu.Unlock()
	q := n.asking[node]
	if q == nil {
		q = &statusClient{turn: make(chan struct{}, 1)}
		n.asking[node] = q
	}
	return q
}

// forgetAsker drops what was kept for a node that has left.
func (n *Network) forgetAsker(node string, err error) {
	if !errors.Is(err, errNoMember) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.asking, node)
}

func (q *statusClient) ask(ctx context.Context, groups []stanza.Group) ([]ReplicaStatus, error) {
	c := q.c
	cut := context.AfterFunc(ctx, func() { c.Close() })
	defer cut()
	out := binary.BigEndian.AppendUint16(nil, uint16(len(groups)))
	for _, g := range groups {
		out = binary.BigEndian.AppendUint16(out, uint16(g))
	}
	if _, err := c.Write(out); err != nil {
		return nil, err
	}
	return readAnswer(c, len(groups))
}
