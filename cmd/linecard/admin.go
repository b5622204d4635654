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
	var answer struct{ Code string }
	if err := askAdmin(ctx, c.Admin, "/invite?ttl="+url.QueryEscape(c.TTL.String()), 10*time.Second, &answer); err != nil {
		return err
	}
	_, err := fmt.Fprintln(std.Out, answer.Code)
	return err
}

// askAdmin posts a command to an admin listener and decodes the answer.
func askAdmin(ctx context.Context, admin, path string, limit time.Duration, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+admin+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var of *url.Error // its text repeats the URL
		if errors.As(err, &of) {
			err = of.Err
		}
		return fmt.Errorf("admin listener %s: %w", admin, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("admin listener %s: %w", admin, err)
	}
	var failed struct{ Error string }
	if json.Unmarshal(body, &failed) != nil || resp.StatusCode != http.StatusOK && failed.Error == "" || json.Unmarshal(body, answer) != nil {
		return fmt.Errorf("admin listener %s: status %d, no answer that can be read", admin, resp.StatusCode)
	}
	if failed.Error != "" {
		return errors.New(failed.Error)
	}
	return nil
}
