package testkit

import (
	"bufio"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flynn/noise"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// Site is what lean clients know of a server. Safe for concurrent use.
type Site struct {
	addr    string
	ends    time.Time
	cluster string
	root    ed25519.PublicKey
	known   atomic.Pointer[[]byte] // the certificate that was verified
}

// Site returns what lean clients know of s; their reads and writes fail when limit has passed.
func (s *System) Site(limit time.Duration) (*Site, error) {
	line, err := os.ReadFile(s.Root)
	if err != nil {
		return nil, err
	}
	w := &Site{addr: s.Server, ends: time.Now().Add(limit)}
	w.cluster, w.root, err = wire.ParseRootLine(strings.TrimSpace(string(line)))
	return w, err
}

// verify judges a server's certificate. One that was good before is good.
func (w *Site) verify(static, cert []byte) error {
	if known := w.known.Load(); known != nil && string(*known) == string(cert) {
		return nil
	}
	if _, _, err := wire.VerifyCertificate(cert, static, []ed25519.PublicKey{w.root}, w.cluster, time.Now()); err != nil {
		return err
	}
	kept := append([]byte(nil), cert...)
	w.known.Store(&kept)
	return nil
}

// leanPing is announced so that no ping is due while a test runs.
const leanPing = 15 * 60

// Lean is a client for load: the frames and stanzas of gateway/client in the same order, packed into frames as it packs them, without
// a Home, an outbox and their goroutines. It has a key, an account once it has registered, and a session while it is connected. What
// is sent, and sent again, is up to its user.
//
// Connect and Close are for one goroutine at a time. A session has a goroutine, its reader, which calls the Hooks. Fields below the mutex
// are under it; the others are changed only while no reader runs.
type Lean struct {
	Handle  string
	Bound   stanza.Bound // of the last session; the zero Account: not registered yet
	AckFrom uint32       // so many deliveries are acked together
	Hooks   LeanHooks
	Tickets bool                                // come back by ticket; otherwise by XX
	Dialer  func(addr string) (net.Conn, error) // nil: plain TCP

	site *Site
	key  noise.DHKey
	init *wire.Initiator
	keys wire.Keys
	nc   net.Conn
	gone chan struct{} // closed when the reader has ended

	// reader
	in      *bufio.Reader
	body    []byte
	opener  *wire.Sealer
	opened  uint64
	handled uint32 // deliveries since the last pause that acked
	heavy   bool   // a message is among them

	sync.Mutex
	Plain   []byte      // what is said next, behind the flags byte: append stanzas
	due     uint32      // deliveries to be acked by the next frame
	late    *time.Timer // acks what is due; nil: nothing waits for it
	closing bool
	sealer  *wire.Sealer
	sealed  uint64
	out     []byte
}

// LeanHooks are what a Lean does besides acking deliveries. All run on its reader, without the mutex.
type LeanHooks struct {
	Stanza  func(v stanza.View) error     // what no other hook is for
	Pause   func()                        // everything that had arrived is handled; the client speaks next
	Refused func(r *stanza.Refused) error // nil: an error
	Retry   func() error                  // nil: an error
	Ended   func(err error)               // the session ended, not by Close
}

// NewLean returns a client with a fresh key, to be registered as handle by its first session.
func (w *Site) NewLean(handle string) (*Lean, error) {
	key, err := wire.GenerateKeypair(nil)
	return &Lean{site: w, key: key, Handle: handle, AckFrom: 1}, err
}

// Connect makes a session and starts its reader: registers at first, binds later. It returns when the device is bound.
func (d *Lean) Connect() error {
	if err := d.dial(); err != nil {
		return err
	}
	steps := []func() error{d.hello, d.finish, d.waitBound}
	if d.Tickets && len(d.Bound.Ticket) > 0 {
		steps = []func() error{d.resume, d.waitBound}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			d.nc.Close()
			return err
		}
	}
	d.gone = make(chan struct{})
	go d.read()
	return nil
}

func (d *Lean) readBody() ([]byte, error) {
	var head [wire.LenSize]byte
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		return nil, err
	}
	n, _ := wire.FrameLen(head[:])
	if cap(d.body) < n {
		d.body = make([]byte, max(n, 512))
	}
	d.body = d.body[:n]
	_, err := io.ReadFull(d.in, d.body)
	return d.body, err
}

func (d *Lean) readPlain() ([]byte, error) {
	body, err := d.readBody()
	if err != nil {
		return nil, err
	}
	plain, err := d.opener.Open(body[:0], &d.keys.RX, d.opened, body)
	d.opened++
	return plain, err
}

// read is the reader: it handles what has arrived, then speaks once.
func (d *Lean) read() {
	defer close(d.gone)
	for {
		if !d.another() {
			if err := d.pause(); err != nil {
				d.ended(err)
				return
			}
		}
		plain, err := d.readPlain()
		if err == nil {
			err = stanza.DecodeFrame(plain, d.handle)
		}
		if err != nil {
			d.ended(err)
			return
		}
	}
}

// another reports whether a whole further frame has arrived. What there is of an unfinished one is no reason to keep quiet: the rest of
// it may be long in coming.
func (d *Lean) another() bool {
	n := d.in.Buffered()
	if n < wire.LenSize {
		return false
	}
	head, _ := d.in.Peek(wire.LenSize)
	body, _ := wire.FrameLen(head)
	return n >= wire.LenSize+body
}

func (d *Lean) handle(v stanza.View) error {
	switch {
	case v.Tag == stanza.TagClose:
		return closedBy(v)
	case v.Tag == stanza.TagRefused:
		r, err := stanza.ParseRefused(v)
		if err == nil && d.Hooks.Refused != nil {
			return d.Hooks.Refused(&r)
		}
		return errors.Join(err, fmt.Errorf("message %d refused: %s", r.ID, r.Reason))
	case v.Tag == stanza.TagRetry:
		if d.Hooks.Retry != nil {
			return d.Hooks.Retry()
		}
		return errors.New("asked to send again")
	case v.Tag.Delivery():
		d.handled++
		d.heavy = d.heavy || v.Tag == stanza.TagMessage
	}
	if d.Hooks.Stanza == nil {
		return nil
	}
	return d.Hooks.Stanza(v)
}

// As in gateway/client: a few receipts wait this long to be acked together with whatever is said next.
const (
	lightWait = 250 * time.Millisecond
	lightMost = 8
)

// pause acks what was delivered and writes one frame with everything that is to be said.
func (d *Lean) pause() error {
	if d.Hooks.Pause != nil {
		d.Hooks.Pause()
	}
	d.Lock()
	defer d.Unlock()
	if d.handled > 0 && d.handled >= d.AckFrom {
		d.due += d.handled
		switch {
		case d.heavy || d.due >= lightMost:
			d.appendAck()
		case len(d.Plain) <= 1 && d.late == nil:
			d.late = time.AfterFunc(lightWait, d.ackLate)
		}
		d.handled, d.heavy = 0, false
	}
	return d.Flush()
}

// ackLate acks what nothing else was said for.
func (d *Lean) ackLate() {
	d.Lock()
	defer d.Unlock()
	if d.late != nil && d.due > 0 && !d.closing {
		d.appendAck()
		_ = d.Flush() // the reader sees what is wrong
	}
}

// appendAck says that what is due is handled. Caller holds the mutex.
func (d *Lean) appendAck() {
	ack := stanza.DeliveryAck{Count: d.due}
	d.Plain = ack.Append(d.Plain)
	d.due = 0
	d.notLate()
}

func (d *Lean) notLate() {
	if d.late != nil {
		d.late.Stop() // one that fires now finds nothing due, or what is due a little early
		d.late = nil
	}
}

// Flush writes what is to be said, if anything. Caller holds the mutex.
func (d *Lean) Flush() error {
	if len(d.Plain) <= 1 {
		return nil
	}
	if d.due > 0 {
		d.appendAck()
	}
	d.out = d.sealer.AppendSealedFrame(d.out[:0], &d.keys.TX, d.sealed, d.Plain)
	d.sealed++
	d.Plain = d.Plain[:1]
	_, err := d.nc.Write(d.out)
	return err
}

// ended tells why the session ended, unless it was Close.
func (d *Lean) ended(err error) {
	d.Lock()
	closing := d.closing
	d.Unlock()
	if !closing && d.Hooks.Ended != nil {
		d.Hooks.Ended(fmt.Errorf("%s: %w", d.Handle, err))
	}
}

// Close ends the session of Connect and waits for its reader.
func (d *Lean) Close() {
	d.Lock()
	d.closing = true
	d.Unlock()
	d.nc.Close()
	<-d.gone
}
