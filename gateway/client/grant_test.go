package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// asks runs f, which asks the server for something, and returns what the server is asked, and where f's outcome will be.
func asks[T any](conn *fakeConn, f func() (T, error)) (q stanza.Query, got chan T, failed chan error) {
	got, failed = make(chan T, 1), make(chan error, 1)
	go func() {
		x, err := f()
		got <- x
		failed <- err
	}()
	q, _ = stanza.ParseQuery(conn.want(stanza.TagQuery))
	return q, got, failed
}

func TestGrants(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		blob := [BlobSize]byte{7, 31: 9}
		for _, x := range []struct {
			ask    func() (*Grant, error)
			method stanza.GrantMethod
			size   uint64
			blob   string
		}{
			{func() (*Grant, error) { return c.UploadGrant(context.Background(), 12345) }, stanza.GrantUpload, 12345, ""},
			{func() (*Grant, error) { return c.UploadGrant(context.Background(), 1<<62) }, stanza.GrantUpload, stanza.MaxID, ""},
			{func() (*Grant, error) { return c.DownloadGrant(context.Background(), blob) }, stanza.GrantDownload, 0, string(blob[:])},
			{func() (*Grant, error) { return c.DeleteGrant(context.Background(), blob) }, stanza.GrantDelete, 0, string(blob[:])},
		} {
			q, got, failed := asks(conn, x.ask)
			if q.Op != stanza.OpMediaGrant || q.Method != x.method || q.Size != x.size || string(q.Blob) != x.blob {
				t.Errorf("asked %+v", q)
			}
			conn.say(&stanza.Result{ID: q.ID, Expiry: 1_800_000_900_000, Grant: []byte{0xfb, 0xff}, URL: []byte("https://m.example")})
			if g, err := <-got, <-failed; err != nil || g.URL != "https://m.example" || g.Text != "-_8" || !g.Expires.Equal(time.Unix(1_800_000_900, 0)) {
				t.Errorf("%+v, %v", g, err)
			}
		}
	})
}

// TestGrantsRefused: what cannot be had is told at once and by name, what passes is asked for again.
func TestGrantsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		ask := func() (*Grant, error) { return c.UploadGrant(context.Background(), 1) }
		for reason, want := range map[stanza.Reason]error{stanza.ReasonForbidden: ErrNoMedia, stanza.ReasonTooLarge: ErrBlobTooLarge} {
			q, got, failed := asks(conn, ask)
			conn.say(&stanza.QueryError{ID: q.ID, Reason: stanza.ReasonUnavailable, RetryAfter: 1000})
			if again, _ := stanza.ParseQuery(conn.want(stanza.TagQuery)); again.ID != q.ID || again.Size != 1 || again.Method != stanza.GrantUpload {
				t.Errorf("asked again %+v", again)
			}
			conn.say(&stanza.QueryError{ID: q.ID, Reason: reason})
			if g, err := <-got, <-failed; g != nil || !errors.Is(err, want) {
				t.Errorf("%v: %+v, %v", reason, g, err)
			}
		}
		for _, r := range []stanza.Result{
			{}, {Expiry: 1, Grant: []byte("g")}, {Expiry: 1, URL: []byte("https://m")}, {Grant: []byte("g"), URL: []byte("https://m")},
			{Expiry: 1, Grant: []byte("g"), URL: []byte("file:///etc")},
		} {
			q, got, failed := asks(conn, ask)
			r.ID = q.ID
			conn.say(&r)
			if g, err := <-got, <-failed; g != nil || err == nil {
				t.Errorf("%+v gives %+v", r, g)
			}
		}
		if _, err := c.UploadGrant(context.Background(), 0); err == nil {
			t.Error("a grant for nothing")
		}
	})
}
