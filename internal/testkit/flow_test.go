package testkit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
)

// flow is one pair of the load test: a sends to b, flat out, with at most flowAhead messages under way. Its messages are numbered from
// 1; b must get each once and in turn. What the server refuses for now goes again, before anything later.
type flow struct {
	a, b   *Lean
	size   int          // of a message's ciphertext
	byAcks bool         // under way is what is not acked; else what is not delivered either
	on     *atomic.Bool // messages are sent
	fault  func(error)
	back   sync.WaitGroup // b is being connected again

	// under a's mutex
	sent, top        uint64 // of this pass, of all
	acked, delivered uint64
	got              uint64 // the last one of b's session; 0: none yet
	again            int    // sessions that b had to make after the first
	refused          map[stanza.Reason]int
	alone            bool // nothing behind the first message goes before its ack: at the start, and after a refusal
	hold             time.Time
	cipher           []byte
}

const (
	flowAhead = 4
	smallBody = 80
)

// newFlow joins two clients that are not connected yet.
func newFlow(a, b *Lean, size int, byAcks bool, on *atomic.Bool, fault func(error)) *flow {
	f := &flow{a: a, b: b, size: size, byAcks: byAcks, on: on, fault: fault, alone: true, refused: map[stanza.Reason]int{}}
	a.Hooks = LeanHooks{Stanza: f.atSender, Pause: f.refill, Refused: f.onRefused, Retry: f.onRetry, Ended: fault}
	b.Hooks = LeanHooks{Stanza: f.atRecipient, Pause: f.nudge, Ended: fault}
	return f
}

// fill says what may be sent now and reports whether that was anything. Caller holds a's mutex.
func (f *flow) fill() (any bool) {
	if time.Now().Before(f.hold) {
		return false
	}
	for f.on.Load() || f.sent < f.top {
		done := f.acked
		if !f.byAcks {
			done = min(done, f.delivered)
		}
		if f.sent-done >= flowAhead || (f.alone && f.sent > f.acked) {
			break
		}
		if f.cipher == nil {
			f.cipher = stanza.AppendCipher(nil, f.b.Bound.Device, make([]byte, f.size))
		}
		f.sent++
		f.top = max(f.top, f.sent)
		m := stanza.MessageUp{ID: f.sent, Account: f.b.Bound.Account, Version: f.b.Bound.Version, Body: f.cipher}
		if f.acked < f.sent-1 {
			m.After = f.sent - 1
		}
		f.a.Plain = m.Append(f.a.Plain)
		any = true
	}
	return any
}

// refill is a's pause: a flushes by itself.
func (f *flow) refill() {
	f.a.Lock()
	f.fill()
	f.a.Unlock()
}

// nudge is b's pause: what b has got may be what a waited for.
func (f *flow) nudge() {
	if !f.byAcks {
		f.kick()
	}
}

// kick makes a send what it may.
func (f *flow) kick() {
	f.a.Lock()
	defer f.a.Unlock()
	if f.fill() {
		if err := f.a.Flush(); err != nil {
			f.fault(err)
		}
	}
}

func (f *flow) atSender(v stanza.View) error {
	switch v.Tag {
	case stanza.TagAck:
		ack, err := stanza.ParseAck(v)
		if err != nil {
			return err
		}
		f.a.Lock()
		defer f.a.Unlock()
		ids := stanza.Packed(ack.IDs)
		for id, ok := ids.Next(); ok; id, ok = ids.Next() {
			if id > f.top {
				return fmt.Errorf("ack of message %d, %d sent", id, f.top)
			}
			f.acked = max(f.acked, id) // one that was sent again is acked twice
		}
		f.sent = max(f.sent, f.acked)
		f.alone = false
	case stanza.TagDelivered:
	default:
		return fmt.Errorf("unexpected %s", v.Tag)
	}
	return nil
}

// onRefused goes back to the refused message.
func (f *flow) onRefused(r *stanza.Refused) error {
	f.a.Lock()
	defer f.a.Unlock()
	if r.Reason.Final() {
		return fmt.Errorf("message %d refused: %s", r.ID, r.Reason)
	}
	f.refused[r.Reason]++
	f.rewind(r.ID - 1)
	if wait := time.Duration(r.RetryAfter) * time.Millisecond; wait > 0 {
		f.hold = time.Now().Add(wait)
		time.AfterFunc(wait, f.kick)
	}
	return nil
}

// onRetry goes back to the first message without an answer.
func (f *flow) onRetry() error {
	f.a.Lock()
	defer f.a.Unlock()
	f.refused[stanza.ReasonRetry]++
	f.rewind(0)
	return nil
}

// rewind sends everything behind the message again, but for what is acked. Caller holds a's mutex.
func (f *flow) rewind(to uint64) {
	f.sent = max(min(f.sent, to), f.acked)
	f.alone = true
}

func (f *flow) atRecipient(v stanza.View) error {
	if v.Tag != stanza.TagMessage {
		return fmt.Errorf("unexpected %s", v.Tag)
	}
	m, err := stanza.ParseMessageDown(v)
	if err != nil {
		return err
	}
	f.a.Lock()
	defer f.a.Unlock()
	next := m.ID == f.got+1
	if f.got == 0 { // what an earlier session left unacked comes again, and no more
		next = m.ID <= f.delivered+1 && (f.again > 0 || m.ID == 1)
	}
	if m.From != f.a.Bound.Account || !next || len(m.Body) != f.size {
		return fmt.Errorf("message %d of account %d, %d bytes, after messages %d and %d", m.ID, m.From, len(m.Body), f.got, f.delivered)
	}
	f.got = m.ID
	f.delivered = max(f.delivered, m.ID)
	return nil
}

// comeBack makes a new session for b when it was so slow that the server gave its session up.
func (f *flow) comeBack(err error) {
	var closed *Closed
	if errors.As(err, &closed) && closed.Reason != stanza.ReasonUnresponsive {
		f.fault(err)
		return
	}
	// The close stanza stands behind everything that the client has not read, and is often never seen.
	if closed == nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		f.fault(err)
		return
	}
	f.a.Lock()
	f.again++
	f.got = 0
	f.a.Unlock()
	f.back.Go(func() {
		f.b.nc.Close()
		if err := f.b.Connect(); err != nil {
			f.fault(err)
		}
	})
}

// progress returns how far the flow is.
func (f *flow) progress() (acked, delivered uint64) {
	f.a.Lock()
	defer f.a.Unlock()
	return f.acked, f.delivered
}

// settled reports whether everything that was ever sent has arrived.
func (f *flow) settled() bool {
	f.a.Lock()
	defer f.a.Unlock()
	return f.acked == f.top && f.delivered == f.top
}

// A slow client takes slowBytes every slowPause, through a small buffer, on small segments, so that the server's kernel takes little for
// it and the rest waits where the server keeps it.
const (
	slowBytes   = 100
	slowPause   = 100 * time.Millisecond
	slowBuffer  = 4 << 10
	slowSegment = 536
)

// slowDial connects as a slow client does, which is slow only while slow is set.
func slowDial(slow *atomic.Bool) func(addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: waitLimit, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, slowBuffer); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, slowSegment)
			}
		}); e != nil {
			return e
		}
		return err
	}}
	return func(addr string) (net.Conn, error) {
		nc, err := d.Dial("tcp", addr)
		return &slowConn{Conn: nc, slow: slow}, err
	}
}

type slowConn struct {
	net.Conn
	slow *atomic.Bool
}

func (c *slowConn) Read(p []byte) (int, error) {
	if c.slow.Load() {
		time.Sleep(slowPause) // being slow is what it is there for
		p = p[:min(len(p), slowBytes)]
	}
	return c.Conn.Read(p)
}
