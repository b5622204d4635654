package media

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
)

// stream fetches chunks of a blob one after the other, verified, over as many requests as that takes. One goroutine at a time.
type stream struct {
	t      *Transport
	p      *Pointer
	grants Grants
	note   hash.Hash // as Reader's
	next   int64     // the chunk that comes next
	last   int64     // the last one that is wanted

	grant   *Grant
	pace    pacer
	damaged int // tries in a row that ended with damage
	body    io.ReadCloser
	r       *Reader
}

// maxDamage is how often in a row a chunk may fail to verify before the blob counts as damaged: once may have been the path.
const maxDamage = 2

// stream returns the chunks from first to last of p, which has passed Check.
func (t *Transport) stream(p *Pointer, grants Grants, first, last int64) *stream {
	return &stream{t: t, p: p, grants: grants, next: first, last: last, pace: pacer{t: t}}
}

// chunk returns the next chunk of the file: a view that is valid until the next call. io.EOF comes behind the last one.
func (s *stream) chunk(ctx context.Context) ([]byte, error) {
	for {
		err := s.step(ctx)
		if err == nil {
			s.next++
			s.damaged = 0
			s.pace.further()
			return s.r.plain, nil
		}
		if s.next > s.last {
			return nil, io.EOF
		}
		s.Close()
		if errors.Is(err, ErrDamaged) {
			if s.damaged++; s.damaged < maxDamage {
				continue
			}
		}
		v, stop := s.pace.after(ctx, err)
		if stop != nil {
			return nil, stop
		}
		if v == regrant {
			s.grant = nil
		}
	}
}

// step makes the reader have the next chunk.
func (s *stream) step(ctx context.Context) error {
	if s.next > s.last { // what a server sends behind it was refused by its length
		return io.EOF
	}
	if err := ctx.Err(); err != nil { // what is buffered would outlast it
		return err
	}
	if s.r == nil {
		if err := s.open(ctx); err != nil {
			return err
		}
	}
	return s.r.step()
}

// Close ends the request that is under way.
func (s *stream) Close() error {
	if s.body != nil {
		s.body.Close()
	}
	s.body, s.r = nil, nil
	return nil
}

// open asks for the chunks that are still to come.
func (s *stream) open(ctx context.Context) error {
	if s.grant == nil {
		g, err := s.grants(ctx)
		if err != nil {
			return local(err)
		}
		s.grant = g
	}
	base, err := baseOf(s.grant)
	if err != nil {
		return err
	}
	total := BlobSize(s.p.Size)
	from, to := s.next*sealedChunk, min((s.last+1)*sealedChunk, total)-1
	ctx, w := s.t.watched(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("v1/blobs", fmt.Sprintf("%x", s.p.Blob)).String(), nil)
	if err != nil {
		w.stop()
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	whole := from == 0 && to == total-1
	want := http.StatusOK
	if !whole {
		want = http.StatusPartialContent
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to))
	}
	resp, err := s.t.do(req, s.grant, want) //nolint:bodyclose // s.Close closes it
	if err != nil {
		w.stop()
		var refused *StatusError
		if errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable {
			return &DamageError{Chunk: -1}
		}
		return err
	}
	s.body = &watchedBody{resp.Body, w, ctx}
	if err := checkLength(resp, whole, from, to, total); err != nil {
		s.Close()
		return err
	}
	s.r = NewReader(s.body, s.p.Key, s.p.Size, s.next)
	s.r.note = s.note
	return nil
}

// checkLength holds an answer against what was asked for. A blob of another length is not the pointer's.
func checkLength(resp *http.Response, whole bool, from, to, total int64) error {
	if whole {
		if resp.ContentLength >= 0 && resp.ContentLength != total {
			return &DamageError{Chunk: -1}
		}
		return nil
	}
	got := resp.Header.Get("Content-Range")
	head := fmt.Sprintf("bytes %d-%d/", from, to)
	switch {
	case got == head+strconv.FormatInt(total, 10):
		return nil
	case len(got) > len(head) && got[:len(head)] == head:
		return &DamageError{Chunk: -1}
	}
	return fmt.Errorf("%w: not the range that was asked for", ErrAnswer)
}

// watchedBody is an answer that is given up when it stalls. A reader that pauses for longer loses it too, and gets another.
type watchedBody struct {
	io.ReadCloser
	w   *watch
	ctx context.Context
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.touch()
	if err != nil && !errors.Is(err, io.EOF) {
		err = cause(b.ctx, err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.w.stop()
	return b.ReadCloser.Close()
}
