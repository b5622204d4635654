package node

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stallWait is how long a line may wait for whoever reads standard error, once: a reader that is only slow is waited for.
const stallWait = 100 * time.Millisecond

// Logger returns the logger of the configuration, writing to standard error through w. Event loops and shard goroutines write to
// it, and strangers cause some of the lines: a pipe that nobody reads must not stop the daemons, it loses lines. They are counted
// in a line when the reader goes on.
func (c Config) Logger(w io.Writer) *slog.Logger { return c.loggerTo(c.patiently(w)) }

// patiently returns a writer of whole lines to w that does not wait for a pipe which nobody reads.
func (c Config) patiently(w io.Writer) io.Writer {
	file, ok := w.(*os.File)
	if !ok {
		return w
	}
	fd := int32(file.Fd())
	return &patient{w: file, ready: func(d time.Duration) bool { return writable(fd, d) }, tell: c.loggerTo(file)}
}

func (c Config) loggerTo(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // validated
	opts := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// patient writes as long as w takes what is written. Lines go out before Write returns, so that none is lost when the process ends
// or panics; a goroutine with a buffer would lose the most interesting ones. Safe for concurrent use.
type patient struct {
	w     io.Writer
	ready func(time.Duration) bool // whether w takes a line, after waiting so long for it
	tell  *slog.Logger             // writes to w

	mu      sync.Mutex
	stalled bool // the last line was lost: do not wait for the next one
	lost    int
}

// Write implements io.Writer. A line that w does not take is lost without an error: there is nowhere to report it.
func (p *patient) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := stallWait
	if p.stalled {
		wait = 0
	}
	if p.stalled = !p.ready(wait); p.stalled {
		p.lost++
		return len(line), nil
	}
	if n := p.lost; n > 0 {
		p.lost = 0
		p.tell.Error("log lines lost: standard error was not read", "lines", n)
		if p.stalled = !p.ready(0); p.stalled {
			p.lost++
			return len(line), nil
		}
	}
	return p.w.Write(line)
}

// writable reports whether a write to a file descriptor would not block, after waiting up to d for it. A pipe says so when it has
// room for 4 KiB (Linux), which a line seldom exceeds; a file always does. Where it cannot be known the write is tried.
func writable(fd int32, d time.Duration) bool {
	fds := []unix.PollFd{{Fd: fd, Events: unix.POLLOUT}}
	for end := time.Now().Add(d); ; {
		n, err := unix.Poll(fds, int(max(time.Until(end), 0)/time.Millisecond))
		if !errors.Is(err, unix.EINTR) {
			return err != nil || n > 0
		}
	}
}
