package client

import (
	"context"
	"fmt"
	"net"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 20 * time.Second // until bound
)

// connectOnce makes one connection and serves it until it ends. lived is how long it was bound.
func (c *Client) connectOnce() (lived time.Duration, err error) {
	dialCtx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	nc, err := c.opt.Dial(dialCtx, "tcp", c.opt.Address)
	cancel()
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	stop := context.AfterFunc(c.ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) }) // ends a handshake; a session says good-bye first
	defer stop()
	_ = nc.SetDeadline(time.Now().Add(handshakeTimeout))
	f, err := c.handshake(nc)
	if err != nil {
		return 0, err
	}
	defer func() { f.keys = wire.Keys{} }()
	s := &session{c: c, conn: f, gone: make(chan struct{})}
	for !s.bound() {
		if err := s.readOne(); err != nil {
			c.lost(s)
			return 0, err
		}
	}
	_ = nc.SetDeadline(time.Time{})
	if !stop() { // Close came meanwhile
		c.lost(s)
		return 0, c.ctx.Err()
	}
	drain(c.hurry) // was about the time before
	c.log.Info("bound", "account", uint64(s.as.Account), "device", uint32(s.as.Device))
	begin := time.Now()
	c.flushNotices()
	err = s.serve()
	c.lost(s)
	return time.Since(begin), err
}

// lost takes a session's traces out of the shared state.
func (c *Client) lost(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sess == s {
		c.sess = nil
	}
	c.out.restart()
	c.in.detach()
	c.asked.restart()
}

// handshake does Noise XX with bind or register in message 3. Nobody is told who the client is before the server's certificate was
// judged.
func (c *Client) handshake(nc net.Conn) (*frameConn, error) {
	f := newFrameConn(nc)
	init := wire.NewInitiator(c.home.static, nil)
	transcript := wire.Preamble[:]
	hello, err := init.AppendHello(transcript[:len(transcript):len(transcript)], transcript)
	if err != nil {
		return nil, err
	}
	if _, err := nc.Write(hello); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	reply, err := f.readBody(wire.MaxEarlyBody)
	if err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	kind, err := wire.FrameKind(reply)
	if err != nil {
		return nil, err
	}
	if kind == wire.KindRefused {
		reason, after, err := wire.ParseRefused(reply)
		if err != nil {
			return nil, err
		}
		return nil, &HintError{Reason: reason, RetryAfter: min(after, maxRetry)}
	}
	err = init.ReadReply(reply, func(static, cert []byte) error {
		return c.home.judge(static, cert, c.opt.TrustFirstUse, time.Now())
	})
	if err != nil {
		return nil, err
	}
	finish, keys, err := init.AppendFinish(nil, c.introduction())
	if err != nil {
		return nil, err
	}
	if _, err := nc.Write(finish); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	f.keys = keys
	return f, nil
}

// introduction is the payload of message 3: bind, or register at first use.
func (c *Client) introduction() []byte {
	interval := uint32(c.opt.PingInterval / time.Second)
	if id, ok := c.home.Identity(); ok {
		b := stanza.Bind{Account: id.Account, Device: id.Device, ID: c.home.topID(), Interval: interval}
		return b.Append(nil)
	}
	r := stanza.Register{Handle: []byte(c.opt.Handle), ID: c.home.topID(), Interval: interval}
	if c.opt.Invite != "" {
		r.Invite = []byte(c.opt.Invite)
	}
	return r.Append(nil)
}
