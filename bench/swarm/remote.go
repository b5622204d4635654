package swarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// answerWait is for what needs no waiting on sessions, and behind the end of an order's context. A hundred busy engines share the cores
	// of one machine, so each may be slow without being dead.
	answerWait = time.Minute
	endWait    = 10 * time.Second // for a child of an agent to end by itself
	closeWait  = 5 * time.Minute  // for the children here, which close millions of connections on the cores of one machine
	tokenWait  = 10 * time.Second
)

// remote is the controller's end of one engine's lines. Safe for concurrent use.
type remote struct {
	name  string
	first int // fleet's number of its session 0
	count int
	pid   int // 0: of another machine

	in       io.WriteCloser
	close    func() error  // ends it and waits
	patience time.Duration // answerWait
	last     atomic.Uint64
	writing  sync.Mutex    // of its own: the engine may be slow to read a long line, and answers come meanwhile
	gone     chan struct{} // closed when no answer will come any more

	mu      sync.Mutex
	waiting map[uint64]chan answer
	err     error // why it is gone
}

func newRemote(name string, in io.WriteCloser, out io.Reader) *remote {
	r := &remote{name: name, in: in, patience: answerWait, gone: make(chan struct{}), waiting: map[uint64]chan answer{}}
	go r.read(out)
	return r
}

// read gives answers to who waits for them, until the engine ends.
func (r *remote) read(out io.Reader) {
	lines := make(chan []byte)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() { cancel(readLines(ctx, out, lines)) }()
	for {
		select {
		case line := <-lines:
			var a answer
			if err := json.Unmarshal(line, &a); err != nil {
				r.fail(fmt.Errorf("an answer: %w", err))
				return
			}
			r.mu.Lock()
			wait := r.waiting[a.ID]
			delete(r.waiting, a.ID)
			r.mu.Unlock()
			if wait != nil {
				wait <- a
			}
		case <-ctx.Done():
			r.fail(fmt.Errorf("ended: %w", context.Cause(ctx)))
			return
		}
	}
}

func (r *remote) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		close(r.gone)
	}
}

// fault returns why the engine is gone; nil: it is not.
func (r *remote) fault() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *remote) write(q request) error {
	line, err := json.Marshal(q)
	if err != nil {
		return err
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	if d, ok := r.in.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(time.Now().Add(r.patience)) // where it cannot be set, the end of the engine ends the write
	}
	if _, err = r.in.Write(append(line, '\n')); err != nil {
		r.fail(fmt.Errorf("takes no order: %w", err)) // what it may have got of the line makes the next one no line
	}
	return err
}

// do sends an order and waits for its answer; result, a pointer or nil, gets what was found, also beside an error. When ctx ends, the
// engine is told so and has answerWait to say what it has found; one that does not is taken for dead.
func (r *remote) do(ctx context.Context, op string, body, result any) error {
	if err := r.fault(); err != nil {
		return fmt.Errorf("swarm: engine %s: %w", r.name, err)
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	id := r.last.Add(1)
	wait := make(chan answer, 1)
	r.mu.Lock()
	r.waiting[id] = wait
	r.mu.Unlock()
	if err := r.write(request{ID: id, Op: op, Body: encoded}); err != nil {
		return fmt.Errorf("swarm: engine %s: %w", r.name, err)
	}
	select {
	case a := <-wait:
		return r.take(a, result)
	case <-r.gone:
		return fmt.Errorf("swarm: engine %s: %w", r.name, r.fault())
	case <-ctx.Done():
	}
	_ = r.write(request{ID: id, Op: opCancel})
	late := time.NewTimer(r.patience)
	defer late.Stop()
	select {
	case a := <-wait:
		return errors.Join(ctx.Err(), r.take(a, result))
	case <-r.gone:
		return fmt.Errorf("swarm: engine %s: %w", r.name, r.fault())
	case <-late.C:
		err := fmt.Errorf("does not answer: %s", op)
		r.fail(err)
		return fmt.Errorf("swarm: engine %s: %w", r.name, err)
	}
}

func (r *remote) take(a answer, result any) error {
	var err error
	if result != nil && len(a.Result) > 0 {
		err = json.Unmarshal(a.Result, result)
	}
	if a.Error != "" {
		err = errors.Join(fmt.Errorf("engine %s: %s", r.name, a.Error), err)
	}
	return err
}

// soon is do for what needs no waiting on sessions.
func (r *remote) soon(ctx context.Context, op string, body, result any) error {
	ctx, stop := context.WithTimeout(ctx, answerWait)
	defer stop()
	return r.do(ctx, op, body, result)
}

// startChild starts a process that serves one engine. It ends when its input does, so also with this process, however that ends.
func startChild(name string, command []string, log io.Writer) (*remote, error) {
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("swarm: which program this is: %w", err)
		}
		command = []string{self, "bench", "swarm"}
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the terminal is the controller's to hand on
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("swarm: start a child: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("swarm: start a child: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("swarm: start a child: %w", err)
	}
	r := newRemote(name, in, out)
	r.pid = cmd.Process.Pid
	r.close = func() error {
		_ = in.Close()
		kill := time.AfterFunc(closeWait, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		<-r.gone // all answers are read before Wait closes the pipe
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("swarm: engine %s: %w", name, err)
		}
		return nil
	}
	return r, nil
}

// agentHello is an agent's first line.
type agentHello struct {
	Token string `json:"token"`
}

// dialAgent has an agent serve one engine.
func dialAgent(ctx context.Context, name, addr, token string) (*remote, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("swarm: agent: %w", err)
	}
	line, err := json.Marshal(agentHello{Token: token})
	if err == nil {
		_, err = nc.Write(append(line, '\n'))
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("swarm: agent: %w", err)
	}
	r := newRemote(name, nc, nc)
	r.close = func() error {
		_ = nc.Close() // perhaps again: the end of a context closes it as well
		<-r.gone
		return nil
	}
	return r, nil
}
