package swarm

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
)

// An engine is ordered about by lines of JSON, one request or answer a line, over a child's standard input and output or an agent's TCP
// connection. The first request is opNew; answers come in any order, matched by ID. The end of the input ends the engine.

type request struct {
	ID   uint64          `json:"id"`
	Op   string          `json:"op"`
	Body json.RawMessage `json:"body,omitempty"`
}

type answer struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"` // also beside an error: what was found so far
	Error  string          `json:"error,omitempty"`
}

const (
	opNew       = "new"    // Config
	opCancel    = "cancel" // the ID of the request to give up
	opOpen      = "open"
	opHangup    = "hangup"
	opCut       = "cut"
	opPairs     = "pairs"
	opFinish    = "finish"
	opReport    = "report"
	opSlow      = "slow"
	opPing      = "ping"
	opCounters  = "counters"
	opMemory    = "memory"
	opAddresses = "addresses"
	opExpect    = "expect"
	opSend      = "send"
	opArrived   = "arrived"
)

// maxLine bounds a line: the letters of an engine, or the addresses of its sessions.
const maxLine = 64 << 20

// expectation is the body of opExpect.
type expectation struct {
	Run     uint64
	Letters int
}

// server is the engine's end of the lines.
type server struct {
	out io.Writer

	mu      sync.Mutex
	engine  *Engine
	running map[uint64]context.CancelFunc
}

// Serve runs one engine as its orders say, until in ends, ctx ends, or a line cannot be read. It is the whole of `linecard bench swarm`.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	// The heap is a few megabytes of which handshakes make garbage: it is to stay small beside the sessions of mapped memory.
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	s := &server{out: out, running: map[uint64]context.CancelFunc{}}
	lines := make(chan []byte)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(readLines(ctx, in, lines)) }()
	var orders sync.WaitGroup
	var fault error
	for {
		select {
		case line := <-lines:
			var r request
			if err := json.Unmarshal(line, &r); err != nil {
				fault = fmt.Errorf("swarm: an order: %w", err) // perhaps the input ends just now: that is no cause beside this one
				cancel(fault)
				continue
			}
			if r.Op == opCancel {
				s.cancel(r.ID)
				continue
			}
			orders.Go(func() { s.handle(ctx, r) })
		case <-ctx.Done():
			orders.Wait()
			err := cmp.Or(fault, context.Cause(ctx))
			if s.engine != nil {
				err = errors.Join(err, s.engine.Close())
			}
			if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
				return nil // the controller has gone, or this process was asked to
			}
			return err
		}
	}
}

// readLines hands on the lines of in until it ends.
func readLines(ctx context.Context, in io.Reader, lines chan<- []byte) error {
	r := bufio.NewScanner(in)
	r.Buffer(nil, maxLine)
	for r.Scan() {
		select {
		case lines <- append([]byte(nil), r.Bytes()...):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	return io.EOF
}

func (s *server) cancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stop := s.running[id]; stop != nil {
		stop()
	}
}

// handle carries out one request and answers it.
func (s *server) handle(ctx context.Context, r request) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.mu.Lock()
	s.running[r.ID] = stop
	e := s.engine
	s.mu.Unlock()
	result, err := s.do(ctx, e, r)
	a := answer{ID: r.ID}
	if result != nil {
		var marshal error
		a.Result, marshal = json.Marshal(result)
		err = errors.Join(err, marshal)
	}
	if err != nil {
		a.Error = err.Error()
	}
	line, err := json.Marshal(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, r.ID)
	if err == nil {
		_, _ = s.out.Write(append(line, '\n')) // a controller that has gone ends the input as well
	}
}

// do calls the engine.
func (s *server) do(ctx context.Context, e *Engine, r request) (any, error) {
	if r.Op == opNew {
		return nil, s.create(r.Body)
	}
	if e == nil {
		return nil, fmt.Errorf("swarm: %s before new", r.Op)
	}
	switch r.Op {
	case opOpen:
		defer debug.FreeOSMemory() // what the handshakes left
		return ordered(ctx, r.Body, e.Open)
	case opCut:
		defer debug.FreeOSMemory()
		return ordered(ctx, r.Body, e.Cut)
	case opPairs:
		return ordered(ctx, r.Body, e.Pairs)
	case opFinish:
		return nil, e.Finish()
	case opSend:
		return ordered(ctx, r.Body, e.Send)
	case opPing:
		return ordered(ctx, r.Body, e.Ping)
	case opHangup:
		return told(ctx, r.Body, e.Hangup)
	case opSlow:
		return told(ctx, r.Body, e.Slow)
	case opExpect:
		return told(ctx, r.Body, func(_ context.Context, x expectation) error { return e.Expect(x.Run, x.Letters) })
	case opAddresses:
		return ordered(ctx, r.Body, func(_ context.Context, list []int) ([]Address, error) { return e.Addresses(list) })
	case opReport:
		return e.Report()
	case opArrived:
		return e.Arrived()
	case opCounters:
		return e.Counters(), nil
	case opMemory:
		debug.FreeOSMemory()
		return e.Memory(), nil
	}
	return nil, fmt.Errorf("swarm: no order %q", r.Op)
}

func (s *server) create(body json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil {
		return errors.New("swarm: there is an engine already")
	}
	var cfg Config
	if err := json.Unmarshal(body, &cfg); err != nil {
		return err
	}
	var err error
	s.engine, err = New(cfg)
	return err
}

// ordered decodes an order and returns what it found, also beside an error.
func ordered[O, R any](ctx context.Context, body json.RawMessage, f func(context.Context, O) (R, error)) (any, error) {
	var o O
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, err
	}
	return f(ctx, o)
}

// told decodes an order that has no result.
func told[O any](ctx context.Context, body json.RawMessage, f func(context.Context, O) error) (any, error) {
	var o O
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, err
	}
	return nil, f(ctx, o)
}
