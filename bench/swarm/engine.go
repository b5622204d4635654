package swarm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClosed: the engine or fleet has been closed.
var ErrClosed = errors.New("swarm: closed")

// errBusy: another order of the kind has not ended yet.
var errBusy = errors.New("swarm: another such order is under way")

// Engine runs the sessions of one process. All methods are safe for concurrent use; there may be one Open or Cut and one Pairs or Send at
// a time. When ctx ends an order is given up, and what it has found so far is returned with the error; an Open or a Cut waits for
// its sessions for as long as ctx lets it.
type Engine struct {
	loop *loop
	wake int           // the pipe's writing end
	done chan struct{} // the loop has ended

	mu     sync.Mutex
	mail   []func() // run on the loop, in order
	closed bool
	err    error // why the loop ended by itself
}

// New starts an engine without sessions.
func New(cfg Config) (*Engine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("swarm: pipe: %w", err)
	}
	l, err := newLoop(cfg, pipe[0])
	if err != nil {
		unix.Close(pipe[0])
		unix.Close(pipe[1])
		return nil, err
	}
	e := &Engine{loop: l, wake: pipe[1], done: make(chan struct{})}
	l.mail = e.takeMail
	go func() {
		err := l.run()
		e.mu.Lock()
		e.closed, e.err, e.mail = true, err, nil
		unix.Close(e.wake) // under the mutex: post writes to it
		e.mu.Unlock()
		close(e.done)
	}()
	return e, nil
}

// post has f run on the loop; false when there is none any more.
func (e *Engine) post(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.mail = append(e.mail, f)
	if len(e.mail) == 1 {
		_, _ = unix.Write(e.wake, []byte{0}) // a full pipe wakes as well
	}
	return true
}

func (e *Engine) takeMail() []func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	mail := e.mail
	e.mail = nil
	return mail
}

// over returns why the loop has ended.
func (e *Engine) over() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return errors.Join(ErrClosed, e.err)
}

// call runs f on the loop and waits for it.
func (e *Engine) call(f func() error) error {
	answer := make(chan error, 1)
	if !e.post(func() { answer <- f() }) {
		return e.over()
	}
	select {
	case err := <-answer:
		return err
	case <-e.done:
		return e.over()
	}
}

// order runs begin on the loop, waits until what it began calls its argument, or ctx ends, and then runs end on the loop.
func (e *Engine) order(ctx context.Context, begin func(ended func()) error, end func()) error {
	over := make(chan struct{})
	var once sync.Once
	if err := e.call(func() error { return begin(func() { once.Do(func() { close(over) }) }) }); err != nil {
		return err
	}
	var err error
	select {
	case <-over:
	case <-ctx.Done():
		err = ctx.Err()
	case <-e.done:
		return e.over()
	}
	return errors.Join(err, e.call(func() error { end(); return nil }))
}

// Open connects sessions and waits until each of them is bound or has stopped.
func (e *Engine) Open(ctx context.Context, o Open) (Opened, error) {
	var w *watch
	err := e.order(ctx, func(ended func()) (err error) {
		w, err = e.loop.beginOpen(o, ended)
		return err
	}, func() { e.loop.endWatch(w) })
	if w == nil {
		return Opened{}, err
	}
	return w.result, err
}

// Cut ends connections at once and waits until the sessions are back.
func (e *Engine) Cut(ctx context.Context, c Cut) (Storm, error) {
	var w *watch
	err := e.order(ctx, func(ended func()) (err error) {
		w, err = e.loop.beginCut(c, ended)
		return err
	}, func() { e.loop.endWatch(w) })
	if w == nil {
		return Storm{}, err
	}
	return Storm{Opened: w.result, Lost: w.cut, Back: w.back, Closes: w.closes}, err
}

// Pairs makes traffic and waits for its end.
func (e *Engine) Pairs(ctx context.Context, p Pairs) (Traffic, error) {
	return e.traffic(ctx, func(ended func()) (*traffic, error) { return e.loop.beginPairs(p, ended) })
}

// Finish has the Pairs under way begin no further messages. They end when what is under way has been answered and has arrived.
func (e *Engine) Finish() error {
	return e.call(func() error { e.loop.finishTraffic(); return nil })
}

// Send sends letters and waits until all are acked. The engines that they go to are told to Expect them before.
func (e *Engine) Send(ctx context.Context, o Letters) (Traffic, error) {
	return e.traffic(ctx, func(ended func()) (*traffic, error) { return e.loop.beginLetters(o, ended) })
}

func (e *Engine) traffic(ctx context.Context, begin func(ended func()) (*traffic, error)) (Traffic, error) {
	var t *traffic
	var result Traffic
	err := e.order(ctx, func(ended func()) (err error) {
		t, err = begin(ended)
		return err
	}, func() {
		e.loop.endTraffic(t)
		result = t.report()
	})
	return result, err
}

// Report returns how the messages of the last Pairs fare by now: of blind ones, more may have arrived since its end.
func (e *Engine) Report() (Traffic, error) {
	var result Traffic
	err := e.call(func() error {
		if e.loop.traffic == nil {
			return errors.New("swarm: no traffic yet")
		}
		result = e.loop.traffic.report()
		return nil
	})
	return result, err
}

// Expect makes the engine note the letters of a run that arrive at its sessions. It forgets the run before it.
func (e *Engine) Expect(run uint64, letters int) error {
	return e.call(func() error { return e.loop.expect(run, letters) })
}

// Arrived returns what Expect asked for, as it is now.
func (e *Engine) Arrived() (Arrivals, error) {
	var a Arrivals
	err := e.call(func() error {
		a = e.loop.arrivals
		a.Set = append([]byte(nil), a.Set...)
		return nil
	})
	return a, err
}

// Addresses returns the addresses of sessions, in the same order. All of them must have been bound once.
func (e *Engine) Addresses(sessions []int) ([]Address, error) {
	var out []Address
	err := e.call(func() (err error) {
		out, err = e.loop.addresses(sessions)
		return err
	})
	return out, err
}

// Ping has sessions ping at once and waits for the pongs.
func (e *Engine) Ping(ctx context.Context, o Ping) (Pinged, error) {
	var p *pinging
	var result Pinged
	err := e.order(ctx, func(ended func()) (err error) {
		p, err = e.loop.beginPing(o, ended)
		return err
	}, func() {
		e.loop.endPing(p)
		result = p.result
	})
	return result, err
}

// Hangup ends sessions for good: nothing is counted as lost.
func (e *Engine) Hangup(_ context.Context, r Range) error {
	return e.call(func() error { return e.loop.hangup(r) })
}

// Slow stops reading on sessions, or reads again.
func (e *Engine) Slow(_ context.Context, s Slow) error {
	return e.call(func() error { return e.loop.slow(s) })
}

// Counters returns the totals.
func (e *Engine) Counters() Counters {
	var c Counters
	_ = e.call(func() error { c = e.loop.counters(); return nil }) // of a closed engine: none
	return c
}

// Memory returns what the sessions take.
func (e *Engine) Memory() Memory {
	var m Memory
	_ = e.call(func() error { m = e.loop.memory(); return nil })
	return m
}

// Close ends all connections and the loop.
func (e *Engine) Close() error {
	e.post(func() { e.loop.closing = true })
	<-e.done
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// cpuTime returns the CPU time of this process so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
