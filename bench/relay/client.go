package relay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// RefusedError is a request that the server refused.
type RefusedError struct {
	Code int // RFC 5389 15.6, RFC 5766 15
}

func (e RefusedError) Error() string { return fmt.Sprintf("relay bench: refused: %d", e.Code) }

// Client is an allocation over UDP whose steps are its user's, for tests of a server from outside. One goroutine's.
type Client struct {
	s session
	l login
}

// Allocate asks a server for a relayed address. The error is a RefusedError if it refuses.
func Allocate(server netip.AddrPort, user, password string) (*Client, error) {
	c := &Client{l: login{user: user, password: password}}
	if err := c.s.allocate(server, &c.l); err != nil {
		c.s.close()
		return nil, err
	}
	return c, nil
}

// Relayed is the address at which peers reach the client.
func (c *Client) Relayed() netip.AddrPort { return c.s.relayed }

// Bind binds the client's one channel to a peer.
func (c *Client) Bind(peer netip.AddrPort) error { return c.s.bind(&c.l, peer) }

// Refresh prolongs the allocation.
func (c *Client) Refresh() error {
	_, err := c.s.ask(&c.l, refresh, func(q *request) { q.attr(attrLifetime, binary.BigEndian.AppendUint32(nil, 600)...) })
	return err
}

// Send sends a payload through the channel.
func (c *Client) Send(payload string) error {
	p := frame(len(payload))
	copy(p[4:], payload)
	_, err := c.s.client.Write(p)
	return err
}

// Receive returns the next payload that came through the channel.
func (c *Client) Receive(limit time.Duration) (string, error) {
	if err := c.s.client.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	buf := make([]byte, 2048)
	for {
		n, err := c.s.client.Read(buf)
		if err != nil {
			return "", err
		}
		if n >= 4 && binary.BigEndian.Uint16(buf) == channel && int(binary.BigEndian.Uint16(buf[2:])) <= n-4 {
			return string(buf[4 : 4+binary.BigEndian.Uint16(buf[2:])]), nil
		}
	}
}

// Close ends the allocation, as far as the server hears it.
func (c *Client) Close() {
	c.s.release(&c.l)
	c.s.close()
}
