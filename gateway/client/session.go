package client

import (
	"errors"
	"fmt"
	"io"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// session is one bound connection. The writer (serve) runs on Client.run's goroutine, the reader on one of its own.
type session struct {
	c    *Client
	conn *frameConn
	as   stanza.Bound // zero before bound

	// Client.mu
	heard    time.Time // last frame received
	said     time.Time // last frame written
	pongBy   time.Time // the connection is dead then; zero when no ping is unanswered
	pingDue  bool
	probing  bool  // the unanswered ping came behind a whole interval of silence on both sides
	moved    bool  // the device is on another network, and nothing was heard since: a ping is due, and what it shows is no lesson
	closeErr error // why the reader ended

	gone chan struct{} // closed when the reader has ended
}

var (
	errPeerClosed = errors.New("connection closed by the server")
	errSilent     = errors.New("no answer from the server")
	errFlood      = errors.New("the server delivers beyond the window")
)

func (s *session) bound() bool { return s.as.Account != 0 }

// readOne reads one frame and does what its stanzas say.
func (s *session) readOne() error {
	plain, err := s.conn.read()
	if errors.Is(err, io.EOF) {
		return errPeerClosed
	}
	if err != nil {
		return err
	}
	c := s.c
	c.mu.Lock()
	s.heard, s.pongBy = time.Now(), time.Time{}
	if s.probing && c.pace.answered() {
		c.home.putPace(&c.pace)
	}
	s.probing, s.moved = false, false
	err = stanza.DecodeFrame(plain, s.handle)
	c.mu.Unlock()
	signal(c.wake)
	return err
}

// readLoop is the reader.
func (s *session) readLoop() {
	defer s.c.wg.Done()
	defer close(s.gone)
	for {
		err := s.readOne()
		s.c.flushNotices()
		if err != nil {
			s.c.mu.Lock()
			s.closeErr = err
			s.c.mu.Unlock()
			return
		}
	}
}

// handle does what one stanza says. Caller holds Client.mu. Unknown stanzas are skipped; unknown deliveries are counted and skipped.
func (s *session) handle(v stanza.View) error {
	if v.Tag == stanza.TagClose {
		cl, err := stanza.ParseClose(v)
		if err != nil {
			return err
		}
		return &CloseError{Reason: cl.Reason, RetryAfter: time.Duration(cl.RetryAfter) * time.Millisecond}
	}
	if !s.bound() {
		if v.Tag != stanza.TagBound {
			return fmt.Errorf("stanza %s before bound", v.Tag)
		}
		return s.onBound(v)
	}
	c := s.c
	switch v.Tag {
	case stanza.TagAck:
		return c.onAck(v)
	case stanza.TagRefused:
		return c.onRefused(v)
	case stanza.TagRetry:
		if _, err := stanza.ParseRetryAll(v); err != nil {
			return err
		}
		c.out.restart()
	case stanza.TagResult:
		return c.onResult(v)
	case stanza.TagError:
		return c.onQueryError(v)
	case stanza.TagMessage:
		return c.onMessage(v)
	case stanza.TagDelivered, stanza.TagRead:
		return c.onReceipt(v)
	case stanza.TagUndelivered:
		return c.onUndelivered(v)
	default:
		if v.Tag.Delivery() {
			return c.in.skip()
		}
	}
	return nil
}

// onBound begins the session.
func (s *session) onBound(v stanza.View) error {
	b, err := stanza.ParseBound(v)
	if err != nil {
		return err
	}
	c := s.c
	id := Identity{Account: b.Account, Device: b.Device, Handle: c.opt.Handle}
	if c.self.Account != 0 {
		if b.Account != c.self.Account || b.Device != c.self.Device {
			return fmt.Errorf("%w: the server bound account %d device %d, this home is account %d device %d",
				errFatal, b.Account, b.Device, c.self.Account, c.self.Device)
		}
		id = c.self
	}
	if err := c.home.become(id); err != nil {
		return fmt.Errorf("%w: %w", errFatal, err)
	}
	c.home.skipTo(b.ID + idSkip - 1)
	if _, _, ok := wire.SplitTicketValue(b.Ticket); ok {
		c.home.putTicket(b.Ticket)
	} else if c.doubt > 0 {
		c.home.putTicket(nil) // this session has used it
	}
	c.doubt = 0
	b.Ticket = nil // a view, and secret
	s.as, c.self, c.sess, c.trouble = b, id, s, nil
	c.out.restart()
	c.out.maxIDs, c.out.maxBytes = clampWindow(b.WindowIDs, b.WindowBytes)
	c.in.attach(c.out.maxIDs, c.out.maxBytes)
	s.said = s.heard
	c.note(Notice{Kind: NoticeConnected})
	c.changed()
	return c.learnOwnDevices(b.Version)
}

// idSkip is how far above the noted id a client continues: a server notes every 1,024th, so that a restored copy of a Home cannot
// meet an id that was used.
const idSkip = 2048

// clampWindow keeps the server's windows within what a client is built for; a server that names none gets the usual.
func clampWindow(ids, bytes uint32) (int, int) {
	if ids == 0 {
		ids = 32
	}
	if bytes == 0 {
		bytes = 256 << 10
	}
	return int(min(ids, 1024)), int(min(bytes, 4<<20))
}
