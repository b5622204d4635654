package link

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"linecard.example/internal/stanza"
)

// Errors of streams. Send returns ErrNoCredit, ErrDown, ErrTooLarge, ErrGroup and ErrKind; the stream stays usable after all but ErrDown.
var (
	ErrNoCredit = errors.New("link: no credit")
	ErrDown     = errors.New("link: stream is down")
	ErrTooLarge = errors.New("link: payload too large")
	ErrGroup    = errors.New("link: no such group")
	ErrKind     = errors.New("link: no such kind, or one that the peer does not know")
	// ErrStopped is what Handler.Down gets when either end was stopped in order.
	ErrStopped = errors.New("link: stopped")
	// ErrProtocol is wrapped by what Down gets when the peer broke a rule: a bad envelope, more than its credits.
	ErrProtocol = errors.New("link: peer broke the protocol")
)

// ReasonOf returns the reason under which an envelope that Send did not take is counted: no_credit, link_down, or internal, which is
// a mistake of the caller.
func ReasonOf(err error) stanza.Reason {
	switch {
	case errors.Is(err, ErrNoCredit):
		return stanza.ReasonNoCredit
	case errors.Is(err, ErrDown):
		return stanza.ReasonLinkDown
	}
	return stanza.ReasonInternal
}

var streamID atomic.Uint64

// Stream is one end of a connection to a peer endpoint. Send and Done are safe for concurrent use.
type Stream struct {
	id       uint64
	ep       *Endpoint
	peer     Info
	incoming bool
	local    bool     // the peer is in this process
	dialled  dialKey  // zero unless Dial made it
	kinds    Kind     // the last that the peer knows
	names    []string // what the certificate of a peer that dialled was issued for
	metrics  *streamMetrics

	out     outbox     // to the peer; its own mutex
	twin    *Stream    // of a held stream: the other end
	handing sync.Mutex // of a held stream: who hands over
	in      window     // credits of the peer; atomics

	failOnce sync.Once
	failed   chan struct{} // closed by the first fail
	failErr  error         // set before failed is closed

	roster uint64 // version that the peer has or is about to get; under Board.mu

	heard   atomic.Bool    // something came since the last pulse
	workers sync.WaitGroup // sender and reader goroutine, over gRPC

	// Under gate: the order of Up, Receive and Down.
	gate  sync.Mutex
	open  bool
	batch [maxBatch]Envelope
}

func newStream(ep *Endpoint, peer intro, incoming bool) *Stream {
	s := &Stream{
		id:       streamID.Add(1),
		ep:       ep,
		peer:     peer.info,
		incoming: incoming,
		kinds:    peer.kinds,
		metrics:  ep.metrics.stream(peer.info.Role),
		failed:   make(chan struct{}),
	}
	groups := 2 * ep.info.Shards
	s.out.init(groups, peer.window)
	s.in.init(groups, ep.opts.Credits)
	return s
}

// ID returns a number that no other stream of this process has.
func (s *Stream) ID() uint64 { return s.id }

// Peer returns who is at the other end.
func (s *Stream) Peer() Info { return s.peer }

// IssuedFor reports whether the peer, which made the connection, showed a certificate that was issued for name, or is in this process and
// needs none.
func (s *Stream) IssuedFor(name string) bool { return s.local || slices.Contains(s.names, name) }

// Incoming reports whether the peer made the connection.
func (s *Stream) Incoming() bool { return s.incoming }

// Send queues a copy of e, payload included, for the peer and never blocks. Envelopes of a stream arrive in the order in which Send
// took them. ErrNoCredit: the peer has as much of this group as it granted; nothing was queued, and what to drop or refuse is the
// caller's policy. ErrDown: the stream has ended. ErrTooLarge, ErrGroup, ErrKind: not an envelope of this link.
func (s *Stream) Send(e *Envelope) error { return s.send(e, 0) }

// SendSpare is Send for what is kept elsewhere and can wait: it leaves a quarter of a group's credit to what cannot.
func (s *Stream) SendSpare(e *Envelope) error { return s.send(e, s.out.reserve()) }

func (s *Stream) send(e *Envelope, keep int64) error {
	if len(e.Payload) > MaxPayload {
		return ErrTooLarge
	}
	i := groupIndex(e.Group)
	if i >= len(s.out.credit) {
		return ErrGroup
	}
	if e.Kind == 0 || e.Kind == kindGrant || e.Kind == KindRoster || e.Kind >= kindEnd || e.Kind > s.kinds {
		return ErrKind
	}
	err := s.out.send(e, i, keep)
	if err != nil {
		s.metrics.dropped(err)
	}
	return err
}

// Done gives back credit for envelopes of group g that were handled, bytes being the sum of their Size. Every received envelope is
// given back exactly once; after the stream's end it does nothing.
func (s *Stream) Done(g stanza.Group, bytes int) {
	i := groupIndex(g)
	if bytes <= 0 || i >= s.in.groups() {
		return
	}
	if n := s.in.done(i, int64(bytes)); n > 0 {
		s.out.grant(g, n)
	}
}

// groupIndex numbers the groups of S shards 0..2S-1.
func groupIndex(g stanza.Group) int {
	i := int(g&0x7fff) << 1
	if g&0x8000 != 0 {
		i++
	}
	return i
}

// receive decodes one message of the peer, whose bytes then belong to the envelopes, and hands it to the Handler.
func (s *Stream) receive(data []byte) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if !s.open {
		return ErrDown
	}
	s.metrics.receivedBytes(len(data))
	var err error
	for n := 0; len(data) > 0; n = 0 {
		for n < maxBatch && len(data) > 0 {
			e := &s.batch[n]
			if data, err = DecodeEnvelope(data, e); err != nil {
				return fmt.Errorf("%w: %w", ErrProtocol, err)
			}
			deliver, err := s.account(e)
			if err != nil {
				return err
			}
			if deliver {
				n++
			}
		}
		if n > 0 {
			s.metrics.receivedEnvelopes(n)
			s.ep.handler.Receive(s, s.batch[:n])
			clear(s.batch[:n]) // lets go of the payloads
		}
	}
	return nil
}

// account books a received envelope and reports whether it is for the Handler.
func (s *Stream) account(e *Envelope) (deliver bool, err error) {
	i := groupIndex(e.Group)
	if i >= s.in.groups() {
		return false, fmt.Errorf("%w: %w", ErrProtocol, ErrGroup)
	}
	if e.Kind == kindGrant {
		if !s.out.granted(i, e.ID) {
			return false, fmt.Errorf("%w: grant of more than was used", ErrProtocol)
		}
		return false, nil
	}
	if e.Kind == KindRoster {
		return false, s.ep.opts.Board.heard(s, e.Payload)
	}
	if !s.in.take(i, int64(e.Size())) {
		return false, fmt.Errorf("%w: credits exceeded", ErrProtocol)
	}
	if e.Kind == KindLook {
		s.ep.opts.Board.looked(s, e)
		s.Done(e.Group, e.Size())
		return false, nil
	}
	return true, nil
}

// sendLoop is the sender goroutine: it hands batches to transmit until the outbox ends or transmit fails.
func (s *Stream) sendLoop(transmit func(*batch) error) {
	if f := s.ep.faults; f != nil {
		x := f.sender(s, transmit)
		defer x.end()
		transmit = x.send
	}
	for b := s.out.take(); b != nil; b = s.out.take() {
		n, bytes := b.n, len(b.buf)
		if err := transmit(b); err != nil {
			s.fail(err)
			return
		}
		s.metrics.sentBatch(n, bytes)
	}
}

// fail ends the stream with err; the first call counts.
func (s *Stream) fail(err error) {
	s.failOnce.Do(func() {
		s.failErr = err
		close(s.failed)
	})
}
