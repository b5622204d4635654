package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// AdminCmd asks a running process.
type AdminCmd struct {
	Invite InviteCmd `cmd:"" help:"Make an invite code with which one account can be registered."`
}

// InviteCmd makes an invite code.
type InviteCmd struct {
	Admin string        `help:"Admin listener of a process that runs the router, HOST:PORT." default:"127.0.0.1:7401"`
	TTL   time.Duration `help:"How long the code is good for." default:"168h"`
}

// Run prints the code.
func (c InviteCmd) Run(ctx context.Context, std Std) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var answer struct{ Code, Error string }
	target := "http://" + c.Admin + "/invite?ttl=" + url.QueryEscape(c.TTL.String())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var of *url.Error // its text repeats the URL
		if errors.As(err, &of) {
			err = of.Err
		}
		return fmt.Errorf("admin listener %s: %w", c.Admin, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return fmt.Errorf("admin listener %s: status %d, no answer that can be read", c.Admin, resp.StatusCode)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	_, err = fmt.Fprintln(std.Out, answer.Code)
	return err
}
