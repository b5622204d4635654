package media

import (
	"errors"
	"io"
	"sync"
)

// sending is the body of a request that sends a source. The HTTP client reads it on a goroutine of its own, which may outlive the
// request by a moment; after Close it reads nothing more of the file.
type sending struct {
	w *watch
	r *uploading

	mu     sync.Mutex
	source io.Reader
	at     int64
	err    error // of the source
	closed bool
}

var errBodyClosed = errors.New("media: request is over")

func (b *sending) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyClosed
	}
	n, err := b.source.Read(p)
	b.at += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	b.w.touch()
	if n > 0 && b.r.u.Progress != nil {
		b.r.u.Progress(b.at, b.r.total)
	}
	return n, err
}

// Close ends the reading: a Read that is under way is waited for.
func (b *sending) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// failed closes the body and returns what went wrong with the file, marked as trouble on this side.
func (b *sending) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return local(b.err)
}
