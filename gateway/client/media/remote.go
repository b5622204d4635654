package media

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Remote is a file that stays at the server, read in ranges: every byte that it returns was verified, by the tag of its chunk. It holds the
// chunk that was read last, so that small reads in order cost one request a chunk. Safe for concurrent use.
type Remote struct {
	t      *Transport
	p      *Pointer
	ctx    context.Context
	grants Grants

	mu   sync.Mutex
	held int64 // number of the chunk in last; -1: none
	last []byte
}

// Remote returns the file of p. ReadAt, which has no context of its own, ends with ctx. Error: ErrPointer.
func (t *Transport) Remote(ctx context.Context, p *Pointer, grants Grants) (*Remote, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	return &Remote{t: t, p: p, ctx: ctx, grants: grants, held: -1}, nil
}

// Size returns the length of the file.
func (r *Remote) Size() int64 { return r.p.Size }

var errOffset = errors.New("media: offset or length out of range")

// Open streams length bytes of the file from offset on; less when the file ends before, -1 for all. The errors of its Read are
// Fetch's; what was read before one is right. The caller closes it.
func (r *Remote) Open(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || offset > r.p.Size || length < -1 {
		return nil, errOffset
	}
	if rest := r.p.Size - offset; length < 0 || length > rest {
		length = rest
	}
	first := offset / ChunkSize
	last := (offset + max(length, 1) - 1) / ChunkSize
	return &section{ctx: ctx, s: r.t.stream(r.p, r.grants, first, last), skip: int(offset - first*ChunkSize), left: length}, nil
}

// section is a range of the file.
type section struct {
	ctx  context.Context
	s    *stream
	skip int    // bytes of the first chunk that were not asked for
	b    []byte // of the stream's chunk
	left int64
	err  error
}

func (c *section) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.left == 0 {
		return 0, io.EOF
	}
	if len(c.b) == 0 {
		if c.b, c.err = c.s.chunk(c.ctx); c.err != nil {
			return 0, c.err
		}
		c.b, c.skip = c.b[c.skip:], 0
	}
	n := copy(p, c.b[:min(int64(len(c.b)), c.left)])
	c.b = c.b[n:]
	c.left -= int64(n)
	return n, nil
}

// Close ends the request.
func (c *section) Close() error {
	c.err = errBodyClosed
	return c.s.Close()
}

// ReadAt is io.ReaderAt's: with it an io.SectionReader is a file to seek in.
func (r *Remote) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, errOffset
	}
	for n < len(p) && offset+int64(n) < r.p.Size {
		k, err := r.readSome(p[n:], offset+int64(n))
		if n += k; err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readSome reads from the chunk that is held, or else all of p, and holds the chunk where that ended.
func (r *Remote) readSome(p []byte, offset int64) (n int, err error) {
	chunk := offset / ChunkSize
	r.mu.Lock()
	if r.held == chunk {
		n = copy(p, r.last[offset-chunk*ChunkSize:])
	}
	r.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	last := min(offset+int64(len(p)), r.p.Size) - 1
	s := r.t.stream(r.p, r.grants, chunk, last/ChunkSize)
	defer s.Close()
	skip := int(offset - chunk*ChunkSize)
	for n < len(p) {
		b, err := s.chunk(r.ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b[skip:])
		skip = 0
		if s.next > s.last {
			r.hold(s.last, b)
		}
	}
	return n, nil
}

func (r *Remote) hold(chunk int64, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held, r.last = chunk, append(r.last[:0], b...)
}
