package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Client keeps one device's session up. Make one with Open or Start; Close it. Safe for concurrent use.
type Client struct {
	opt  Options
	home *Home
	log  *slog.Logger

	ctx    context.Context // ends with Close, or with a terminal error
	cancel context.CancelFunc
	wg     sync.WaitGroup
	done   chan struct{} // closed when every goroutine is gone
	wake   chan struct{} // one token: the writer has something to look at
	dirty  chan struct{} // one token: the Home has something to sync
	hurry  chan struct{} // one token: connect again soon

	doubt int // in the ticket, 0 while none is shown: see inDoubt; owned by run

	notifyMu sync.Mutex // one notice at a time; taken before mu

	mu      sync.Mutex
	err     error         // terminal
	trouble error         // why the last connection ended, until the next is bound
	news    chan struct{} // closed and replaced when err, trouble or ready change
	ready   bool          // bound once, own devices known
	sess    *session      // bound; nil in between
	self    Identity
	out     outbox
	room    chan struct{} // closed and replaced when the outbox shrinks
	in      inbox
	asked   queryBook
	pace    pace
	notices []Notice
	aged    time.Time // when the outbox was last searched for what is too old
}

// Start starts a client on o.Home and returns at once; the Home's pins and its unacked messages are taken over. Errors: what is wrong
// with o, ErrHomeInUse, ErrRoots, or of the Home.
func Start(o Options) (*Client, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := o.Home.claim(); err != nil {
		return nil, err
	}
	if err := o.Home.Pin(o.Roots...); err != nil {
		o.Home.release()
		return nil, err
	}
	if err := o.Home.sync(); err != nil {
		o.Home.release()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{
		opt: o, home: o.Home, log: o.Logger, ctx: ctx, cancel: cancel,
		done: make(chan struct{}), wake: make(chan struct{}, 1), dirty: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		news: make(chan struct{}), room: make(chan struct{}),
		out: newOutbox(o.jitter), in: newInbox(), asked: newQueryBook(o.jitter),
	}
	c.self, _ = o.Home.Identity()
	learnt, failed := o.Home.takePace()
	c.pace = newPace(o.PingInterval, learnt, failed)
	c.loadOutbox()
	c.wg.Add(1)
	go c.run()
	if o.Home.dir != "" {
		c.wg.Add(1)
		go c.syncLoop()
	}
	go func() {
		c.wg.Wait()
		c.home.release()
		close(c.done)
	}()
	return c, nil
}

// Open is Start, then Ready; when the client cannot be ready it is closed and the error is Ready's.
func Open(ctx context.Context, o Options) (*Client, error) {
	c, err := Start(o)
	if err != nil {
		return nil, err
	}
	if err := c.Ready(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Ready waits until the client was bound for the first time: then it can send. It returns early when the client stops, or when a
// server fails to prove that it belongs to the pinned cluster (*CertificateError; the client goes on trying in the background). At the end of
// ctx the error says what the last attempt failed with.
func (c *Client) Ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		ready, err, trouble, news := c.ready, c.err, c.trouble, c.news
		c.mu.Unlock()
		var untrusted *CertificateError
		switch {
		case err != nil:
			return err
		case ready:
			return nil
		case errors.As(trouble, &untrusted):
			return untrusted
		}
		select {
		case <-news:
		case <-ctx.Done():
			if trouble != nil {
				return fmt.Errorf("no session yet: %w (%w)", trouble, ctx.Err())
			}
			return fmt.Errorf("no session yet: %w", ctx.Err())
		}
	}
}

// Close ends the session and the client's goroutines, after what was handled by the application has been acknowledged as far as the
// connection allows. Unacked messages stay in the Home. It does not close the Home. Closing twice is harmless.
func (c *Client) Close() {
	c.stop(ErrClosed)
	<-c.done
}

// stop makes the client end with err, unless it has ended already.
func (c *Client) stop(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		c.announce()
	}
	c.mu.Unlock()
	c.cancel()
}

// announce wakes whoever waits for news. Caller holds mu.
func (c *Client) announce() {
	close(c.news)
	c.news = make(chan struct{})
}

// Done is closed when the client has ended, by Close or by itself; Err says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client ended or is about to: ErrClosed, *CloseError, *NoRootError, or an error of the Home. nil while it runs.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Self returns who the client is; zero before it was bound for the first time in the Home's life.
func (c *Client) Self() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.self
}

// Connected reports whether a session is bound now, and otherwise what the last attempt failed with, nil if it has not yet.
func (c *Client) Connected() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sess != nil, cmp.Or(c.err, c.trouble)
}

// Hurry tells the client that connecting may work now: the network changed, the user came back. A wait that the server asked for is
// not cut short.
func (c *Client) Hurry() { signal(c.hurry) }

// signal leaves a token in ch unless there is one.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// drain takes the token out of ch, if there is one.
func drain(ch chan struct{}) {
	select {
	case <-ch:
	default:
	}
}

// changed has the Home synced, and then the writer look at what became durable.
func (c *Client) changed() {
	if c.home.dir == "" {
		signal(c.wake)
		return
	}
	signal(c.dirty)
}

// syncLoop syncs the Home whenever it has changed: everything that was written during one sync is covered by the next, which is the
// group commit.
func (c *Client) syncLoop() {
	defer c.wg.Done()
	for {
		select {
		case <-c.dirty:
		case <-c.ctx.Done():
			return
		}
		if err := c.home.sync(); err != nil {
			c.log.Error("home cannot be written", "err", err)
			c.stop(fmt.Errorf("%w: %w", errFatal, err))
			return
		}
		signal(c.wake)
	}
}

// note queues a notice; flushNotices hands it out. Caller holds mu.
func (c *Client) note(n Notice) {
	if c.opt.Notify == nil {
		return
	}
	if n.To != 0 {
		n.Name, _ = c.home.name(n.To)
	}
	c.notices = append(c.notices, n)
}

// flushNotices hands out what was noted, in order. Caller holds no lock. Only the goroutines of the client call it.
func (c *Client) flushNotices() {
	if c.opt.Notify == nil {
		return
	}
	c.notifyMu.Lock()
	defer c.notifyMu.Unlock()
	c.mu.Lock()
	list := c.notices
	c.notices = nil
	c.mu.Unlock()
	for _, n := range list {
		c.opt.Notify(n)
	}
}

// run connects, again and again.
func (c *Client) run() {
	defer c.wg.Done()
	plans := schedule{jitter: c.opt.jitter}
	for c.ctx.Err() == nil {
		lived, err := c.connectOnce()
		if c.ctx.Err() != nil {
			break
		}
		p := plans.after(err, lived)
		if p.stop {
			c.stop(err)
			break
		}
		c.mu.Lock()
		c.trouble = err
		c.announce()
		c.note(Notice{Kind: NoticeDisconnected, Err: err, RetryIn: p.wait})
		c.expire(time.Now())
		c.mu.Unlock()
		c.log.Info("disconnected", "err", err, "retry_in", p.wait)
		c.flushNotices()
		c.pause(p, &plans)
	}
	c.mu.Lock()
	c.note(Notice{Kind: NoticeStopped, Err: c.err})
	c.mu.Unlock()
	c.flushNotices()
}

// pause waits as planned. A user's send or a network change starts the schedule anew and ends the wait, but not one that the server
// asked for, and not within a second of the last attempt: a shorter wait than that stands, and the schedule with it, or somebody who
// sends all the time would connect all the time.
func (c *Client) pause(p plan, plans *schedule) {
	if p.wait == 0 {
		return
	}
	timer := time.NewTimer(p.wait)
	defer timer.Stop()
	hurry := c.hurry
	if p.patient || p.wait <= backoffUnit {
		hurry = nil
	}
	select {
	case <-timer.C:
		return
	case <-c.ctx.Done():
		return
	case <-hurry:
	}
	plans.reset()
	select {
	case <-timer.C:
	case <-time.After(backoffUnit):
	case <-c.ctx.Done():
	}
}
