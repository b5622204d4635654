package swarm

import (
	"context"
	"errors"
	"io"
)

// FleetConfig describes a Fleet.
type FleetConfig struct {
	Config // of all sessions together
	// PerEngine is how many sessions a child process holds; 0: 18,000, which fits a limit of 20,000 descriptors.
	PerEngine int
	// Agents are machines that run the engines instead of this one: HOST:PORT of `linecard bench agent`. Engines are spread over them.
	Agents []string
	// Token is what agents want to hear.
	Token string
	// Command starts a child that speaks the engine's orders on its standard input and output. nil: this program with the arguments
	// `bench swarm`.
	Command []string
	// Progress is called about once a second with the sum of all engines' counters, from one goroutine. nil: nobody asks.
	Progress func(Counters)
	// Log gets what children write to standard error. nil: dropped.
	Log io.Writer
}

// Fleet is many engines as one: sessions are numbered through, orders are divided over the engines that hold the sessions, and results
// added up. An engine that dies is reported by every later order and in Counters; its sessions are lost, never forgotten.
type Fleet struct{ cfg FleetConfig }

var errUnwritten = errors.New("swarm: not written yet")

// NewFleet starts the engines. Children end with the fleet, with this process, and when ctx ends.
func NewFleet(ctx context.Context, cfg FleetConfig) (*Fleet, error) { return &Fleet{cfg: cfg}, nil }

// Open connects sessions and waits until each of them is bound or has stopped. Rate is that of the whole fleet.
func (f *Fleet) Open(ctx context.Context, o Open) (Opened, error) { return Opened{}, errUnwritten }

// Hangup ends sessions for good.
func (f *Fleet) Hangup(ctx context.Context, r Range) error { return errUnwritten }

// Cut ends connections at once on all engines and waits until the sessions are back.
func (f *Fleet) Cut(ctx context.Context, c Cut) (Storm, error) { return Storm{}, errUnwritten }

// Pairs makes traffic. Pairs never span two engines: their latencies are by one clock.
func (f *Fleet) Pairs(ctx context.Context, p Pairs) (Traffic, error) { return Traffic{}, errUnwritten }

// Random sends messages between random sessions of the whole fleet and checks that each of them arrives, once.
func (f *Fleet) Random(ctx context.Context, messages, size int) (Traffic, error) {
	return Traffic{}, errUnwritten
}

// Slow stops reading on sessions, or reads again.
func (f *Fleet) Slow(ctx context.Context, s Slow) error { return errUnwritten }

// Ping has sessions ping at once and waits for the pongs.
func (f *Fleet) Ping(ctx context.Context, p Ping) (Pinged, error) { return Pinged{}, errUnwritten }

// Counters returns the sum of all engines' totals. It asks them.
func (f *Fleet) Counters(ctx context.Context) (Counters, error) { return Counters{}, errUnwritten }

// Memory returns the sum over the engines.
func (f *Fleet) Memory(ctx context.Context) (Memory, error) { return Memory{}, errUnwritten }

// Pids returns the process ids of the children on this machine.
func (f *Fleet) Pids() []int { return nil }

// Close ends all sessions and engines.
func (f *Fleet) Close() error { return nil }
