package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// trialRun is a running trial. Each process has a goroutine that starts it again when it ends.
type trialRun struct {
	t    *Trial
	w    io.Writer
	ends sync.WaitGroup

	mu       sync.Mutex // under it w is written to, too
	children map[string]*trialChild
	settled  bool  // all were ready once: who ends from here on is started again
	stopping bool  // nobody is
	failed   error // why it cannot go on

	over chan struct{} // closed when failed is set
}

// trialChild is one run of a process. Its standard input is a pipe from this one: it ends in order when that is closed, which the
// kernel does when this process dies.
type trialChild struct {
	cmd   *exec.Cmd
	alive io.WriteCloser
	done  chan struct{}
}

// trialLimit bounds the wait for the processes: to be ready, and to end.
const trialLimit = 2 * time.Minute

// Run runs the processes until ctx ends, and then ends them in order, the gateway first. What they write goes to w, each line with the name of
// its process in front. ready is called once, when all serve, with their process ids. A process that ends later is started again.
func (t *Trial) Run(ctx context.Context, w io.Writer, ready func(pids map[string]int)) error {
	defer t.lock.close()
	r := &trialRun{t: t, w: w, children: map[string]*trialChild{}, over: make(chan struct{})}
	defer r.stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-r.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := r.start(ctx); err != nil {
		if ctx.Err() != nil {
			return r.why()
		}
		return err
	}
	ready(r.pids())
	<-ctx.Done()
	return r.why()
}

// start founds the cluster if there is none, has everybody join who has not, and returns when all are ready.
func (r *trialRun) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	log := slog.New(slog.DiscardHandler) // that the first router is not up yet, again and again
	for i, name := range r.t.Members {
		in, err := r.t.joined(name)
		if err == nil && !in {
			if i == 0 {
				_, err = InitCluster(r.t.cfgs[name], trialMachines)
			} else {
				_, err = JoinCluster(ctx, r.t.cfgs[name], trialRole(name), log)
			}
		}
		if err != nil {
			return err
		}
		r.keep(name)
	}
	r.keep("gateway")
	for name, cfg := range r.t.cfgs {
		for !answers(ctx, "http://"+cfg.Admin.Listen+"/readyz") {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s does not become ready: %w", name, ctx.Err())
			case <-time.After(readyPause):
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled = true
	return nil
}

// answers reports whether a page says yes.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// keep runs a process until the end.
func (r *trialRun) keep(name string) {
	r.ends.Go(func() {
		for first := true; ; first = false {
			c, err := r.spawn(name)
			switch {
			case err != nil:
				r.fail(err)
				return
			case c == nil:
				return
			case !first:
				r.say(name, fmt.Sprintf("runs again, process %d", c.cmd.Process.Pid))
			}
			<-c.done
			if !r.again(name, c.cmd.ProcessState.String()) {
				return
			}
		}
	})
}

// spawn starts a process; nil: it is the end.
func (r *trialRun) spawn(name string) (*trialChild, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		return nil, nil
	}
	c := &trialChild{cmd: exec.Command(r.t.exe, string(trialRole(name)), "--config", r.t.Config(name), "--with-parent"), done: make(chan struct{})}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for this process, which ends them in order
	out := &trialLines{r: r, name: name}
	c.cmd.Stdout, c.cmd.Stderr = out, out
	var err error
	if c.alive, err = c.cmd.StdinPipe(); err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r.children[name] = c
	go func() {
		_ = c.cmd.Wait() // the state is read from cmd.ProcessState
		close(c.done)
	}()
	return c, nil
}

// again waits until a process that has ended is to be started once more; false: it is not.
func (r *trialRun) again(name, how string) bool {
	r.mu.Lock()
	settled, stopping := r.settled, r.stopping
	r.mu.Unlock()
	switch {
	case stopping:
		return false
	case !settled:
		r.fail(fmt.Errorf("%s ended at its start (%s): see its lines above", name, how))
		return false
	}
	r.say(name, fmt.Sprintf("has ended (%s), and comes back in %v", how, r.t.again))
	select {
	case <-r.over:
		return false
	case <-time.After(r.t.again):
		return true
	}
}

func (r *trialRun) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil && !r.stopping {
		r.failed = err
		close(r.over)
	}
}

func (r *trialRun) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *trialRun) pids() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	pids := map[string]int{}
	for name, c := range r.children {
		pids[name] = c.cmd.Process.Pid
	}
	return pids
}

// stop ends the gateway, then all others, and returns when all have ended.
func (r *trialRun) stop() {
	r.mu.Lock()
	r.stopping = true
	if r.failed == nil {
		close(r.over)
	}
	children := r.children
	r.mu.Unlock()
	limit := time.NewTimer(trialLimit)
	defer limit.Stop()
	end := func(c *trialChild) {
		if c == nil {
			return
		}
		select {
		case <-c.done:
		case <-limit.C:
			limit.Reset(0) // for the next one, too
			_ = c.cmd.Process.Kill()
			<-c.done
		}
	}
	if gateway := children["gateway"]; gateway != nil {
		gateway.alive.Close()
		end(gateway)
	}
	for _, c := range children {
		c.alive.Close()
	}
	for _, c := range children {
		end(c)
	}
	r.ends.Wait()
}

// say writes a line of a process, or about it.
func (r *trialRun) say(name, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.w, "%-9s | %s\n", name, line)
}

// maxTrialLine bounds a line: longer ones are cut in pieces.
const maxTrialLine = 64 << 10

// trialLines passes on what a process writes, line by line.
type trialLines struct {
	r    *trialRun
	name string
	part []byte // goroutine of exec.Cmd that copies
}

// Write implements io.Writer. It never fails.
func (l *trialLines) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		line, rest, whole := bytes.Cut(l.part, []byte("\n"))
		if !whole {
			if len(l.part) < maxTrialLine {
				return len(p), nil
			}
			line, rest = l.part, nil
		}
		l.r.say(l.name, string(line))
		l.part = append(l.part[:0], rest...)
	}
}

// UntilEOF returns a context that ends with ctx, or when in does: a child's whose parent holds the other end of a pipe. A read error is an end. Its
// goroutine reads in for as long as the process lives.
func UntilEOF(ctx context.Context, in io.Reader) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		_, err := io.Copy(io.Discard, in)
		cancel(errors.Join(errParentGone, err))
	}()
	return ctx
}

// errParentGone is why a child ends.
var errParentGone = errors.New("the parent process has ended, or wants this one to")
