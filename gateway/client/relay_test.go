package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

func TestRelayCredential(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		q, got, failed := asks(conn, func() (RelayCredential, error) { return c.RelayCredential(context.Background()) })
		if q.Op != stanza.OpRelay {
			t.Errorf("asked %+v", q)
		}
		conn.say(&stanza.QueryError{ID: q.ID, Reason: stanza.ReasonUnavailable, RetryAfter: 1000})
		if again, _ := stanza.ParseQuery(conn.want(stanza.TagQuery)); again.ID != q.ID || again.Op != stanza.OpRelay {
			t.Errorf("asked again %+v", again)
		}
		conn.say(&stanza.Result{ID: q.ID, Expiry: 1_800_043_200_000, Username: []byte("1800043200:21"), Password: []byte("p"),
			URLs: stanza.AppendURLs(nil, []string{"turn:a?transport=udp", "file:///etc", "turns:b:443", "later:c"})})
		r, err := <-got, <-failed
		if err != nil || r.Username != "1800043200:21" || r.Password != "p" || !r.Expires.Equal(time.Unix(1_800_043_200, 0)) ||
			!slices.Equal(r.URLs, []string{"turn:a?transport=udp", "turns:b:443"}) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestRelayCredentialRefused: that there is none is told at once and by name, and half an answer is none.
func TestRelayCredentialRefused(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		q, got, failed := asks(conn, func() (RelayCredential, error) { return c.RelayCredential(context.Background()) })
		conn.say(&stanza.QueryError{ID: q.ID, Reason: stanza.ReasonForbidden})
		if r, err := <-got, <-failed; r.Username != "" || !errors.Is(err, ErrNoRelay) {
			t.Errorf("%+v, %v", r, err)
		}
		name, password, urls := []byte("n"), []byte("p"), stanza.AppendURLs(nil, []string{"turn:a"})
		for _, r := range []stanza.Result{
			{}, {Username: name, Password: password, URLs: urls}, {Expiry: 1, Password: password, URLs: urls}, {Expiry: 1, Username: name, URLs: urls},
			{Expiry: 1, Username: name, Password: password},
			{Expiry: 1, Username: name, Password: password, URLs: stanza.AppendURLs(nil, []string{"https://a"})},
		} {
			q, got, failed := asks(conn, func() (RelayCredential, error) { return c.RelayCredential(context.Background()) })
			r.ID = q.ID
			conn.say(&r)
			if c, err := <-got, <-failed; c.Username != "" || err == nil {
				t.Errorf("%+v gives %+v", r, c)
			}
		}
	})
}
