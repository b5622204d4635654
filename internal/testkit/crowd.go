package testkit

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// Crowd is the innocent: sessions in pairs that exchange numbered messages, both ways, for as long as a test does its worst to the
// server beside them. The recipients look at the wire itself and not behind a client's id rule: each number must come once and in
// turn. A session that ends, a message lost, doubled or out of turn, is a fault of the test.
//
// A member has one message under way and sends it again when the server asks for that, so that storage_full and the like only hold
// it up. Methods are for the test's goroutine.
type Crowd struct {
	t       testing.TB
	members []*member
	pace    time.Duration
	stop    chan struct{} // no further messages
	over    chan struct{} // nothing at all: connections end
	senders sync.WaitGroup

	mu     sync.Mutex
	faults []error
	ending bool // sessions may end
}

// CrowdOptions say who is in a crowd.
type CrowdOptions struct {
	Sessions int                      // even; 0: 50
	Prefix   string                   // of the handles; "": crowd
	Pace     time.Duration            // between two messages of one; 0: 50 ms
	Skip     func(handle string) bool // nil: none. Handles not to use, such as those of a shard that is to break
}

// crowdPace is how long a member rests between two messages: it is to show that the server serves it, not how much.
const crowdPace = 50 * time.Millisecond

// member is one session of a crowd.
type member struct {
	*Lean
	crowd  *Crowd
	peer   *member            // set under mu
	answer chan stanza.Reason // to the message under way: 0 acked, else why it goes again

	mu    sync.Mutex // never held together with Lean's
	sent  uint64     // numbers: from 1, without gaps
	acked uint64
	got   uint64 // of the peer's
}

// firstID is above what a new device must skip: bound's 0 and 2,048.
const firstID = 4096

// resendAfter is how long a member waits for an answer.
const resendAfter = 5 * time.Second

// NewCrowd connects a crowd and waits until everybody has sent and received once. The server must let them in: see the settings
// handshake_burst and register_burst. It ends with the test.
func (s *System) NewCrowd(o CrowdOptions) *Crowd {
	s.t.Helper()
	if o.Sessions == 0 {
		o.Sessions = 50
	}
	if o.Prefix == "" {
		o.Prefix = "crowd"
	}
	c := &Crowd{t: s.t, pace: cmp.Or(o.Pace, crowdPace), stop: make(chan struct{}), over: make(chan struct{})}
	s.t.Cleanup(c.end)
	site, err := s.Site(crowdLimit)
	if err != nil {
		s.t.Fatal("crowd: ", err)
	}
	for i := 0; len(c.members) < o.Sessions; i++ {
		handle := fmt.Sprintf("%s%d", o.Prefix, i)
		if o.Skip != nil && o.Skip(handle) {
			continue
		}
		if err := c.join(site, handle); err != nil {
			s.t.Fatalf("crowd: %s: %v", handle, err)
		}
	}
	for i, m := range c.members {
		m.mu.Lock() // its reader runs already
		m.peer = c.members[i^1]
		m.mu.Unlock()
	}
	for _, m := range c.members {
		c.senders.Go(m.send)
	}
	c.Turn()
	return c
}

// crowdLimit bounds a crowd's life: a connection that hangs shows at last.
const crowdLimit = 4 * time.Hour

// join connects one more session.
func (c *Crowd) join(site *Site, handle string) error {
	lean, err := site.NewLean(handle)
	if err != nil {
		return err
	}
	m := &member{Lean: lean, crowd: c, answer: make(chan stanza.Reason, 1)}
	m.Hooks = LeanHooks{
		Stanza: m.handle,
		Refused: func(r *stanza.Refused) error {
			m.answered(r.ID, r.Reason)
			return nil
		},
		Retry: func() error {
			m.answered(firstID+m.progress().sent, stanza.ReasonRetry)
			return nil
		},
		Ended: func(err error) { c.fault(err) },
	}
	if err := m.Connect(); err != nil {
		return err
	}
	c.members = append(c.members, m)
	return nil
}

// Size is the number of sessions.
func (c *Crowd) Size() int { return len(c.members) }

// Beside runs f and then waits until each session has sent a message after f began, had it acked, and received one that was sent
// after f began. It reports every fault. Where f brings about a state that lasts, it should call Turn in the midst of that.
func (c *Crowd) Beside(f func()) {
	c.t.Helper()
	before := c.mark()
	f()
	c.await(before)
}

// Turn waits until each session has got a message through in each direction from now on, and reports every fault.
func (c *Crowd) Turn() {
	c.t.Helper()
	c.await(c.mark())
}

// Finish is Rest, and ends the sessions.
func (c *Crowd) Finish() (messages uint64) {
	c.t.Helper()
	defer c.end()
	return c.Rest()
}

// Rest ends the exchange, not the sessions: every message under way is waited for, and nobody is left with less than was acked. It
// returns the number of messages.
func (c *Crowd) Rest() (messages uint64) {
	c.t.Helper()
	close(c.stop)
	c.senders.Wait()
	for _, m := range c.members {
		Eventually(c.t, m.Handle+" has everything that was sent to it", func() bool { return m.progress().got >= m.peer.progress().sent || c.broken() })
		messages += m.progress().sent
	}
	c.report()
	return messages
}

// progress is how far a member is.
type progress struct{ sent, acked, got uint64 }

func (m *member) progress() progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return progress{m.sent, m.acked, m.got}
}

// mark notes how far everybody has sent.
func (c *Crowd) mark() map[*member]uint64 {
	sent := map[*member]uint64{}
	for _, m := range c.members {
		sent[m] = m.progress().sent
	}
	return sent
}

// await waits until what was sent after the mark is acked and received, by everybody.
func (c *Crowd) await(sent map[*member]uint64) {
	c.t.Helper()
	for _, m := range c.members {
		Eventually(c.t, m.Handle+" goes on", func() bool {
			p := m.progress()
			return p.acked > sent[m] && p.got > sent[m.peer] || c.broken()
		})
	}
	c.report()
}

func (c *Crowd) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.faults) > 0
}

// report fails the test if anything is wrong.
func (c *Crowd) report() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.faults {
		c.t.Error("crowd: ", f)
	}
	if len(c.faults) > 0 {
		c.t.FailNow()
	}
}

// maxFaults bounds the faults kept; the first ones say what happened.
const maxFaults = 50

// fault notes what must not happen, unless the crowd is being sent home.
func (c *Crowd) fault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ending && len(c.faults) < maxFaults {
		c.faults = append(c.faults, err)
	}
}

// end closes everything; again it does nothing.
func (c *Crowd) end() {
	c.mu.Lock()
	ended := c.ending
	c.ending = true
	c.mu.Unlock()
	if ended {
		return
	}
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	close(c.over)
	for _, m := range c.members {
		m.Close()
	}
	c.senders.Wait()
}

// send is a member's sender: the next number when the one before is acked.
func (m *member) send() {
	for {
		select {
		case <-m.crowd.stop:
			return
		case <-time.After(m.crowd.pace):
		}
		m.mu.Lock()
		m.sent++
		n := m.sent
		m.mu.Unlock()
		if err := m.deliver(n); err != nil {
			m.crowd.fault(fmt.Errorf("%s: %w", m.Handle, err))
			return
		}
	}
}

// deliver sends message n until it is acked.
func (m *member) deliver(n uint64) error {
	body := stanza.AppendCipher(nil, m.peer.Bound.Device, binary.BigEndian.AppendUint64(nil, n))
	up := stanza.MessageUp{ID: firstID + n, Account: m.peer.Bound.Account, Version: m.peer.Bound.Version, Body: body}
	for {
		if err := m.say(up.Append(nil)); err != nil {
			return err
		}
		select {
		case reason := <-m.answer:
			if reason == 0 {
				return nil
			}
			if reason.Final() {
				return fmt.Errorf("message %d refused: %s", n, reason)
			}
			time.Sleep(crowdPace) // the server is asked again at the pace of everything else
		case <-time.After(resendAfter):
		case <-m.crowd.over:
			return nil
		}
	}
}

func (m *member) say(s []byte) error {
	m.Lock()
	defer m.Unlock()
	m.Plain = append(m.Plain, s...)
	return m.Flush()
}

// handle takes what a member gets besides refusals; its Lean acknowledges deliveries.
func (m *member) handle(v stanza.View) error {
	switch v.Tag {
	case stanza.TagMessage:
		return m.received(v)
	case stanza.TagAck:
		a, err := stanza.ParseAck(v)
		if err != nil {
			return err
		}
		ids := stanza.Packed(a.IDs)
		for id, ok := ids.Next(); ok; id, ok = ids.Next() {
			m.answered(id, 0)
		}
	}
	return nil
}

// answered takes an answer to the message under way; one to an earlier transmission of an earlier message is skipped.
func (m *member) answered(id uint64, reason stanza.Reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id != firstID+m.sent || m.acked == m.sent {
		return
	}
	if reason == 0 {
		m.acked = m.sent
	}
	select {
	case <-m.answer: // the later answer counts
	default:
	}
	m.answer <- reason
}

// received takes a message, which must be the peer's next.
func (m *member) received(v stanza.View) error {
	d, err := stanza.ParseMessageDown(v)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.From != m.peer.Bound.Account || len(d.Body) != 8 {
		return fmt.Errorf("a message of account %d with %d bytes", d.From, len(d.Body))
	}
	if n := binary.BigEndian.Uint64(d.Body); n != m.got+1 {
		return fmt.Errorf("message %d of %s after %d", n, m.peer.Handle, m.got)
	}
	m.got++
	return nil
}
