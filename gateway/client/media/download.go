package media

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Partial is where a file grows that is being fetched: an *os.File, say.
type Partial interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Fetch fetches the file of p into to, which has the first have bytes of it already, from an earlier call, and returns when all of it is
// there and verified: each chunk by its tag before it is written, and all of it by the blob's name. The bytes that were there are read
// again for that; when they are not the file's, all of it is fetched anew. Nothing is synced. progress, which may be nil, is told how
// much of the file is there; it can fall back. Errors: ErrPointer, ErrDamaged, *StatusError, ErrAnswer, those of to and of grants, ctx's. After any of
// them Fetch may go on later with what to has then.
func (t *Transport) Fetch(ctx context.Context, p *Pointer, to Partial, have int64, grants Grants, progress func(done, total int64)) error {
	if err := p.Check(); err != nil {
		return err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	f := &fetching{p: p, to: to, progress: progress}
	for {
		kept, err := f.rehash(ctx, have)
		if err != nil {
			return err
		}
		err = f.fetch(ctx, t.stream(p, grants, kept, chunks(p.Size)-1))
		if !errors.Is(err, errOtherName) || kept == 0 {
			return err
		}
		have = 0 // what was there is not what was written: the machine crashed before it was on disk, perhaps
	}
}

// errOtherName: every chunk verified, and the whole is not what the blob's name says.
var errOtherName = fmt.Errorf("%w: its name is another", ErrDamaged)

// fetching is the state of one call of Fetch.
type fetching struct {
	p        *Pointer
	to       Partial
	progress func(done, total int64)
	name     hash.Hash
}

// rehash encrypts what is there already, down to a whole chunk, since the blob's name is of ciphertext. It returns how many chunks that
// are; the last one of the file is never among them, so that there is something to fetch.
func (f *fetching) rehash(ctx context.Context, have int64) (kept int64, err error) {
	f.name = sha256.New()
	kept = min(max(have, 0)/ChunkSize, chunks(f.p.Size)-1)
	c := newChunkCipher(f.p.Key)
	buf := make([]byte, ChunkSize)
	for n := range kept {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := readChunk(f.to, buf, n); err != nil {
			return 0, local(fmt.Errorf("read what was fetched before: %w", err))
		}
		c.xor(buf, buf, n)
		f.name.Write(buf)
		f.name.Write(c.tag(n, false, buf))
	}
	return kept, local(f.to.Truncate(kept * ChunkSize))
}

// fetch writes what s has to the destination.
func (f *fetching) fetch(ctx context.Context, s *stream) error {
	defer s.Close()
	s.note = f.name
	f.progress(s.next*ChunkSize, f.p.Size)
	for {
		at := s.next * ChunkSize
		b, err := s.chunk(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if _, err := f.to.WriteAt(b, at); err != nil {
			return err
		}
		f.progress(at+int64(len(b)), f.p.Size)
	}
	if [HashSize]byte(f.name.Sum(nil)) != f.p.Blob {
		return errOtherName
	}
	return nil
}
