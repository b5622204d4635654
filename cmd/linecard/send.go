package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"linecard.example/gateway/client"
)

// SendCmd sends one text, or many, and waits until the server has stored them.
type SendCmd struct {
	sessionFlags
	To      string        `help:"Recipient." required:"" placeholder:"NAME"`
	Count   int           `help:"How many times to send it." default:"1"`
	Timeout time.Duration `help:"For everything, connecting included; a file takes besides as long as it gets further." default:"30s"`
	File    string        `help:"Send this file, with TEXT as its caption; a second try goes on where the first was cut." type:"path" placeholder:"PATH"`
	Text    string        `arg:"" optional:"" help:"What to send; {n} in it becomes the number of the message, from 1."`
}

// Validate is called by the parser.
func (c *SendCmd) Validate() error {
	switch {
	case c.Count < 1:
		return errors.New("--count: want 1 or more")
	case c.Timeout <= 0:
		return errors.New("--timeout: want a duration such as 30s")
	case c.Text == "" && c.File == "":
		return errors.New("TEXT: nothing to send")
	case c.File != "" && c.Count > 1:
		return errors.New("--file: one at a time, without --count")
	}
	if err := checkPeer("--to", c.To); err != nil {
		return err
	}
	return c.check()
}

// sendLine is what is printed for each message.
type sendLine struct {
	ID     uint64 `json:"id"`
	State  string `json:"state"` // acked, refused, or unacked: it stays in the home and goes on its way with the next session
	Reason string `json:"reason,omitempty"`
	File   string `json:"file,omitempty"` // its name
	Bytes  int64  `json:"bytes,omitempty"`
}

// Run exits 0 when every message was acked.
func (c *SendCmd) Run(ctx context.Context, std Std) (err error) {
	if c.File != "" {
		return c.sendFile(ctx, std)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	d, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	go takeReceipts(ctx, d.Client)
	sending := make(chan *client.Sent, 1024)
	failed := make(chan error, 1)
	go func() {
		defer close(sending)
		failed <- c.sendAll(ctx, d.Client, sending)
	}()
	missing, why := c.report(ctx, std.Out, sending)
	cancel()
	for range sending { // lets the sender end
	}
	if sendErr := <-failed; sendErr != nil && why == nil {
		why = sendErr
	}
	if why != nil {
		return c.conclude(d.Client, missing, why)
	}
	return nil
}

// takeReceipts keeps receipts from filling the window. Messages are left alone: recv and chat will get them.
func takeReceipts(ctx context.Context, c *client.Client) {
	for {
		if _, err := c.Receive(ctx); err != nil {
			return
		}
	}
}

func (c *SendCmd) sendAll(ctx context.Context, cl *client.Client, out chan<- *client.Sent) error {
	for n := 1; n <= c.Count; n++ {
		s, err := cl.Send(ctx, c.To, strings.ReplaceAll(c.Text, "{n}", strconv.Itoa(n)))
		if err != nil {
			return err
		}
		out <- s
	}
	return nil
}

// report prints a line for each message as its fate is known, and returns how many were not acked and the first error.
func (c *SendCmd) report(ctx context.Context, w io.Writer, sending <-chan *client.Sent) (missing int, why error) {
	lines := json.NewEncoder(w)
	missing = c.Count
	for s := range sending {
		err := s.Wait(ctx)
		line := lineOf(s, err)
		if err == nil {
			missing--
		} else if why == nil {
			why = err
		}
		if err := lines.Encode(line); err != nil {
			return missing, err
		}
	}
	return missing, why
}

// lineOf says what became of a message.
func lineOf(s *client.Sent, err error) sendLine {
	line := sendLine{ID: s.ID, State: "refused"}
	var refused *client.RefusedError
	switch {
	case err == nil:
		line.State = "acked"
	case errors.As(err, &refused):
		line.Reason = refused.Reason.String()
	case errors.Is(err, client.ErrTooLarge):
		line.Reason = "too_large"
	case errors.Is(err, client.ErrExpired):
		line.Reason = "expired"
	case errors.Is(err, client.ErrNoDevice):
		line.Reason = "no_device"
	default:
		line.State = "unacked"
	}
	return line
}

// sendFile sends the file. The timeout is for connecting, and again for the message: the transfer between them ends by itself when it
// gets no further.
func (c *SendCmd) sendFile(ctx context.Context, std Std) (err error) {
	begin, cancel := context.WithTimeout(ctx, c.Timeout)
	d, err := c.open(begin)
	cancel()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	go takeReceipts(ctx, d.Client)
	p := newProgress("sending " + filepath.Base(c.File))
	end := showProgress(std, p)
	s, err := sendFile(ctx, d.Client, c.To, c.File, c.Text, p)
	end()
	switch {
	case err != nil && passes(err):
		return fmt.Errorf("not sent: %w; the same command goes on with it", err)
	case err != nil:
		return fmt.Errorf("not sent: %w", err)
	}
	wait, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err = s.Wait(wait)
	line := lineOf(s, err)
	line.File, line.Bytes = filepath.Base(c.File), p.total.Load()
	if err := json.NewEncoder(std.Out).Encode(line); err != nil {
		return err
	}
	if err != nil {
		return c.conclude(d.Client, 1, err)
	}
	return nil
}

// conclude puts the failure into one line.
func (c *SendCmd) conclude(cl *client.Client, missing int, why error) error {
	if errors.Is(why, context.DeadlineExceeded) || errors.Is(why, context.Canceled) {
		text := "interrupted"
		if errors.Is(why, context.DeadlineExceeded) {
			text = fmt.Sprintf("timeout after %v", c.Timeout)
		}
		if up, trouble := cl.Connected(); !up && trouble != nil {
			text += ": " + trouble.Error()
		}
		why = errors.New(text)
	}
	if c.Count == 1 {
		return fmt.Errorf("not acked: %w", why)
	}
	return fmt.Errorf("%d of %d messages not acked: %w", missing, c.Count, why)
}
