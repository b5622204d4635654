package shard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Serve accepts connections from lis, which it closes, until ctx ends or Close is called; then it ends them all and returns nil, with
// no goroutine of its own left. An error is a listener that broke.
func (n *Network) Serve(ctx context.Context, lis net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers sync.WaitGroup
	workers.Go(func() {
		select {
		case <-ctx.Done():
		case <-n.ctx.Done():
		}
		cancel()
		lis.Close()
	})
	err := n.acceptAll(ctx, lis, &workers)
	cancel()
	workers.Wait()
	return err
}

// acceptAll accepts until ctx ends. A failure that is not of the listener itself (no descriptor left) is waited out.
func (n *Network) acceptAll(ctx context.Context, lis net.Listener, workers *sync.WaitGroup) error {
	pause := time.Duration(0)
	for {
		raw, err := lis.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				raw.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("shard: raft listener: %w", err)
		case err != nil:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			n.refused(lis.Addr(), err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		n.lobby.enter(raw)
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetKeepAliveConfig(keepAlive) // of use where it is had
		}
		workers.Go(func() { n.welcome(ctx, raw) })
	}
}

// welcome identifies one connection and hands it to whom it is for.
func (n *Network) welcome(ctx context.Context, raw net.Conn) {
	cut := context.AfterFunc(ctx, func() { raw.Close() })
	c, err := n.identify(ctx, raw, cut)
	if !n.lobby.leave(raw) {
		err = errors.Join(errFull, err)
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		cut()
		raw.Close()
		if !errors.Is(err, io.EOF) && ctx.Err() == nil { // a probe that only connects is no news
			n.refused(raw.RemoteAddr(), err)
		}
		return
	}
	if c.layer == nil {
		n.answerStatus(c)
		c.Close()
		return
	}
	c.layer.deliver(ctx, c)
}

// identify makes TLS, reads the hello and answers it. cut goes with the connection. On an error raw is to be closed, the answer is sent.
func (n *Network) identify(ctx context.Context, raw net.Conn, cut func() bool) (*conn, error) {
	if err := raw.SetDeadline(time.Now().Add(n.helloLimit)); err != nil {
		return nil, err
	}
	t := tls.Server(raw, n.server)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	h, err := readHello(t)
	c := &conn{Conn: t, n: n, accepted: true, cut: cut}
	if err == nil {
		err = n.judge(c, t, &h)
	} else if !errors.Is(err, errHello) && !errors.Is(err, errVersion) {
		return nil, err // it said nothing, or stopped in the middle
	}
	answer := welcome{refusal: accepted, incarnation: n.cfg.Incarnation, node: n.cfg.Node, format: n.cfg.Writes}
	if err != nil {
		answer.refusal = byte(refusalNumber(err))
	}
	_, sendErr := t.Write(appendWelcome(nil, &answer))
	if err != nil {
		t.Close()
		return nil, err
	}
	if sendErr == nil {
		sendErr = raw.SetDeadline(time.Time{})
	}
	if sendErr != nil {
		c.Close()
		return nil, sendErr
	}
	return c, nil
}

// judge decides on a hello and counts its connection as open, or says why not.
func (n *Network) judge(c *conn, t *tls.Conn, h *hello) error {
	c.peer, c.incarnation, c.group = h.from, h.incarnation, h.group
	member, known := n.cfg.Peers.Peer(h.from)
	switch {
	case h.cluster != n.cfg.Cluster:
		return fmt.Errorf("%w: %q here, %q there", errCluster, n.cfg.Cluster, h.cluster)
	case h.shards != n.cfg.Shards:
		return fmt.Errorf("%w: %d here, %d there", errShards, n.cfg.Shards, h.shards)
	case h.format > n.cfg.Reads:
		return fmt.Errorf("%w: format %d there, %d is read here", errFormat, h.format, n.cfg.Reads)
	case h.to != n.cfg.Node:
		return fmt.Errorf("%w: %s, and not %s", errTarget, n.cfg.Node, h.to)
	case h.from == n.cfg.Node && h.incarnation != n.cfg.Incarnation:
		return fmt.Errorf("%w: %s", ErrDuplicate, h.from)
	case h.from == n.cfg.Node:
		return fmt.Errorf("%w: the dialler itself", errTarget)
	case !known:
		return fmt.Errorf("%w: %s", errStranger, h.from)
	}
	if err := checkName(t, member.Name); err != nil {
		return err
	}
	if h.purpose == purposeRaft {
		if c.layer = n.layerOf(h.group); c.layer == nil {
			return fmt.Errorf("%w: %s", errNotServed, h.group)
		}
	}
	if err := n.admit(c); err != nil {
		return fmt.Errorf("%w: node %s", err, h.from)
	}
	return nil
}

// checkName makes sure that the peer's certificate was issued for the member that it says it is: an id alone can be copied.
func checkName(t *tls.Conn, name string) error {
	if name == "" {
		return nil
	}
	var leaf *x509.Certificate
	if chain := t.ConnectionState().PeerCertificates; len(chain) > 0 {
		leaf = chain[0]
	}
	if leaf == nil || !slices.Contains(leaf.DNSNames, name) {
		return fmt.Errorf("%w: want %q", errName, name)
	}
	return nil
}
