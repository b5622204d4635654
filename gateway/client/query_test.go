package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
)

func TestUnknownName(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		failed := make(chan error)
		go func() {
			_, err := c.Send(context.Background(), "nobody", "x")
			failed <- err
		}()
		q, _ := stanza.ParseQuery(conn.want(stanza.TagQuery))
		conn.say(&stanza.QueryError{ID: q.ID, Reason: stanza.ReasonBusy, RetryAfter: 2000}) // limits pass
		q2, _ := stanza.ParseQuery(conn.want(stanza.TagQuery))
		if q2.ID != q.ID {
			t.Fatalf("query %d again as %d", q.ID, q2.ID)
		}
		conn.say(&stanza.QueryError{ID: q.ID, Reason: stanza.ReasonUnknownAccount})
		if err := <-failed; !errors.Is(err, ErrUnknownName) || !strings.Contains(err.Error(), "nobody") {
			t.Fatalf("got %v", err)
		}
		if _, err := c.Send(t.Context(), "no body", "x"); !errors.Is(err, ErrBadName) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestRefusedQueryIsNotASilentOne: after refusals that pass, a lost query is asked again as soon as a first one, not after the doublings
// of the refusals.
func TestRefusedQueryIsNotASilentOne(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		asked := make(chan error)
		go func() {
			_, err := c.Lookup(context.Background(), "bob")
			asked <- err
		}()
		for range 4 {
			q, _ := stanza.ParseQuery(conn.want(stanza.TagQuery))
			conn.say(&stanza.QueryError{ID: q.ID, Reason: stanza.ReasonBusy, RetryAfter: 50})
		}
		conn.want(stanza.TagQuery) // lost
		lost := time.Now()
		q, _ := stanza.ParseQuery(conn.want(stanza.TagQuery))
		if wait := time.Since(lost); wait != resendFirst {
			t.Errorf("asked again after %v", wait)
		}
		conn.say(&stanza.Result{ID: q.ID, Account: bobAccount, Version: 1, Devices: list(1)})
		if err := <-asked; err != nil {
			t.Error(err)
		}
	})
}

// TestUnknownListIsAskedForAtOnce: a message to an account whose device list is not known waits for no other occasion to ask.
func TestUnknownListIsAskedForAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start()
		defer c.Close()
		conn := f.bind()
		synctest.Wait()
		if _, err := c.SendPayload(t.Context(), carolAccount, []byte("x")); err != nil {
			t.Fatal(err)
		}
		v, ok := conn.hear(time.Second)
		q, err := stanza.ParseQuery(v)
		if !ok || err != nil || q.Op != stanza.OpDeviceList || q.Account != carolAccount {
			t.Fatalf("%v %+v %v", ok, q, err)
		}
		conn.say(&stanza.Result{ID: q.ID, Account: carolAccount, Version: 1, Devices: list(1)})
		conn.message(2048, 0)
	})
}
