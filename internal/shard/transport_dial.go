package shard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// errNoMember is returned for a node that nobody has heard of, or that has left.
var errNoMember = errors.New("shard: node is not in the roster")

// dial opens an identified connection to a node: for the group of l, or for status requests if l is nil. It takes at most limit, and
// dialTimeout.
func (n *Network) dial(ctx context.Context, node string, l *layer, limit time.Duration) (*conn, error) {
	if n.ctx.Err() != nil || ctx.Err() != nil {
		return nil, errClosed
	}
	member, ok := n.cfg.Peers.Peer(node)
	if !ok {
		return nil, fmt.Errorf("%w: %s", errNoMember, node)
	}
	if limit <= 0 || limit > dialTimeout {
		limit = dialTimeout
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := n.meet(timed, node, member, l)
	if err != nil && ctx.Err() != nil {
		return nil, errClosed // whoever asked has gone: no news about the node
	}
	n.dialled(node, member.Addr, err)
	if err != nil {
		return nil, fmt.Errorf("shard: dialling node %s at %s: %w", node, member.Addr, err)
	}
	return c, nil
}

// meet connects, makes TLS and exchanges hello and welcome.
func (n *Network) meet(ctx context.Context, node string, member Peer, l *layer) (*conn, error) {
	raw, err := n.dialer.DialContext(ctx, "tcp", member.Addr)
	if err != nil {
		return nil, err
	}
	cut := context.AfterFunc(ctx, func() { raw.Close() })
	t := tls.Client(raw, n.client)
	c := &conn{Conn: t, n: n, peer: node, layer: l}
	err = t.HandshakeContext(ctx)
	if err == nil {
		err = checkName(t, member.Name)
	}
	if err == nil {
		err = n.introduce(c, t)
	}
	if !cut() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = n.admit(c)
	}
	if err != nil {
		raw.Close() // not c, which is in nobody's count
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return c, nil
}

// introduce sends the hello and reads the welcome.
func (n *Network) introduce(c *conn, t *tls.Conn) error {
	h := hello{purpose: purposeStatus, shards: n.cfg.Shards, incarnation: n.cfg.Incarnation, cluster: n.cfg.Cluster, from: n.cfg.Node, to: c.peer,
		format: n.cfg.Writes}
	if c.layer != nil {
		h.purpose, h.group, c.group = purposeRaft, c.layer.group, c.layer.group
	}
	if _, err := t.Write(appendHello(nil, &h)); err != nil {
		return err
	}
	w, err := readWelcome(t)
	if err != nil {
		return err
	}
	c.incarnation = w.incarnation
	if err := w.err(); err != nil {
		return fmt.Errorf("refused by the peer: %w", err)
	}
	if w.format > n.cfg.Reads {
		return fmt.Errorf("%w: format %d there, %d is read here", errFormat, w.format, n.cfg.Reads)
	}
	if w.node != c.peer {
		return fmt.Errorf("%w: %s, and not %s", errTarget, w.node, c.peer)
	}
	return nil
}
