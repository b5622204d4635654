package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	reasons "linecard.example/internal/metrics"
)

// worker is one worker process as its supervisor sees it. Safe for concurrent use.
type worker struct {
	slot     int
	turn     uint16 // which of the slot's two numbers it has
	config   []byte // text that it was started with
	cmd      *exec.Cmd
	conn     net.Conn     // to its Seat
	pages    *http.Client // of its admin pages, with askLimit
	path     string       // of the socket of those
	handover string       // path of the socket on which it hands its sessions over
	started  time.Time
	done     chan struct{} // closed when the process is gone and all it had to say was read
	cause    error         // why it ended, nil when in order; after done

	mu    sync.Mutex
	last  []*dto.MetricFamily // as of its last answer
	final bool                // it will not answer again
}

// askLimit bounds how long a worker may take to answer its supervisor: a stuck one must not hold up a scrape.
const askLimit = time.Second

// maxLine bounds a line of a worker's output; a longer one comes in pieces.
const maxLine = 64 << 10

// launch starts a worker. cmd is complete but for its files. Lines that it writes go to said.
func launch(cmd *exec.Cmd, boot Boot, path string, start func(*exec.Cmd) error, said func(line []byte)) (*worker, error) {
	w := &worker{slot: boot.Slot, cmd: cmd, path: path, handover: boot.Handover, done: make(chan struct{})}
	w.pages = &http.Client{Timeout: askLimit, Transport: w.transport()}
	theirs, err := w.sockets()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, closeFiles(theirs), w.conn.Close())
	}
	cmd.Stderr, cmd.ExtraFiles = cmd.Stdout, theirs
	// Its own group: an interrupt typed at the supervisor is the supervisor's to act on. Its death is the worker's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = start(cmd)
	err = errors.Join(err, closeFiles(theirs))
	if err != nil {
		return nil, errors.Join(err, w.conn.Close())
	}
	w.started = time.Now()
	go w.follow(out, said)
	if err := w.tell(boot); err != nil {
		w.kill()
		<-w.done
		return nil, fmt.Errorf("worker %d: %w", w.slot, errors.Join(err, w.cause))
	}
	return w, nil
}

// startOrder asks the starter to start a command.
type startOrder struct {
	cmd    *exec.Cmd
	answer chan error
}

// starter starts all processes. Linux has children die with the thread that started them, so it is one thread that outlives them all.
func (s *Supervisor) starter(ended chan struct{}) {
	runtime.LockOSThread() // never unlocked
	for {
		select {
		case o := <-s.starts:
			o.answer <- o.cmd.Start()
		case <-ended:
			return
		}
	}
}

// begin has the starter start a command.
func (s *Supervisor) begin(ctx context.Context, cmd *exec.Cmd) error {
	o := startOrder{cmd, make(chan error, 1)}
	select {
	case s.starts <- o:
		return <-o.answer
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sockets makes the sockets between the supervisor and the worker and returns the worker's ends.
func (w *worker) sockets() (theirs []*os.File, err error) {
	syscall.ForkLock.RLock()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(pair[0])
		unix.CloseOnExec(pair[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	mine := os.NewFile(uintptr(pair[0]), "worker")
	theirs = []*os.File{os.NewFile(uintptr(pair[1]), "supervisor")}
	w.conn, err = net.FileConn(mine)
	if err = errors.Join(err, mine.Close()); err != nil {
		return nil, errors.Join(err, closeFiles(theirs))
	}
	_ = os.Remove(w.path) // of an earlier process, if any
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: w.path, Net: "unix"})
	if err != nil {
		return nil, errors.Join(err, closeFiles(theirs), w.conn.Close())
	}
	ln.SetUnlinkOnClose(false)
	f, err := ln.File()
	theirs = append(theirs, f)
	if err = errors.Join(err, ln.Close()); err != nil {
		return nil, errors.Join(err, closeFiles(theirs), w.conn.Close())
	}
	return theirs, nil
}

func closeFiles(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// transport reaches the worker's admin pages whatever host a URL names.
func (w *worker) transport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", w.path)
		},
		MaxIdleConns: 1, IdleConnTimeout: time.Minute, DisableCompression: true,
	}
}

// follow reads what the worker says until it is gone.
func (w *worker) follow(out io.Reader, said func([]byte)) {
	var last []*dto.MetricFamily
	var readers sync.WaitGroup
	readers.Go(func() { last, _ = reasons.Read(w.conn) }) // a killed worker's report is cut off, and what it said before counts
	readers.Go(func() { eachLine(out, said) })
	readers.Wait()
	w.cause = w.cmd.Wait()
	w.conn.Close()
	w.pages.CloseIdleConnections()
	if len(last) > 0 {
		w.keep(last, true)
	}
	close(w.done)
}

// eachLine calls said for each line, in pieces of maxLine at most.
func eachLine(r io.Reader, said func([]byte)) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			said(line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// leave asks the worker to drain and end because siblings take over.
func (w *worker) leave() error { return w.tell(order{Leave: true}) }

// terminate asks the worker to end in order, as whoever stops the gateway does; kill ends it. It is no signal: whoever signals a whole
// group of processes has told the worker already, and a second one ends it at once.
func (w *worker) terminate() { _ = w.tell(order{End: true}) } // an error: it is gone
func (w *worker) kill()      { _ = w.cmd.Process.Kill() }

// tell sends the worker a word. One that hangs before it reads its configuration must not hang its slot.
func (w *worker) tell(word any) error {
	_ = w.conn.SetWriteDeadline(time.Now().Add(endGrace))
	return json.NewEncoder(w.conn).Encode(word)
}

// ended reports whether the worker is gone.
func (w *worker) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// gone waits until the worker has ended; one that takes longer than limit is killed.
func (w *worker) gone(limit time.Duration) (inTime bool) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-w.done:
		return true
	case <-t.C:
		w.kill()
		<-w.done
		return false
	}
}

// ask returns whether a check page of the worker answers that all is well, look also what the page says.
func (w *worker) ask(page string) bool {
	ok, _ := w.look(page)
	return ok
}

func (w *worker) look(page string) (ok bool, text []byte) {
	resp, err := w.pages.Get("http://worker" + page)
	if err != nil {
		return false, nil
	}
	text, _ = io.ReadAll(io.LimitReader(resp.Body, maxLine)) // of a page that was cut off, what came
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK, text
}

// fetchMetrics asks for what the worker exports now; when it does not answer, what it last said goes on to count.
func (w *worker) fetchMetrics() {
	if now, err := reasons.Fetch(w.pages, "http://worker/metrics"); err == nil {
		w.keep(now, false)
	}
}

func (w *worker) metricsKept() []*dto.MetricFamily {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// keep notes the newest metrics; nothing is newer than the final ones, though a scrape may have been under way.
func (w *worker) keep(f []*dto.MetricFamily, final bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.final {
		w.last, w.final = f, final
	}
}

// label is the worker's name in metrics.
func (w *worker) label() string { return strconv.Itoa(w.slot) }

// maxSocketPath is how long a path of a UNIX socket may be everywhere.
const maxSocketPath = 100

// socketDir returns where the workers' sockets go: dir, or a folder of its own where the path would get too long.
func socketDir(dir string) (path string, remove func(), err error) {
	if abs, err := filepath.Abs(dir); err == nil && len(abs)+len("/worker-1023b.sock") <= maxSocketPath {
		return abs, func() {}, nil
	}
	path, err = os.MkdirTemp("", "linecard-")
	return path, func() { os.RemoveAll(path) }, err
}
