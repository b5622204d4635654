package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/gateway/client/media"
)

// RecvCmd prints messages, one JSON line each.
type RecvCmd struct {
	sessionFlags
	Count   int           `help:"How many messages to wait for; 0 only registers the name." default:"1"`
	Timeout time.Duration `help:"For all of them, connecting included; files take besides as long as they get further." default:"10s"`
	Files   string        `help:"Save received files in this folder; without it the home remembers them for linecard chat." type:"existingdir" placeholder:"DIR"`
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

	File *recvFile `json:"file,omitempty"` // text is its caption then
}

// recvFile is what is printed of a file.
type recvFile struct {
	Name  string `json:"name"` // made safe
	Type  string `json:"type,omitempty"`
	Size  int64  `json:"size"`
	Path  string `json:"path,omitempty"`  // where it was saved, verified
	Error string `json:"error,omitempty"` // why it never will be: it is gone, or damaged
}

const stampFormat = "2006-01-02T15:04:05.000Z07:00"

// nameWait is how long a message waits for the look-up of its sender's name.
const nameWait = 3 * time.Second

// Run exits 0 when the messages came before the timeout, and their files were saved if that was asked for.
func (c *RecvCmd) Run(ctx context.Context, std Std) (err error) {
	left := c.Timeout
	var d *device
	err = within(ctx, &left, func(ctx context.Context) (err error) {
		d, err = c.open(ctx)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	lost := 0
	for n := 0; n < c.Count; {
		var e client.Event
		err := within(ctx, &left, func(ctx context.Context) (err error) {
			e, err = d.Receive(ctx)
			return err
		})
		if err != nil {
			return c.conclude(d.Client, n, err)
		}
		m, ok := e.(*client.Message)
		if !ok {
			continue
		}
		gone, err := c.take(ctx, std, d.Client, m)
		if err != nil {
			return fmt.Errorf("%d of %d messages: %w", n, c.Count, err)
		}
		if gone {
			lost++
		}
		n++
	}
	if lost > 0 {
		return fmt.Errorf("%d files cannot be had", lost)
	}
	return nil
}

// within calls f with what is left of the timeout, and takes off what it needs.
func within(ctx context.Context, left *time.Duration, f func(context.Context) error) error {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, *left)
	defer cancel()
	err := f(ctx)
	*left -= time.Since(begin)
	return err
}

// take prints a message and is done with it; gone says that it has a file that cannot be had. After an error the next recv prints it.
func (c *RecvCmd) take(ctx context.Context, std Std, cl *client.Client, m *client.Message) (gone bool, err error) {
	line := describe(ctx, cl, m)
	if m.File != nil {
		if line.File, err = c.file(ctx, std, cl, m, line.From); err != nil {
			return false, fmt.Errorf("file %s: %w; the next recv goes on with it", line.File.Name, err)
		}
		gone = line.File.Error != ""
	}
	if err := json.NewEncoder(std.Out).Encode(line); err != nil { // one write a line: nothing is left to flush
		return false, err
	}
	return gone, m.Done()
}

// file saves m's file, or has the home remember it. An error is one that passes; others are in what is printed.
func (c *RecvCmd) file(ctx context.Context, std Std, cl *client.Client, m *client.Message, from string) (*recvFile, error) {
	f := &recvFile{Name: m.File.SafeName(), Type: m.File.Type, Size: m.File.Size}
	if c.Files == "" {
		_, err := cl.RememberFile(m, from)
		return f, err
	}
	path, err := freeName(c.Files, m.File)
	if err != nil {
		return f, err
	}
	p := newProgress("saving " + f.Name)
	end := showProgress(std, p)
	err = cl.FetchFile(ctx, m.File, path, p.note)
	end()
	var refused *media.StatusError
	switch {
	case err == nil:
		f.Path = path
	case errors.Is(err, media.ErrDamaged), errors.As(err, &refused) && !passes(err), errors.Is(err, client.ErrNoMedia):
		f.Error = err.Error()
	default:
		return f, err
	}
	return f, nil
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
