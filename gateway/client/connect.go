package client

import (
	"cmp"
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
	_ = nc.SetDeadline(time.Now().Add(handshakeTimeout))                             // before the next line, which must have the last word
	stop := context.AfterFunc(c.ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) }) // ends a handshake; a session says good-bye first
	defer stop()
	f, err := c.handshake(nc)
	if err != nil {
		c.weigh(err)
		return 0, err
	}
	defer func() { f.keys = wire.Keys{} }()
	s := &session{c: c, conn: f, gone: make(chan struct{})}
	for !s.bound() {
		if err := s.readOne(); err != nil {
			c.weigh(err)
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
	if s.probing && c.ctx.Err() == nil && c.pace.lost() {
		c.home.putPace(&c.pace)
	}
	c.out.restart()
	c.in.detach()
	c.asked.restart()
}

// handshake comes back by ticket, or does Noise XX with bind or register in message 3. Nobody is told who the client is before the
// server has proved that it belongs to the cluster: by opening the ticket, or by its certificate.
func (c *Client) handshake(nc net.Conn) (*frameConn, error) {
	f := newFrameConn(nc)
	f.done = c.ctx.Done()
	said, transcript := 0, wire.Preamble[:]
	if value := c.home.takeTicket(); value != nil && c.doubt < inDoubt {
		before, done, err := c.resume(f, value)
		if err != nil || done {
			return f, err
		}
		said, transcript = len(before), before
	}
	c.doubt = 0
	init := wire.NewInitiator(c.home.static, nil)
	hello, err := init.AppendHello(transcript[:len(transcript):len(transcript)], transcript)
	if err != nil {
		return nil, err
	}
	reply, err := f.ask(hello[said:])
	if err != nil {
		return nil, err
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

// ask writes what begins a handshake and reads the answer's body; a refused frame is a *HintError.
func (f *frameConn) ask(out []byte) ([]byte, error) {
	_, writeErr := f.nc.Write(out)
	body, err := f.readBody(wire.MaxEarlyBody) // a server that refuses everybody may have said so and closed before the write
	if err = cmp.Or(writeErr, err); err != nil && !isRefused(body) {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if err := refusedHint(body); err != nil {
		return nil, err
	}
	return body, nil
}

// isRefused reports whether a body has the form of a refused frame, which no sealed one has.
func isRefused(body []byte) bool {
	_, _, err := wire.ParseRefused(body)
	return err == nil
}

// refusedHint returns the *HintError of a refused frame, nil for any other.
func refusedHint(body []byte) error {
	reason, after, err := wire.ParseRefused(body)
	if err != nil {
		return nil
	}
	return &HintError{Reason: reason, RetryAfter: min(after, maxRetry)}
}

// introduction is the payload of message 3: bind, or register at first use.
func (c *Client) introduction() []byte {
	c.mu.Lock()
	c.pace.announced = c.pace.interval
	interval := uint32(c.pace.interval / time.Second)
	c.mu.Unlock()
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
