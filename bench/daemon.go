package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Limits of waits; nothing is measured by them.
const (
	readyLimit = 2 * time.Minute
	stopLimit  = 30 * time.Second
	pollEvery  = 20 * time.Millisecond
	logTail    = 2 << 10 // bytes of a log that an error shows
)

var errDaemon = errors.New("server")

// daemon is a server process on this machine.
type daemon struct {
	name  string // of the process, for messages
	part  string // gateway, router, offline or up
	exe   string
	args  []string
	log   string // path
	data  string // directory, where a scenario looks at it
	admin string

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
}

func (d *daemon) start() error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("%w %s: %w", errDaemon, d.name, err)
	}
	defer log.Close() // the process has its own
	d.cmd = exec.Command(d.exe, d.args...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = endsWithUs()
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("%w %s: %w", errDaemon, d.name, err)
	}
	d.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}(d.cmd, d.ended)
	return nil
}

// pid is the process that runs, or ran last.
func (d *daemon) pid() int { return d.cmd.Process.Pid }

func (d *daemon) running() bool {
	if d.ended == nil {
		return false
	}
	select {
	case <-d.ended:
		return false
	default:
		return true
	}
}

// ready waits until the process says that it serves.
func (d *daemon) ready(ctx context.Context) error {
	client := http.Client{Timeout: 5 * time.Second}
	last := "no answer"
	for end := time.Now().Add(readyLimit); time.Now().Before(end); time.Sleep(pollEvery) { // another process: it can only be asked again
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !d.running() {
			return fmt.Errorf("%w %s ended at its start:\n%s", errDaemon, d.name, d.tail())
		}
		resp, err := client.Get("http://" + d.admin + "/readyz")
		if err != nil {
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, logTail)) // only for the message
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		last = string(bytes.TrimSpace(body))
	}
	return fmt.Errorf("%w %s is not ready: %s", errDaemon, d.name, last)
}

// stop ends the process in order, and kills it when it takes too long.
func (d *daemon) stop() error {
	if !d.running() {
		return nil
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && d.running() {
		return fmt.Errorf("%w %s: %w", errDaemon, d.name, err)
	}
	select {
	case <-d.ended:
		return nil
	case <-time.After(stopLimit):
	}
	d.kill()
	return fmt.Errorf("%w %s had to be killed", errDaemon, d.name)
}

// kill ends the process at once.
func (d *daemon) kill() {
	if d.running() {
		_ = d.cmd.Process.Kill() // it may just have ended
		<-d.ended
	}
}

// tail returns the end of the log.
func (d *daemon) tail() string {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTail):])
}
