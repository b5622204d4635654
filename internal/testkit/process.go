package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is one child process. Its output is kept, up to a bound, and shown when the test fails.
type Process struct {
	// Line, if set before Start, gets each whole line of standard output instead. It is called on one goroutine at a time.
	Line func(line []byte)
	// Log, if set before Start, gets each whole line of standard error too, on one goroutine.
	Log func(line []byte)

	t    testing.TB
	name string
	exe  string // "": Binary
	args []string
	wrap []string // a command that executes the binary in its place, as `ip netns exec NAME` does
	env  []string // beside this process's own
	out  tail
	cmd  *exec.Cmd
	done chan struct{}
}

// tailBytes bounds the output kept of a process, over all its lives.
const tailBytes = 256 << 10

// tail keeps the last bytes written to it. Safe for concurrent use.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (o *tail) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = append(o.b, p...)
	if extra := len(o.b) - tailBytes; extra > 0 {
		o.b = bytes.Clone(o.b[extra:])
	}
	return len(p), nil
}

func (o *tail) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.b)
}

// lines calls each for every whole line written to it; an unfinished one at the end is dropped, as a killed writer left it.
type lines struct {
	each func([]byte)
	part []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		line, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok {
			l.part = bytes.Clone(l.part)
			return len(p), nil
		}
		l.each(line)
		l.part = rest
	}
}

// NewProcess returns a process that does not run yet; name is for messages. The test's end kills it if it still runs.
func NewProcess(t testing.TB, name string, args ...string) *Process {
	p := &Process{t: t, name: name, args: args}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.out.String())
		}
	})
	return p
}

// Start starts the process; it must not run.
func (p *Process) Start() {
	p.t.Helper()
	exe := p.exe
	if exe == "" {
		exe = Binary(p.t)
	}
	argv := slices.Concat(p.wrap, []string{exe}, p.args)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if p.Line != nil {
		p.cmd.Stdout = &lines{each: p.Line}
	}
	if p.Log != nil {
		p.cmd.Stderr = io.MultiWriter(&p.out, &lines{each: p.Log})
	}
	p.cmd.Env = append(append(os.Environ(), "GOTRACEBACK=single"), p.env...) // all of them would push the panic itself out of what is kept
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("starting %s: %v", p.name, err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // the state is read from cmd.ProcessState
		close(done)
	}(p.cmd, p.done)
}

// Running reports whether the process runs.
func (p *Process) Running() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// PID returns the process id; 0 when it does not run.
func (p *Process) PID() int {
	if !p.Running() {
		return 0
	}
	return p.cmd.Process.Pid
}

// Output returns the last bytes that the process wrote.
func (p *Process) Output() string { return p.out.String() }

// Signal sends a signal; nothing happens when the process does not run.
func (p *Process) Signal(sig syscall.Signal) {
	if p.Running() {
		_ = p.cmd.Process.Signal(sig) // it may just have ended
	}
}

// Pause stops the process with SIGSTOP, and returns once none of its threads runs: the signal itself only asks for that, and on a busy
// machine a thread may do much until it is heard. The test fails when the process ends instead. Resume lets it go on; Kill ends it all
// the same. For the test's own goroutine.
func (p *Process) Pause() {
	p.t.Helper()
	pid := p.PID()
	if pid == 0 {
		p.t.Fatalf("%s does not run", p.name)
	}
	p.Signal(syscall.SIGSTOP)
	for {
		var status syscall.WaitStatus
		switch _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); { // the parent is told when the last thread stands still
		case errors.Is(err, syscall.EINTR):
		case err != nil || !status.Stopped():
			p.t.Fatalf("%s did not stop: status %#x, %v", p.name, status, err)
		default:
			return
		}
	}
}

// Resume lets a paused process go on; nothing happens to one that runs, or that has ended.
func (p *Process) Resume() { p.Signal(syscall.SIGCONT) }

// Kill ends the process with SIGKILL and waits until it is gone. Nothing happens when it does not run.
func (p *Process) Kill() {
	if p.Running() {
		_ = p.cmd.Process.Kill() // it may just have ended
		<-p.done
	}
}

// KillTogether kills processes at one moment and waits until they are gone.
func KillTogether(procs ...*Process) {
	for _, p := range procs {
		if p.Running() {
			_ = p.cmd.Process.Kill()
		}
	}
	for _, p := range procs {
		p.Kill()
	}
}

// Stop asks the process to end with SIGTERM and returns its exit code. It is killed, and the error says so, when it still runs
// after the limit.
func (p *Process) Stop(limit time.Duration) (int, error) {
	if !p.Running() {
		return p.ExitCode(), nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return -1, err
	}
	select {
	case <-p.done:
		return p.ExitCode(), nil
	case <-time.After(limit):
		p.Kill()
		return -1, fmt.Errorf("%s did not end within %v of SIGTERM", p.name, limit)
	}
}

// ExitCode returns the exit code of an ended process; -1 when a signal ended it or it never ran.
func (p *Process) ExitCode() int {
	if p.cmd == nil || p.cmd.ProcessState == nil {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// Run runs the binary with args to its end and returns its trimmed standard output and exit code.
func (s *System) Run(args ...string) (string, int) {
	s.t.Helper()
	exe := s.exe
	if exe == "" {
		exe = Binary(s.t)
	}
	var out bytes.Buffer
	cmd := exec.Command(exe, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, &out, testWriter{s.t}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return string(bytes.TrimSpace(out.Bytes())), cmd.ProcessState.ExitCode()
}
