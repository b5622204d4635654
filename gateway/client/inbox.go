package client

import (
	"context"
	"time"

	"linecard.example/gateway/client/media"
	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

// Event is what Receive returns: a *Message or a *Receipt.
type Event interface{ event() }

// Message is a message received. The application calls Done when it needs it no more from the server.
type Message struct {
	From       Account
	FromDevice Device
	ID         uint64         // the sending device's counter: with From and FromDevice it names the message
	SentAt     time.Time      // when the server stored it
	Claimed    string         // the sender's name as the sender says it: Client.Sender judges it
	To         string         // the recipient's name as the sender says it; tells for a copy where the original went
	Written    time.Time      // by the sender's clock
	Text       string         // of a file, its caption
	File       *media.Pointer // nil: the message is no file. Client.FetchFile gets it
	Readable   bool           // false: the payload is not of a version that this client knows; Text is ""
	Own        bool           // a copy of what another device of the own account sent
	Payload    []byte

	c    *Client
	size int
	// Client.mu
	done   bool
	marked bool  // written to the Home
	lsn    int64 // durable before the delivery is acked
}

func (*Message) event() {}

// Receipt says that messages of this device were delivered or read, or that some of another region's account's devices will not have them.
type Receipt struct {
	From Account // the recipient of the messages
	Name string  // of From, when it is known
	Read bool    // else delivered
	IDs  []uint64
	// Undelivered is why messages that were acked did not reach every device of an account of another region: stale_devices, those
	// devices that are in the message's list and still there have them, which may be none; else, none has. 0: this is no such receipt.
	Undelivered Reason
}

func (*Receipt) event() {}

// delivery is one numbered stanza of the session, in order, until it is acked.
type delivery struct {
	msg     *Message // nil for what is not shown
	receipt *Receipt // until it was handed out
	lsn     int64
	light   bool // nobody waits for its ack: the ack of a message tells its sender, that of a receipt nobody
}

const (
	// lightWait is how long acks of light deliveries wait for something else to be said: short against the second after which the
	// server may deliver again what was not acked.
	lightWait = 250 * time.Millisecond
	// lightShare of the window, and more of them, do not wait: the rest of it is for what is delivered meanwhile.
	lightShare = 4
)

type messageKey struct {
	peer
	id uint64
}

// inbox takes deliveries in and acks them. Its size is bounded by the session's window. Guarded by Client.mu.
type inbox struct {
	events  []Event
	more    chan struct{} // one token: events is not empty
	pending []*Message    // not marked yet, in the order of their first delivery
	byKey   map[messageKey]*Message
	seen    map[peer]uint64 // last id taken in by this run, above the Home's mark
	queue   []*delivery     // of this session, not acked yet
	waits   time.Time       // since when light deliveries wait to be acked; zero: none does

	maxCount, maxBytes int
	lightMost          int // so many light deliveries do not wait
	bytes              int // of pending
}

func newInbox() inbox {
	return inbox{more: make(chan struct{}, 1), byKey: map[messageKey]*Message{}, seen: map[peer]uint64{}}
}

// overWindow is how far beyond its window a server may deliver before the connection is given up. It has no business beyond it at
// all, but a message that was shown and not handled before a reconnect may stand beside the new window.
const overWindow = 4

func (in *inbox) attach(maxIDs, maxBytes int) {
	in.maxCount, in.maxBytes = overWindow*maxIDs, overWindow*maxBytes
	in.lightMost = max(maxIDs/lightShare, 1)
}

// detach forgets the session: whatever was not acked will be delivered again.
func (in *inbox) detach() {
	in.queue, in.waits = nil, time.Time{}
	kept := in.events[:0]
	for _, e := range in.events {
		if _, ok := e.(*Message); ok {
			kept = append(kept, e)
		}
	}
	clear(in.events[len(kept):])
	in.events = kept
}

func (in *inbox) push(d *delivery) error {
	if len(in.queue) >= in.maxCount || in.bytes > in.maxBytes+stanza.MaxStanza {
		return errFlood
	}
	in.queue = append(in.queue, d)
	return nil
}

// skip counts a delivery that there is nothing to do about.
func (in *inbox) skip() error { return in.push(&delivery{light: true}) }

func (in *inbox) show(e Event) {
	in.events = append(in.events, e)
	signal(in.more)
}

// ready reports whether d may be acked.
func (d *delivery) ready(durable int64) bool {
	switch {
	case d.receipt != nil:
		return false
	case d.msg != nil:
		return d.msg.marked && d.msg.lsn <= durable
	}
	return d.lsn <= durable
}

// takeAcks returns how many further deliveries are to be acked now. A few light ones wait for company, unless there is some.
func (in *inbox) takeAcks(durable int64, now time.Time, company bool) (n int) {
	light := true
	for n < len(in.queue) && in.queue[n].ready(durable) {
		light = light && in.queue[n].light
		n++
	}
	if n > 0 && light && n < in.lightMost && !company {
		if in.waits.IsZero() {
			in.waits = now
		}
		if now.Before(in.waits.Add(lightWait)) {
			return 0
		}
	}
	in.waits = time.Time{}
	clear(in.queue[:n])
	in.queue = in.queue[n:]
	return n
}

// nextTime returns when light deliveries have waited long enough; zero: none waits.
func (in *inbox) nextTime() time.Time {
	if in.waits.IsZero() {
		return in.waits
	}
	return in.waits.Add(lightWait)
}

// onMessage applies the id rule: what is not above the last id of its stream was here already; it is acked and not shown.
func (c *Client) onMessage(v stanza.View) error {
	m, err := stanza.ParseMessageDown(v)
	if err != nil {
		return err
	}
	in := &c.in
	p := peer{m.From, m.FromDevice}
	key := messageKey{p, m.ID}
	if old := in.byKey[key]; old != nil { // shown, or about to be, before the connection was lost
		return in.push(&delivery{msg: old})
	}
	if mark, lsn := c.home.marked(p); m.ID <= max(mark, in.seen[p]) && !planted.On(planted.NoIDRule) {
		return in.push(&delivery{lsn: lsn})
	}
	msg := &Message{
		From: m.From, FromDevice: m.FromDevice, ID: m.ID, SentAt: time.UnixMilli(m.SentAt).UTC(),
		Own: m.From == c.self.Account, Payload: append([]byte(nil), m.Body...), c: c, size: len(m.Body),
	}
	if pl, err := parsePayload(msg.Payload); err == nil {
		msg.Readable, msg.Text, msg.Claimed, msg.To, msg.Written = true, pl.text, pl.from, pl.to, pl.written
		msg.File = pl.file
	}
	if err := in.push(&delivery{msg: msg}); err != nil {
		return err
	}
	in.seen[p] = m.ID
	in.byKey[key] = msg
	in.pending = append(in.pending, msg)
	in.bytes += msg.size
	in.show(msg)
	if msg.Own {
		c.meetOwnDevice(msg.FromDevice)
	}
	return nil
}

func (c *Client) onReceipt(v stanza.View) error {
	r, err := stanza.ParseReceiptDown(v)
	if err != nil {
		return err
	}
	rec := &Receipt{From: r.From, Read: r.Tag == stanza.TagRead}
	rec.Name, _ = c.home.name(r.From)
	return c.showReceipt(rec, r.IDs)
}

// onUndelivered tells the application, and learns the device list that the messages were not made for.
func (c *Client) onUndelivered(v stanza.View) error {
	u, err := stanza.ParseUndelivered(v)
	if err != nil {
		return err
	}
	if u.Reason == stanza.ReasonStaleDevices {
		c.requestList(u.From)
	}
	rec := &Receipt{From: u.From, Undelivered: u.Reason}
	rec.Name, _ = c.home.name(u.From)
	return c.showReceipt(rec, u.IDs)
}

func (c *Client) showReceipt(rec *Receipt, packed []byte) error {
	for ids := stanza.Packed(packed); ; {
		id, ok := ids.Next()
		if !ok {
			break
		}
		rec.IDs = append(rec.IDs, id)
	}
	if err := c.in.push(&delivery{receipt: rec, light: true}); err != nil {
		return err
	}
	c.in.show(rec)
	return nil
}

// Receive returns the next event, in the order of delivery: messages of one sending device in the order in which they were sent. It
// waits for one until ctx ends or the client stops; what came before is returned first. A receipt counts as handled when it is
// returned, a message when its Done is called. When the application neither receives nor calls Done, the server stops delivering
// at the end of its window and, after 45 s, closes the session; nothing is lost, and the client reconnects.
func (c *Client) Receive(ctx context.Context) (Event, error) {
	for {
		if e := c.takeEvent(); e != nil {
			return e, nil
		}
		select {
		case <-c.in.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.done:
			if e := c.takeEvent(); e != nil {
				return e, nil
			}
			return nil, c.Err()
		}
	}
}

func (c *Client) takeEvent() Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := &c.in
	if len(in.events) == 0 {
		return nil
	}
	e := in.events[0]
	in.events[0] = nil
	in.events = in.events[1:]
	if len(in.events) > 0 {
		signal(in.more)
	}
	if r, ok := e.(*Receipt); ok {
		for _, d := range in.queue {
			if d.receipt == r {
				d.receipt = nil
				break
			}
		}
		signal(c.wake)
	}
	return e
}

// Done says that the application needs m no more from the server: it was shown, stored, or whatever it is for. When Done returns nil
// the Home has it written, so that a killed process does not show it again; it is acknowledged once that is synced. Marks are
// cumulative: a message takes effect when Done was called for all that Receive returned before it. Calling it again is harmless.
func (m *Message) Done() error {
	c := m.c
	c.mu.Lock()
	defer c.mu.Unlock()
	m.done = true
	in := &c.in
	for len(in.pending) > 0 && in.pending[0].done {
		first := in.pending[0]
		p := peer{first.From, first.FromDevice}
		lsn, err := c.home.putMark(p, first.ID)
		if err != nil {
			c.changed() // a home that cannot be written ends the client
			return err
		}
		first.lsn, first.marked = lsn, true
		in.pending[0] = nil
		in.pending = in.pending[1:]
		in.bytes -= first.size
		delete(in.byKey, messageKey{p, first.ID})
		if in.seen[p] == first.ID {
			delete(in.seen, p)
		}
	}
	c.changed()
	return nil
}
