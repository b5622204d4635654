package link

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Handler is a daemon's side of its streams. For one stream the calls come one after the other: Up, any number of Receive, Down.
// Different streams call concurrently. No method may block: whoever blocks in Receive stops that stream, and only that.
type Handler interface {
	// Up reports a new stream. It may Send at once. A peer that lost its connection may be Up again before its old stream is Down.
	Up(s *Stream)
	// Receive hands over envelopes in the order they were sent. The slice is the stream's and is used again after the return; the
	// payloads are immutable and may be kept (Envelope). Each envelope is to be credited back with Stream.Done or Inbox.Done.
	Receive(s *Stream, batch []Envelope)
	// Down reports the end of a stream, once per Up and after the last Receive. err is never nil; ErrStopped means in order.
	Down(s *Stream, err error)
}

// Options of an endpoint. The zero value is good.
type Options struct {
	// Credits is how many bytes a peer may have on the way to this endpoint, unhandled, per group; default 4 MiB, at most 1 GiB.
	// More lets a burst through that would be refused, and costs that much memory per group and stream at worst. An envelope
	// of more than half of it may never pass.
	Credits int
	// MaxStreams bounds the streams that Server accepts for this endpoint; default 1024.
	MaxStreams int
	// Pulse is how often an idle stream over gRPC sends a sign of life; three without one from the peer end it. Default 2.5 s,
	// so that a dead peer is noticed within 10 s.
	Pulse time.Duration
	// Turns says that the daemon works in turns and calls Flush at the end of each: envelopes for peers within this process then go
	// over on the goroutine that sent them, and wake no other. What is sent outside of a turn goes with the next one.
	Turns bool
	// Board gets rosters from peers and gives them the newest; those of a process share one. Default: rosters are not listened to.
	Board *Board
	// Failed is called after each attempt to connect that did not lead to a stream, on the goroutine of Dial; it must not block.
	Failed func(addr string, err error)
	// Admit decides, for an endpoint of RoleRegion, whether the peer may speak for its region: by the address that was dialled, or, of
	// who dialled, by what its certificate was verified with. The answer is final for the stream. It must not block. Default: everybody.
	Admit func(peer Info, dialled string, verified [][]*x509.Certificate) bool
	// Logger gets transitions only; default: nothing is logged.
	Logger *slog.Logger
	// Registerer gets the metrics; endpoints of one process may share it. Default: no metrics are exported.
	Registerer prometheus.Registerer
}

// Defaults of Options.
const (
	DefaultCredits    = 4 << 20
	DefaultMaxStreams = 1024
	DefaultPulse      = 2500 * time.Millisecond
)

func (o Options) withDefaults() Options {
	if o.Credits <= 0 {
		o.Credits = DefaultCredits
	}
	o.Credits = min(o.Credits, maxWindow)
	if o.MaxStreams <= 0 {
		o.MaxStreams = DefaultMaxStreams
	}
	if o.Pulse <= 0 {
		o.Pulse = DefaultPulse
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Endpoint is a daemon's connection point: Connect, Dial and Server make streams between endpoints. Safe for concurrent use.
type Endpoint struct {
	info    Info
	handler Handler
	opts    Options
	log     *slog.Logger
	metrics *metrics

	faults *Faults // nil but in tests
	road   Road    // nil but in tests
	jitter func() float64

	incoming atomic.Int64              // streams accepted by servers
	held     atomic.Pointer[[]*Stream] // what Flush looks after; changed under mu

	mu          sync.Mutex
	streams     map[*Stream]struct{} // up
	dialled     map[dialKey]int      // streams up by what was dialled
	logged      map[refusal]struct{} // refusals that were logged
	loggedSince time.Time            // the first of them
}

// NewEndpoint returns the endpoint of a daemon. An info that is not within its limits is refused by every peer, with a log line.
func NewEndpoint(info Info, h Handler, opts Options) *Endpoint {
	opts = opts.withDefaults()
	e := &Endpoint{
		info:    info,
		handler: h,
		opts:    opts,
		log:     opts.Logger.With("link", info.Role.String()),
		metrics: newMetrics(opts.Registerer, info.Role),
		streams: make(map[*Stream]struct{}),
		dialled: make(map[dialKey]int),
		logged:  make(map[refusal]struct{}),
		jitter:  rand.Float64,
	}
	registerUsage(opts.Registerer, e)
	opts.Board.join(e)
	return e
}

// Info returns who this endpoint is.
func (e *Endpoint) Info() Info { return e.info }

// Trim has every stream let go of buffers that nothing is in, until they are needed again. Safe for concurrent use.
func (e *Endpoint) Trim() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.streams {
		s.out.trim()
	}
}

func (e *Endpoint) intro(want Role) intro {
	in := intro{info: e.info, want: want, window: e.opts.Credits, kinds: kindEnd - 1}
	if r := e.opts.Board.Current(); r != nil {
		in.founded = r.Cluster
	}
	return in
}

// admits says whether the peer of an introduction that fits may have a stream.
func (e *Endpoint) admits(in *intro, dialled string, verified [][]*x509.Certificate) error {
	if e.opts.Admit == nil || e.opts.Admit(in.info, dialled, verified) {
		return nil
	}
	return fmt.Errorf("%w: the peer may not speak for region %d", errRegion, in.info.Region)
}

// refusal is one reason seen from one peer.
type refusal struct{ peer, why string }

// What is logged of refusals: anybody who reaches the port can cause them, with texts of his own (those about certificates).
const (
	maxLogged = 256 // different ones in logAgain; the metric counts all
	maxReason = 512 // bytes of a text
)

// refused counts a refusal and logs it the first time: a peer that is set up wrongly comes back every few seconds, and a probe that resets
// its connections does, from another port each time.
func (e *Endpoint) refused(peer string, err error) {
	e.metrics.refused(err)
	text := err.Error()
	text = text[:min(len(text), maxReason)]
	key := refusal{peer, strings.Map(noDigits, text)}
	e.mu.Lock()
	_, seen := e.logged[key]
	if !seen && len(e.logged) >= maxLogged {
		if seen = time.Since(e.loggedSince) < logAgain; !seen {
			clear(e.logged)
		}
	}
	if !seen {
		if len(e.logged) == 0 {
			e.loggedSince = time.Now()
		}
		e.logged[key] = struct{}{}
	}
	e.mu.Unlock()
	if !seen {
		e.log.Warn("stream refused", "peer", peer, "err", text)
	}
}
