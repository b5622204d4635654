package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"linecard.example/internal/stanza"
)

// RelayCredential is what a call needs to go through a relay: an ICE server, as WebRTC calls it. It is as secret as what it permits, which is
// to use relays at the account's cost.
type RelayCredential struct {
	Username string
	Password string
	Expires  time.Time // by the server's clock; the relay refuses it from then on, in calls that go on too
	URLs     []string  // where relays are, turn: and turns: as RFC 7065 has them, those that the operator prefers first
}

// ErrNoRelay says that the server has no relay.
var ErrNoRelay = errors.New("the server has no relay")

// RelayCredential asks for credentials for relays. They serve for any number of calls of the account until they expire; a call should begin with
// those of which half of the time is left at least. It waits over reconnects until ctx ends. Errors: ErrNoRelay, ctx's, the client's.
func (c *Client) RelayCredential(ctx context.Context) (RelayCredential, error) {
	a, err := c.ask(ctx, stanza.Query{Op: stanza.OpRelay})
	switch {
	case refusedFor(err, stanza.ReasonForbidden): // of a server before there were relays, too
		err = ErrNoRelay
	case err == nil && a.relay == nil:
		err = errors.New("the answer has none")
	}
	if err != nil {
		return RelayCredential{}, fmt.Errorf("credentials for a relay: %w", err)
	}
	return *a.relay, nil
}

// relayOf returns the credentials of a result, nil when there are none that are whole.
func relayOf(r *stanza.Result) *RelayCredential {
	c := &RelayCredential{Username: string(r.Username), Password: string(r.Password), Expires: time.UnixMilli(r.Expiry)}
	for _, u := range r.RelayURLs() {
		if strings.HasPrefix(u, "turn:") || strings.HasPrefix(u, "turns:") { // nothing but relays, whatever the server says
			c.URLs = append(c.URLs, u)
		}
	}
	if c.Username == "" || c.Password == "" || r.Expiry == 0 || len(c.URLs) == 0 {
		return nil
	}
	return c
}
