package swarm

import (
	"context"
	"errors"
)

// ErrClosed: the engine or fleet has been closed.
var ErrClosed = errors.New("swarm: closed")

// Engine runs the sessions of one process. All methods are safe for concurrent use; orders for traffic (Pairs, Send) run one at a time.
// When ctx ends an order is given up, and what it has found so far is returned with the error.
type Engine struct{ cfg Config }

// New starts an engine without sessions.
func New(cfg Config) (*Engine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Engine{cfg: cfg}, nil
}

var errUnwritten = errors.New("swarm: not written yet")

// Open connects sessions and waits until each of them is bound or has stopped.
func (e *Engine) Open(ctx context.Context, o Open) (Opened, error) { return Opened{}, errUnwritten }

// Hangup ends sessions for good, in order: nothing is counted as lost.
func (e *Engine) Hangup(ctx context.Context, r Range) error { return errUnwritten }

// Cut ends connections at once and waits until the sessions are back.
func (e *Engine) Cut(ctx context.Context, c Cut) (Storm, error) { return Storm{}, errUnwritten }

// Pairs makes traffic and waits for its end.
func (e *Engine) Pairs(ctx context.Context, p Pairs) (Traffic, error) { return Traffic{}, errUnwritten }

// Slow stops reading on sessions, or reads again.
func (e *Engine) Slow(ctx context.Context, s Slow) error { return errUnwritten }

// Ping has sessions ping at once and waits for the pongs.
func (e *Engine) Ping(ctx context.Context, p Ping) (Pinged, error) { return Pinged{}, errUnwritten }

// Counters returns the totals.
func (e *Engine) Counters() Counters { return Counters{} }

// Memory returns what the sessions take.
func (e *Engine) Memory() Memory { return Memory{} }

// Close ends all sessions and the loop.
func (e *Engine) Close() error { return nil }
