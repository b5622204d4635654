package client

import (
	"context"
	"errors"
	"net"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

const (
	pongWait   = 15 * time.Second       // from a ping to giving the connection up
	frameFill  = 32 << 10               // a frame is sent when its stanzas reach this: large enough to batch, small enough not to delay
	frameCount = 192                    // messages of a frame: acks, a ping and queries beside them stay within stanza.MaxStanzas
	byeWait    = 300 * time.Millisecond // for the server to close its side
	byeWrite   = time.Second
	drainWait  = time.Second // after a failed write: perhaps the server said why
)

// serve runs a bound session until it ends, and says why.
func (s *session) serve() error {
	c := s.c
	c.wg.Add(1)
	go s.readLoop()
	stop := context.AfterFunc(c.ctx, func() { _ = s.conn.nc.SetWriteDeadline(time.Now().Add(byeWrite)) })
	defer stop()
	err := s.writeLoop()
	switch {
	case c.ctx.Err() != nil:
		s.goodbye()
	case !errors.Is(err, errSilent):
		_ = s.conn.nc.SetReadDeadline(time.Now().Add(drainWait))
		<-s.gone
	}
	s.conn.nc.Close()
	<-s.gone
	var closed *CloseError
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.As(s.closeErr, &closed) || errors.Is(s.closeErr, errFatal) {
		return s.closeErr
	}
	return err
}

// writeLoop writes what there is to say, and sleeps when there is nothing.
func (s *session) writeLoop() error {
	c := s.c
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var plain []byte
	for {
		now := time.Now()
		var at time.Time
		c.mu.Lock()
		err := s.closeErr
		if err == nil {
			err = s.alive(now)
		}
		if err == nil {
			plain = s.gather(append(plain[:0], 0), now)
			if len(plain) > 1 {
				s.said = now
			}
			at = s.nextTime(now)
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
		c.flushNotices()
		if len(plain) > 1 {
			if err := s.conn.write(plain, now); err != nil {
				return err
			}
			continue
		}
		timer.Reset(at.Sub(now))
		select {
		case <-c.wake:
		case <-timer.C:
		case <-s.gone:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// alive gives up on a connection whose ping was not answered, and has the next ping sent when it is due. Caller holds Client.mu.
func (s *session) alive(now time.Time) error {
	if !s.pongBy.IsZero() && !s.pongBy.After(now) {
		return errSilent
	}
	s.pingDue = s.pongBy.IsZero() && (s.moved || !s.said.Add(s.c.pace.interval).After(now))
	s.probing = s.probing || s.pingDue && !s.moved && !s.heard.Add(s.c.pace.interval*3/4).After(now)
	return nil
}

// nextTime returns when writeLoop must look again although nothing happened. Caller holds Client.mu.
func (s *session) nextTime(now time.Time) time.Time {
	at := s.said.Add(s.c.pace.interval)
	for _, t := range []time.Time{s.pongBy, s.c.in.nextTime(), s.c.out.nextTime(now), s.c.asked.nextTime(now)} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// gather appends what is to be said now to a frame's plaintext. Caller holds Client.mu.
func (s *session) gather(plain []byte, now time.Time) []byte {
	c := s.c
	c.expire(now)
	durable := c.home.durable()
	plain = c.appendAcks(plain, durable, now, false)
	// A resend with nothing heard since may mean that the connection is dead: then the missing pong will show it.
	if c.out.resendDue(now) && s.pongBy.IsZero() && now.Sub(s.heard) >= resendFirst {
		s.pingDue = true
	}
	if s.pingDue {
		plain = stanza.Ping{Interval: c.pace.announce()}.Append(plain)
		s.pingDue, s.pongBy = false, now.Add(pongWait)
	}
	plain = c.asked.gather(plain, now)
	for n := 0; n < frameCount && len(plain) < frameFill; n++ {
		st, i, ok := c.out.next(now, durable)
		if !ok {
			break
		}
		var full bool
		if plain, full = s.transmit(plain, st, i, now); full {
			break
		}
	}
	if len(plain) > 1 && len(plain) < frameFill {
		plain = c.appendAcks(plain, durable, now, true)
	}
	return plain
}

// appendAcks appends the acks that are due; company says that a frame is sent anyway. Caller holds mu.
func (c *Client) appendAcks(plain []byte, durable int64, now time.Time, company bool) []byte {
	n := c.in.takeAcks(durable, now, company)
	if n == 0 {
		return plain
	}
	ack := stanza.DeliveryAck{Count: uint32(n)}
	return ack.Append(plain)
}

// transmit appends one message of the outbox; full says that it has to wait for room in the frame or the window. Caller holds Client.mu.
func (s *session) transmit(plain []byte, st *stream, i int, now time.Time) (out []byte, full bool) {
	c, m, start := s.c, st.msgs[i], len(plain)
	plain = c.encode(plain, st, i)
	size := len(plain) - start
	if size == 0 {
		return plain, false // waits for a device list, or is out
	}
	if len(plain) > wire.MaxPlain || !c.out.fits(m, size) {
		return plain[:start], true
	}
	c.out.transmitted(m, size, now)
	return plain, false
}

// goodbye ends a session that nothing is wrong with: what the application has handled is acknowledged, then both sides close.
func (s *session) goodbye() {
	c := s.c
	if c.home.sync() == nil {
		c.mu.Lock()
		plain := c.appendAcks([]byte{0}, c.home.durable(), time.Now(), true)
		c.mu.Unlock()
		if len(plain) > 1 {
			_ = s.conn.write(plain, time.Now()) // at worst the server delivers again
		}
	}
	if half, ok := s.conn.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = s.conn.nc.SetReadDeadline(time.Now().Add(byeWait))
		<-s.gone
	}
}

var _ interface{ CloseWrite() error } = (*net.TCPConn)(nil)
