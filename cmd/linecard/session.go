package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"linecard.example/gateway/client"
	"linecard.example/internal/stanza"
)

// sessionFlags are what every command needs that signs in as a device.
type sessionFlags struct {
	Home          string `help:"Directory with keys, pinned roots and unacked messages; made at first use, used by one process at a time." required:"" type:"path" placeholder:"DIR"`
	Server        string `help:"Gateway to connect to." required:"" placeholder:"HOST:PORT"`
	As            string `help:"Own name; the first use registers it." required:"" placeholder:"NAME"`
	Root          string `help:"Root key file of the cluster (linecard up writes root.pub); needed at first use." type:"path" placeholder:"FILE" xor:"trust"`
	TrustFirstUse bool   `help:"Pin the root key that the first server presents, instead of --root." xor:"trust"`
	Invite        string `help:"Invite code, when registration needs one." placeholder:"CODE"`
}

// check finds what is wrong with the flags themselves.
func (f *sessionFlags) check() error {
	if _, port, err := net.SplitHostPort(f.Server); err != nil || port == "" {
		return fmt.Errorf("--server %q: want HOST:PORT", f.Server)
	}
	if len(f.Invite) > stanza.MaxInvite {
		return fmt.Errorf("--invite: at most %d bytes", stanza.MaxInvite)
	}
	return checkName("--as", f.As)
}

func checkName(flag, name string) error {
	if _, err := stanza.FoldHandle([]byte(name)); err != nil {
		return fmt.Errorf("%s %q: %w", flag, name, client.ErrBadName)
	}
	return nil
}

// checkPeer is checkName for a name that may have a region behind it.
func checkPeer(flag, name string) error {
	handle, _, _ := stanza.SplitHandle([]byte(name))
	if _, err := stanza.FoldHandle(handle); err != nil {
		return fmt.Errorf("%s %q: %w", flag, name, client.ErrBadName)
	}
	return nil
}

// device is a started client with its home.
type device struct {
	*client.Client
	home *client.Home
}

// start opens the home and starts the client in the background.
func (f *sessionFlags) start(notify func(client.Notice)) (*device, error) {
	var roots []client.Root
	if f.Root != "" {
		var err error
		if roots, err = client.ReadRoots(f.Root); err != nil {
			return nil, err
		}
	}
	home, err := client.OpenHome(f.Home)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Home, err)
	}
	c, err := client.Start(client.Options{
		Home: home, Address: f.Server, Handle: f.As, Invite: f.Invite, Roots: roots, TrustFirstUse: f.TrustFirstUse, Notify: notify,
	})
	if err != nil {
		return nil, errors.Join(err, home.Close())
	}
	return &device{Client: c, home: home}, nil
}

// open is start, and waits for the first session.
func (f *sessionFlags) open(ctx context.Context) (*device, error) {
	d, err := f.start(nil)
	if err != nil {
		return nil, err
	}
	if err := d.ready(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close ends the session, then releases the home.
func (d *device) Close() error {
	d.Client.Close()
	return d.home.Close()
}

// ready waits for the first session.
func (d *device) ready(ctx context.Context) error { return explain(d.Ready(ctx)) }

// explain adds what to do about an error, where a flag helps.
func explain(err error) error {
	var noRoot *client.NoRootError
	if errors.As(err, &noRoot) {
		return fmt.Errorf("no root key is pinned in this home: the server presents cluster %q with root %s; "+
			"if that is the one you expect, use --trust-first-use, or better --root FILE", noRoot.Cluster, noRoot.Fingerprint)
	}
	return err
}

// printable returns text without what would move the cursor or colour of a terminal: it comes from strangers.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
			return '\ufffd'
		}
		return r
	}, text)
}
