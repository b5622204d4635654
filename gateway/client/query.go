package client

import (
	"context"
	"time"

	"linecard.example/internal/stanza"
)

const (
	maxAsked   = 32 // queries unanswered at the server at a time
	queryTries = 6  // doublings of the resend time
)

// query is an open query. It lasts over reconnects until it is answered or its caller gives up.
type query struct {
	q       stanza.Query
	sent    bool
	due     time.Time            // resend when sent; not before, when not
	silent  int                  // transmissions since the last answer
	refused int                  // answers that were refusals which pass
	done    func(*answer, error) // under Client.mu
}

// answer is a result, copied out of its frame.
type answer struct {
	account Account
	device  Device
	handle  string
	list    deviceList
	hasList bool
	grant   *Grant
	relay   *RelayCredential
}

// queryBook keeps the open queries. Guarded by Client.mu.
type queryBook struct {
	last   uint64 // query number
	open   map[uint64]*query
	unsent []uint64         // to look at, in order
	asking int              // sent
	lists  map[Account]bool // device lists asked for by the outbox
	jitter func() float64
}

func newQueryBook(jitter func() float64) queryBook {
	return queryBook{open: map[uint64]*query{}, lists: map[Account]bool{}, jitter: jitter}
}

// add opens a query and returns its number.
func (b *queryBook) add(q stanza.Query, done func(*answer, error)) uint64 {
	b.last++
	q.ID = b.last
	b.open[q.ID] = &query{q: q, done: done}
	b.unsent = append(b.unsent, q.ID)
	return q.ID
}

// take closes a query; nil when it is not open (any more).
func (b *queryBook) take(id uint64) *query {
	q := b.open[id]
	if q == nil {
		return nil
	}
	delete(b.open, id)
	if q.sent {
		b.asking--
	}
	return q
}

// gather appends the queries that are to be sent now.
func (b *queryBook) gather(dst []byte, now time.Time) []byte {
	if b.asking > 0 {
		for id, q := range b.open { // at most maxAsked are sent
			if q.sent && !q.due.After(now) {
				q.sent, q.due = false, time.Time{}
				b.asking--
				b.unsent = append(b.unsent, id)
			}
		}
	}
	kept := b.unsent[:0]
	for _, id := range b.unsent {
		q := b.open[id]
		switch {
		case q == nil:
		case b.asking >= maxAsked || q.due.After(now) || len(dst) > frameFill:
			kept = append(kept, id)
		default:
			dst = q.q.Append(dst)
			q.sent, q.due = true, now.Add(resendFirst<<min(q.silent, queryTries))
			q.silent++
			b.asking++
		}
	}
	b.unsent = kept
	return dst
}

// nextTime returns when gather may have something that it has not now; zero for never.
func (b *queryBook) nextTime(now time.Time) (at time.Time) {
	for _, q := range b.open {
		if q.due.After(now) && (at.IsZero() || q.due.Before(at)) {
			at = q.due
		}
	}
	return at
}

// restart has every open query sent again on the next connection.
func (b *queryBook) restart() {
	b.asking, b.unsent = 0, b.unsent[:0]
	for id := range b.open {
		q := b.open[id]
		q.sent, q.due, q.silent, q.refused = false, time.Time{}, 0, 0
		b.unsent = append(b.unsent, id)
	}
}

func (c *Client) onResult(v stanza.View) error {
	r, err := stanza.ParseResult(v)
	if err != nil {
		return err
	}
	q := c.asked.take(r.ID)
	if q == nil {
		return nil
	}
	a := &answer{
		account: r.Account, device: r.Device, handle: string(r.Handle), list: deviceList{version: r.Version}, grant: grantOf(&r), relay: relayOf(&r),
	}
	if !r.Devices.None() {
		a.hasList = true
		if a.list.devices, err = r.Devices.Keys(nil); err != nil {
			return err
		}
	}
	q.done(a, nil)
	return nil
}

func (c *Client) onQueryError(v stanza.View) error {
	e, err := stanza.ParseQueryError(v)
	if err != nil {
		return err
	}
	q := c.asked.open[e.ID]
	if q == nil {
		return nil
	}
	if e.Reason.Final() {
		c.asked.take(e.ID)
		q.done(nil, &RefusedError{Reason: e.Reason})
		return nil
	}
	q.silent = 0 // a server that answers is not one that lost the query
	q.refused++
	wait := spread(min(time.Second<<min(q.refused, queryTries), time.Minute), c.opt.jitter())
	if e.RetryAfter > 0 {
		wait = spread(min(time.Duration(e.RetryAfter)*time.Millisecond, maxHold), c.opt.jitter())
	}
	if q.sent {
		q.sent = false
		c.asked.asking--
		c.asked.unsent = append(c.asked.unsent, e.ID)
	}
	q.due = time.Now().Add(wait)
	return nil
}

// ask sends a query and waits for its answer, over reconnects and refusals that pass, until ctx ends.
func (c *Client) ask(ctx context.Context, q stanza.Query) (*answer, error) {
	type outcome struct {
		a   *answer
		err error
	}
	got := make(chan outcome, 1)
	c.mu.Lock()
	if err := c.err; err != nil {
		c.mu.Unlock()
		return nil, err
	}
	id := c.asked.add(q, func(a *answer, err error) { got <- outcome{a, err} })
	if c.sess == nil {
		signal(c.hurry)
	}
	c.mu.Unlock()
	signal(c.wake)
	select {
	case o := <-got:
		return o.a, o.err
	case <-ctx.Done():
		c.mu.Lock()
		c.asked.take(id)
		c.mu.Unlock()
		return nil, ctx.Err()
	case <-c.done:
		return nil, c.Err()
	}
}
