package gateway

import (
	"slices"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/config"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

var relayURLs = []string{"turn:relay.example.com:3478?transport=udp", "turns:relay.example.com:5349?transport=tcp"}

func withRelay(c *Config) { c.RelayURLs = relayURLs }

func askRelay(id uint64) stanza.Query { return stanza.Query{ID: id, Op: stanza.OpRelay} }

// TestRelayCredential: a session gets what relays that were told the secrets of the same keys let in, for its own account.
func TestRelayCredential(t *testing.T) {
	h := start(t, func(c *Config) { withRelay(c); c.RelayLife = config.Duration(time.Hour) })
	h.keys(1, 9)
	h.untilKey(9)
	c := h.bind(5)
	expires := h.clock.Now().Unix() + 3600
	check := func(id uint64, key uint32) {
		t.Helper()
		r := c.ask(askRelay(id))
		account, until, ok := wire.ParseRelayName(string(r.Username))
		k := ticketKey(key)
		secret := k.RelaySecret()
		if want := secret.AppendPassword(nil, string(r.Username)); !ok || account != "5" || until != expires || string(r.Password) != string(want) {
			t.Errorf("%q, %q, want %q", r.Username, r.Password, want)
		}
		if r.Expiry != expires*1000 || !slices.Equal(r.RelayURLs(), relayURLs) || r.Account != 0 || len(r.URL) > 0 {
			t.Errorf("%+v", r)
		}
	}
	check(1, 9)
	h.keys(1, 10, 9)
	h.untilKey(10)
	check(2, 9) // which every relay has heard of
	h.keys(1, 11, 10, 9)
	h.untilKey(11)
	check(3, 10)
	if n := h.count("linecard_gateway_relay_credentials_total"); n != 3 {
		t.Errorf("%v counted", n)
	}
}

// TestRelayCredentialRefused: nothing of it ends the session, and nobody else is asked.
func TestRelayCredentialRefused(t *testing.T) {
	h := start(t, func(c *Config) { withRelay(c); c.LookupBurst = 2 })
	c := h.bind(5)
	if e := c.refusedQuery(askRelay(1)); e.Reason != stanza.ReasonUnavailable || e.RetryAfter == 0 {
		t.Errorf("without keys: %+v", e)
	}
	h.keys(1, 9)
	h.untilKey(9)
	c.ask(askRelay(2))
	if e := c.refusedQuery(askRelay(3)); e.Reason != stanza.ReasonBusy || e.RetryAfter == 0 {
		t.Errorf("above the rate: %+v", e)
	}
	h.advance(time.Second)
	c.ask(askRelay(3))
	if n := h.count("linecard_gateway_relay_credentials_total"); n != 2 {
		t.Errorf("%v counted", n)
	}
}

// TestNoRelay: a gateway that was told of no relay gives no credentials.
func TestNoRelay(t *testing.T) {
	h := start(t, nil)
	h.keys(1, 9)
	h.untilKey(9)
	if e := h.bind(5).refusedQuery(askRelay(1)); e.Reason != stanza.ReasonForbidden || e.RetryAfter != 0 {
		t.Errorf("%+v", e)
	}
}

func TestRelayConfig(t *testing.T) {
	for text, ok := range map[string]bool{
		"turn:relay.example.com": true, "turns:relay.example.com:5349": true, "turn:192.0.2.1:3478?transport=udp": true, "turn:[2001:db8::1]": true,
		"turns:[2001:db8::1]:443?transport=tcp": true, "turn:relay_1:65535": true, "turn:" + strings.Repeat("x", stanza.MaxRelayURL-5): true,
		"": false, "turn": false, "turn:": false, "turn::3478": false, "relay.example.com:3478": false, "stun:relay.example.com": false,
		"TURN:relay.example.com": false, "turn://relay.example.com": false, "turn:user@relay.example.com": false, "turn:a b c": false,
		"turn:relay:0": false, "turn:relay:65536": false, "turn:relay:": false, "turn:relay:+1": false, "turn:relay:03478": false, "turn:relay:1:2": false,
		"turn:relay?": false, "turn:relay?transport=tls": false, "turn:relay?transport=udp&x=1": false, "turn:relay#x": false, "turn:relay/x": false,
		"turn:[::]:3478": false, "turn:0.0.0.0:3478": false, "turn:[192.0.2.1]": false, "turn:[fe80::1%eth0]": false, "turn:2001:db8::1": false,
		"turn:[2001:db8::1": false, "turn:2001:db8::1]": false, "turn:[2001:db8::1]x": false, "turn:[2001:db8::1]:": false, "turn:[]": false,
		"turn:" + strings.Repeat("x", stanza.MaxRelayURL-4): false,
	} {
		c := DefaultConfig()
		c.RelayURLs = []string{text}
		if faults := c.Validate(); (len(faults) == 0) != ok {
			t.Errorf("%q: %v", text, faults)
		}
	}
	c := DefaultConfig()
	c.RelayURLs, c.RelayLife = []string{"turn:a", "turn:b", "turn:a", "turn:"}, config.Duration(25*time.Hour)
	if faults := c.Validate(); len(faults) != 3 {
		t.Error(faults)
	}
	c = DefaultConfig()
	for i := range stanza.MaxRelayURLs + 1 {
		c.RelayURLs = append(c.RelayURLs, "turn:r"+strings.Repeat("x", i))
	}
	if faults := c.Validate(); len(faults) != 1 {
		t.Error(faults)
	}
}
