package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"linecard.example/internal/stanza"
)

// Sent is a message on its way.
type Sent struct {
	ID uint64
	To Account

	c    *Client
	done chan struct{}
	err  error // before done is closed
}

func (s *Sent) finish(err error) {
	s.err = err
	close(s.done)
}

// Done is closed when the message is acked, or dead.
func (s *Sent) Done() <-chan struct{} { return s.done }

// Err returns nil until Done is closed, and then what Wait returns.
func (s *Sent) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Wait waits until the message is stored by the server (nil), or dead: *RefusedError, ErrExpired, ErrTooLarge, ErrNoDevice. The end of
// ctx or of the client says nothing about the message: it is in the Home, and goes on its way when a client is there.
func (s *Sent) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.c.done:
		if err := s.Err(); err != nil {
			return err
		}
		select {
		case <-s.done:
			return nil
		default:
			return s.c.Err()
		}
	}
}

// Send sends text to the account of a name, with a copy for the own account's other devices. When it returns, the message is
// written to the Home; Sent says what becomes of it. It waits for the client to be ready, for the look-up of a name that is new, and
// for room when Options.OutboxBytes are unacked. Messages to one name are stored in the order of the calls. Errors: ErrBadName, ErrUnknownName,
// ErrTooLarge, ErrNoDevice, ctx's, the client's.
func (c *Client) Send(ctx context.Context, to, text string) (*Sent, error) {
	if up, _ := c.Connected(); !up {
		c.Hurry()
	}
	if err := c.Ready(ctx); err != nil {
		return nil, err
	}
	a, err := c.Lookup(ctx, to)
	if err != nil {
		return nil, err
	}
	folded, _ := c.fold(to) // Lookup has judged it
	return c.sendTo(ctx, a, payload{to: folded, text: text})
}

// sendTo completes pl and sends it.
func (c *Client) sendTo(ctx context.Context, a Account, pl payload) (*Sent, error) {
	pl.from, pl.written = c.Self().Handle, time.Now()
	return c.sendPayload(ctx, a, appendPayload(nil, &pl), pl.written)
}

// SendPayload is Send for an application with payloads of its own, at most some 64 KiB divided by the devices of the account. Retains
// nothing of payload.
func (c *Client) SendPayload(ctx context.Context, to Account, payload []byte) (*Sent, error) {
	if err := c.Ready(ctx); err != nil {
		return nil, err
	}
	if to == 0 || to > stanza.MaxAccount || len(payload) == 0 {
		return nil, fmt.Errorf("client: send %d bytes to account %d: out of range", len(payload), to)
	}
	return c.sendPayload(ctx, to, slices.Clone(payload), time.Now())
}

func (c *Client) sendPayload(ctx context.Context, to Account, payload []byte, now time.Time) (*Sent, error) {
	if len(payload)+cipherHead > maxBody {
		return nil, ErrTooLarge
	}
	if to == c.Self().Account && !c.hasOthers() {
		return nil, ErrNoDevice
	}
	s := &Sent{To: to, c: c, done: make(chan struct{})}
	r := &sendRecord{to: to, kind: sendMessage, created: now.UnixMilli(), payload: payload}
	if err := c.enqueue(ctx, r, s); err != nil {
		return nil, err
	}
	if to != c.Self().Account && c.hasOthers() {
		r := &sendRecord{to: c.Self().Account, kind: sendCopy, created: now.UnixMilli(), payload: payload}
		if err := c.enqueue(ctx, r, nil); err != nil {
			c.log.Warn("no copy for the own devices", "id", s.ID, "err", err) // the message itself is on its way
		}
	}
	return s, nil
}

// hasOthers reports whether the own account has other devices, as far as is known.
func (c *Client) hasOthers() bool {
	self := c.Self()
	l, ok := c.home.list(self.Account)
	return ok && slices.ContainsFunc(l.devices, func(k stanza.DeviceKey) bool { return k.Device != self.Device })
}

// enqueue gives r its id, writes it to the Home and hands it to the outbox, when there is room.
func (c *Client) enqueue(ctx context.Context, r *sendRecord, s *Sent) error {
	for {
		c.mu.Lock()
		if c.err != nil {
			defer c.mu.Unlock()
			return c.err
		}
		if c.out.payload == 0 || c.out.payload+int64(len(r.payload)) <= c.opt.OutboxBytes {
			break
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return c.Err()
		}
	}
	defer c.mu.Unlock()
	lsn, err := c.home.putSend(r)
	if err != nil {
		c.changed() // a home that cannot be written ends the client
		return err
	}
	if s != nil {
		s.ID = r.id
	}
	c.out.add(&outMessage{rec: r, lsn: lsn, sent: s})
	c.changed()
	if c.sess == nil {
		signal(c.hurry)
	}
	return nil
}

// loadOutbox takes over what an earlier run left unacked. Their records are synced already.
func (c *Client) loadOutbox() {
	h := c.home
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(h.state.unacked)) {
		c.out.add(&outMessage{rec: h.state.unacked[id]})
	}
}

// Flush waits until every message of the outbox is acked or dead; nil does not say which.
func (c *Client) Flush(ctx context.Context) error {
	for {
		c.mu.Lock()
		left, room, err := len(c.out.byID), c.room, c.err
		c.mu.Unlock()
		if left == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// maxReadIDs is how many messages one receipt names.
const maxReadIDs = 64

// MarkRead tells the senders that messages were read. It returns when the receipts are written to the Home. Copies of the own account's
// messages are skipped.
func (c *Client) MarkRead(ctx context.Context, msgs ...*Message) error {
	by := map[peer][]uint64{}
	var order []peer
	for _, m := range msgs {
		if m.Own {
			continue
		}
		p := peer{m.From, m.FromDevice}
		if by[p] == nil {
			order = append(order, p)
		}
		by[p] = append(by[p], m.ID)
	}
	for _, p := range order {
		ids := by[p]
		slices.Sort(ids)
		for chunk := range slices.Chunk(slices.Compact(ids), maxReadIDs) {
			r := &sendRecord{to: p.account, kind: sendRead, created: time.Now().UnixMilli(), device: p.device, payload: stanza.AppendPacked(nil, chunk)}
			if err := c.enqueue(ctx, r, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
