package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Crew is what a supervisor needs of its process.
type Crew struct {
	Workers int
	Listen  string // HOST:PORT, held for the supervisor's life
	Dir     string // for sockets to the workers
	Config  []byte // text of the configuration file; see Roll
	// Command returns the command of a worker, without files: the operator sees the slot in it.
	Command func(slot int) *exec.Cmd
	// Said gets each line that a worker writes to its output. It borrows line.
	Said func(slot int, line []byte)
	// Look is the time between two looks at whether a worker is healthy; hungLooks in vain end it.
	Look time.Duration
	// Drain is how long a worker gets to end in order, see Config.DrainTimeout; what comes after draining has as much again and 10 s.
	Drain      time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Supervisor runs the workers of a gateway: New, then Run once. It holds the port and nothing of a session. Everything but Run is
// safe for concurrent use.
//
// Each slot has a goroutine that owns the slot's process: it starts it, starts it again when it has ended, and replaces it in a
// rolling restart. The replacement and the one that leaves overlap, so a slot has two numbers on links and two names for its sockets: who
// stands beside a process has the other ones, who comes after one that has ended the same.
type Supervisor struct {
	crew    Crew
	log     *slog.Logger
	listen  []string
	release func()
	dir     string
	cleanup func()
	slots   []*slot
	starts  chan startOrder
	totals  *totals

	rolling    sync.Mutex    // one roll at a time
	readyLimit time.Duration // see there; tests are less patient

	mu     sync.Mutex
	config []byte
}

// slot is one worker's place.
type slot struct {
	n      int // from 1
	orders chan chan error
	turn   uint16 // 0 or 1, of the process that was there last; the slot's goroutine only

	mu  sync.Mutex
	now *worker // nil while there is none
}

// Times of supervision.
const (
	restartMin = 100 * time.Millisecond
	restartMax = 10 * time.Second
	// steadyTime is how long a worker must have run for the next restart to start over at restartMin.
	steadyTime = 10 * time.Second
	// readyLimit is how long a replacement may take to be ready, but for the time in which sessions come to it; then the rolling restart
	// is given up.
	readyLimit = time.Minute
	readyPoll  = 50 * time.Millisecond
	endGrace   = 10 * time.Second
	// hungLooks is generous: in a reconnect storm a worker is slow, and to kill it would feed the storm.
	hungLooks = 12
)

// NewSupervisor checks that the port is free and holds it. Run, or Close without Run, lets it go.
func NewSupervisor(crew Crew) (*Supervisor, error) {
	listen, release, err := reserve(crew.Listen, nil)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	dir, cleanup, err := socketDir(crew.Dir)
	if err != nil {
		release()
		return nil, fmt.Errorf("gateway: sockets of workers: %w", err)
	}
	s := &Supervisor{crew: crew, log: crew.Logger, listen: listen, release: release, dir: dir, cleanup: cleanup,
		starts: make(chan startOrder), readyLimit: readyLimit, config: crew.Config}
	for n := range crew.Workers {
		s.slots = append(s.slots, &slot{n: n + 1, orders: make(chan chan error)})
	}
	s.totals = newTotals(s, crew.Registerer)
	return s, nil
}

// Close lets the port go. The workers must have ended.
func (s *Supervisor) Close() {
	s.release()
	s.cleanup()
}

// Addr is where clients connect.
func (s *Supervisor) Addr() net.Addr {
	_, text, _ := strings.Cut(s.listen[0], "://")
	at, _ := netip.ParseAddrPort(text) // reserve wrote it
	return net.TCPAddrFromAddrPort(at)
}

// Run runs the workers until ctx ends; then all drain, and it returns when the last is gone.
func (s *Supervisor) Run(ctx context.Context) {
	defer s.Close()
	ended := make(chan struct{})
	defer close(ended)
	go s.starter(ended)
	var all sync.WaitGroup
	for _, slot := range s.slots {
		all.Go(func() { s.keep(ctx, slot) })
	}
	all.Wait()
}

// keep owns a slot: it keeps a worker running there until ctx ends.
func (s *Supervisor) keep(ctx context.Context, at *slot) {
	failures := 0
	for ctx.Err() == nil {
		w, err := s.start(ctx, at, nil)
		began := time.Now()
		if err == nil {
			w, err = s.tend(ctx, at, w)
			began, at.turn = w.started, w.turn
		}
		if ctx.Err() != nil {
			return
		}
		if failures++; time.Since(began) >= steadyTime {
			failures = 1
		}
		wait := restartDelay(failures, rand.Float64())
		s.log.Warn("worker ended", "worker", at.n, "cause", causeText(err), "restart_in", wait.Round(time.Millisecond).String())
		s.totals.restarted(at.n)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		case answer := <-at.orders: // there is nobody to replace: come back at once, as who is new
			answer <- nil
		}
	}
}

// restartDelay returns how long to wait before restart n (from 1): doubling, uniform in its upper half so that workers which died of one
// cause do not come back together. r is in [0, 1).
func restartDelay(n int, r float64) time.Duration {
	d := restartMax
	if n < 8 {
		d = min(restartMin<<(n-1), restartMax)
	}
	return d/2 + time.Duration(r*float64(d/2))
}

func causeText(err error) string {
	if err == nil {
		return "ended in order"
	}
	return err.Error()
}

// tend looks after a running worker and those that replace it, until the last one ends by itself or ctx ends. It returns that one, and
// why it ended.
func (s *Supervisor) tend(ctx context.Context, at *slot, w *worker) (*worker, error) {
	look := time.NewTicker(s.crew.Look)
	defer look.Stop()
	silent := 0 // looks in a row without an answer
	for {
		select {
		case <-look.C:
			if silent++; w.ask("/healthz") {
				silent = 0
			}
			if silent >= hungLooks {
				s.log.Error("worker hangs and is killed", "worker", at.n, "pid", w.cmd.Process.Pid)
				w.kill()
			}
		case <-w.done:
			s.retire(at, w)
			return w, w.cause
		case answer := <-at.orders:
			next, err := s.replace(ctx, at, w)
			if next != nil {
				w, silent = next, 0
			}
			answer <- err
		case <-ctx.Done():
			w.terminate()
			s.awaitEnd(at, w)
			return w, w.cause
		}
	}
}

// awaitEnd waits until a worker that was told to end has, and takes it out of its slot and of the sums.
func (s *Supervisor) awaitEnd(at *slot, w *worker) {
	if !w.gone(2*s.crew.Drain + endGrace) {
		s.log.Warn("worker did not end in time and was killed", "worker", at.n, "pid", w.cmd.Process.Pid)
	}
	s.retire(at, w)
}

// start starts a process for a slot and shows it there. It takes the sessions of old, if there is one.
func (s *Supervisor) start(ctx context.Context, at *slot, old *worker) (*worker, error) {
	s.mu.Lock()
	config := s.config
	s.mu.Unlock()
	turn := at.turn
	if old != nil {
		turn = 1 - old.turn
	}
	boot := Boot{Slot: at.n, Worker: uint16(at.n) | turn<<15, Workers: len(s.slots), Listen: s.listen, Config: config}
	boot.Handover = filepath.Join(s.dir, fmt.Sprintf("moves-%d%c.sock", at.n, 'a'+rune(turn)))
	if old != nil && CanHandOver {
		boot.Takeover = old.handover
	}
	path := filepath.Join(s.dir, fmt.Sprintf("worker-%d%c.sock", at.n, 'a'+rune(turn)))
	w, err := launch(s.crew.Command(at.n), boot, path, func(c *exec.Cmd) error { return s.begin(ctx, c) },
		func(line []byte) { s.crew.Said(at.n, line) })
	if err != nil {
		return nil, err
	}
	w.turn, w.config = turn, config
	s.log.Info("worker started", "worker", at.n, "pid", w.cmd.Process.Pid)
	s.totals.enter(w)
	at.set(w)
	return w, nil
}

// retire takes a worker that has ended out of the sums, and out of its slot if it is still shown there.
func (s *Supervisor) retire(at *slot, w *worker) {
	s.totals.retire(w)
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.now == w {
		at.now = nil
	}
}

func (at *slot) set(w *worker) {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.now = w
}

func (at *slot) get() *worker {
	at.mu.Lock()
	defer at.mu.Unlock()
	return at.now
}

// current returns the worker of a slot (from 1), nil when there is none now.
func (s *Supervisor) current(n int) *worker {
	if n < 1 || n > len(s.slots) {
		return nil
	}
	return s.slots[n-1].get()
}

func slotName(n int) string { return strconv.Itoa(n) }
