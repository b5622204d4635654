package gateway

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/config"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// publicOf is what a mediad verifies with.
func publicOf(ids ...uint32) (publics []wire.GrantPublic) {
	for _, id := range ids {
		k := ticketKey(id)
		g := k.GrantKey()
		publics = append(publics, g.Public())
	}
	return publics
}

// askGrant asks for a grant and returns the result, which must be one.
func (c *raw) askGrant(q stanza.Query) stanza.Result {
	c.t.Helper()
	q.Op = stanza.OpMediaGrant
	return c.ask(q)
}

// refusedGrant asks for one and returns why it is refused.
func (c *raw) refusedGrant(q stanza.Query) stanza.QueryError {
	c.t.Helper()
	q.Op = stanza.OpMediaGrant
	return c.refusedQuery(q)
}

func withMedia(c *Config) { c.MediaURL = "https://media.example.com" }

// TestMediaGrant: what a session asks for it gets signed, for its account and nobody else's, with the second newest key.
func TestMediaGrant(t *testing.T) {
	h := start(t, withMedia)
	h.keys(1, 9)
	h.untilKey(9)
	c := h.bind(5)
	blob := bytes.Repeat([]byte{0xb0}, wire.BlobSize)
	now := h.clock.Now().Unix()
	check := func(q stanza.Query, key uint32, want wire.Grant) {
		t.Helper()
		r := c.askGrant(q)
		want.Account, want.Expires = 5, now+15*60
		var got wire.Grant
		if err := wire.OpenGrant(&got, publicOf(key), r.Grant, now); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
		if string(r.URL) != "https://media.example.com" || r.Expiry != want.Expires*1000 || r.Account != 0 {
			t.Errorf("%+v", r)
		}
	}
	check(stanza.Query{ID: 1, Method: wire.GrantUpload, Size: 100 << 20, Account: 77}, 9, wire.Grant{Method: wire.GrantUpload, Limit: 100 << 20})
	check(stanza.Query{ID: 2, Method: wire.GrantDownload, Blob: blob, Size: 1 << 50}, 9, wire.Grant{Method: wire.GrantDownload, Blob: [32]byte(blob)})
	h.keys(1, 10, 9)
	h.untilKey(10)
	check(stanza.Query{ID: 3, Method: wire.GrantDelete, Blob: blob}, 9, wire.Grant{Method: wire.GrantDelete, Blob: [32]byte(blob)})
	h.keys(1, 11, 10, 9)
	h.untilKey(11)
	check(stanza.Query{ID: 4, Method: wire.GrantUpload, Size: 1, Blob: blob}, 10, wire.Grant{Method: wire.GrantUpload, Limit: 1})
	if up, down := h.count("linecard_gateway_grants_total", "upload"), h.count("linecard_gateway_grants_total", "download"); up != 2 || down != 1 {
		t.Errorf("%v uploads, %v downloads", up, down)
	}
}

// TestMediaGrantRefused: each refusal has its reason, nothing of it ends the session, and nobody else is asked.
func TestMediaGrantRefused(t *testing.T) {
	h := start(t, func(c *Config) { withMedia(c); c.LookupBurst = 9 })
	c := h.bind(5)
	upload := stanza.Query{ID: 1, Method: wire.GrantUpload, Size: 1}
	if e := c.refusedGrant(upload); e.Reason != stanza.ReasonUnavailable || e.RetryAfter == 0 {
		t.Errorf("without keys: %+v", e)
	}
	h.keys(1, 9)
	h.untilKey(9)
	for name, x := range map[string]struct {
		q    stanza.Query
		want stanza.Reason
	}{
		"no size":       {stanza.Query{ID: 2, Method: wire.GrantUpload}, stanza.ReasonForbidden},
		"too large":     {stanza.Query{ID: 3, Method: wire.GrantUpload, Size: 100<<20 + 1}, stanza.ReasonTooLarge},
		"no blob":       {stanza.Query{ID: 4, Method: wire.GrantDownload}, stanza.ReasonForbidden},
		"blob of zeros": {stanza.Query{ID: 5, Method: wire.GrantDelete, Blob: make([]byte, 32)}, stanza.ReasonForbidden},
		"no method":     {stanza.Query{ID: 6, Size: 1}, stanza.ReasonForbidden},
		"later method":  {stanza.Query{ID: 7, Method: 4, Size: 1}, stanza.ReasonForbidden},
		"largest size":  {stanza.Query{ID: 8, Method: wire.GrantUpload, Size: stanza.MaxID}, stanza.ReasonTooLarge},
	} {
		if e := c.refusedGrant(x.q); e.Reason != x.want || e.RetryAfter != 0 {
			t.Errorf("%s: %+v, want %v", name, e, x.want)
		}
	}
	c.askGrant(upload)
	if e := c.refusedGrant(upload); e.Reason != stanza.ReasonBusy || e.RetryAfter == 0 {
		t.Errorf("above the rate: %+v", e)
	}
	h.advance(time.Second)
	c.askGrant(upload)
}

// TestNoMedia: a gateway that was told of no mediad gives no grants.
func TestNoMedia(t *testing.T) {
	h := start(t, nil)
	h.keys(1, 9)
	h.untilKey(9)
	if e := h.bind(5).refusedGrant(stanza.Query{ID: 1, Method: wire.GrantUpload, Size: 1}); e.Reason != stanza.ReasonForbidden {
		t.Errorf("%+v", e)
	}
}

func TestMediaConfig(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, "https://media.example.com": true, "http://127.0.0.1:7402": true, "https://[::1]:7402/a/b": true,
		"media.example.com": false, "ftp://media.example.com": false, "https://": false, "https://:7402": false, "https://m/": false,
		"https://user@m": false, "https://m?x=1": false, "https://m?": false, "https://m#": false, "https://m#x": false, "https://%zz": false,
		"https://m/" + strings.Repeat("x", stanza.MaxMediaURL): false,
	} {
		c := DefaultConfig()
		c.MediaURL = text
		if faults := c.Validate(); (len(faults) == 0) != ok {
			t.Errorf("%q: %v", text, faults)
		}
	}
	c := DefaultConfig()
	c.MediaGrantLife, c.MediaMax = config.Duration(time.Millisecond), 1
	if faults := c.Validate(); len(faults) != 2 {
		t.Error(faults)
	}
}
