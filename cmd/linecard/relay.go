package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// RelayCmd prints credentials for relays.
type RelayCmd struct {
	sessionFlags
	Timeout time.Duration `help:"For all of it, connecting included." default:"10s"`
}

// Validate is called by the parser.
func (c *RelayCmd) Validate() error {
	if c.Timeout <= 0 {
		return errors.New("--timeout: want a duration such as 10s")
	}
	return c.check()
}

// iceServer is what is printed: what WebRTC takes as one of its iceServers, and until when it is good.
type iceServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
	Expires    string   `json:"expires"`
}

// Run prints one line of JSON.
func (c *RelayCmd) Run(ctx context.Context, std Std) (err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	d, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	r, err := d.RelayCredential(ctx)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(std.Out)
	enc.SetEscapeHTML(false) // URLs have question marks and more, and are for people too
	return enc.Encode(iceServer{URLs: r.URLs, Username: r.Username, Credential: r.Password, Expires: r.Expires.UTC().Format(stampFormat)})
}
