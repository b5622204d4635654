package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"linecard.example/gateway/client"
)

// RecvCmd prints messages, one JSON line each.
type RecvCmd struct {
	sessionFlags
	Count   int           `help:"How many messages to wait for; 0 only registers the name." default:"1"`
	Timeout time.Duration `help:"For all of them, connecting included." default:"10s"`
}

// Validate is called by the parser.
func (c *RecvCmd) Validate() error {
	switch {
	case c.Count < 0:
		return errors.New("--count: want 0 or more")
	case c.Timeout <= 0:
		return errors.New("--timeout: want a duration such as 10s")
	}
	return c.check()
}

// recvLine is what is printed for each message.
type recvLine struct {
	From       string `json:"from"`
	ID         uint64 `json:"id"`
	Text       string `json:"text"`
	SentAt     string `json:"sent_at"`              // commit stamp
	To         string `json:"to,omitempty"`         // of a copy of what another own device sent
	Unverified bool   `json:"unverified,omitempty"` // from is only what the sender claims, or an account number
	Unreadable bool   `json:"unreadable,omitempty"` // a payload of another version
}

const stampFormat = "2006-01-02T15:04:05.000Z07:00"

// nameWait is how long a message waits for the look-up of its sender's name.
const nameWait = 3 * time.Second

// Run exits 0 when the messages came before the timeout.
func (c *RecvCmd) Run(ctx context.Context, std Std) (err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	d, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	lines := json.NewEncoder(std.Out) // one write a line: nothing is left to flush
	for n := 0; n < c.Count; {
		e, err := d.Receive(ctx)
		if err != nil {
			return c.conclude(d.Client, n, err)
		}
		m, ok := e.(*client.Message)
		if !ok {
			continue
		}
		if err := lines.Encode(describe(ctx, d.Client, m)); err != nil {
			return err // not done: the next recv prints it
		}
		if err := m.Done(); err != nil {
			return err
		}
		n++
	}
	return nil
}

func describe(ctx context.Context, cl *client.Client, m *client.Message) recvLine {
	ctx, cancel := context.WithTimeout(ctx, nameWait)
	defer cancel()
	name, verified := cl.Sender(ctx, m)
	line := recvLine{From: name, ID: m.ID, Text: m.Text, SentAt: m.SentAt.Format(stampFormat), Unverified: !verified, Unreadable: !m.Readable}
	if m.Own {
		line.To = m.To
	}
	return line
}

func (c *RecvCmd) conclude(cl *client.Client, n int, err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		if up, trouble := cl.Connected(); !up && trouble != nil {
			return fmt.Errorf("%d of %d messages within %v: %w", n, c.Count, c.Timeout, trouble)
		}
		return fmt.Errorf("%d of %d messages within %v", n, c.Count, c.Timeout)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%d of %d messages: interrupted", n, c.Count)
	}
	return err
}
