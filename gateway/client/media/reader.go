package media

import (
	"crypto/hmac"
	"errors"
	"hash"
	"io"
)

// Reader decrypts a blob as it arrives, and hands on only what was verified. It holds one chunk. One goroutine at a time.
type Reader struct {
	blob  io.Reader
	c     *chunkCipher
	size  int64 // of the file
	next  int64 // chunk
	buf   []byte
	plain []byte // of buf: what was verified and not yet read
	err   error
	note  hash.Hash // gets each sealed chunk that verified; nil = nobody does
}

// NewReader reads the file of a pointer from its chunk number first on; blob must begin with that chunk, and end with the blob. size is of
// the whole file, 0 to MaxSize.
func NewReader(blob io.Reader, key [KeySize]byte, size, first int64) *Reader {
	return &Reader{blob: blob, c: newChunkCipher(key), size: size, next: first}
}

// Read is io.Reader's. io.EOF comes when the last chunk was verified and nothing stands behind it. Errors: *DamageError, which is
// ErrDamaged; io.ErrUnexpectedEOF when the blob ends early, which may be the path's doing; those of the blob. What was read before an error is
// right.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.plain) == 0 {
		if r.err == nil {
			r.err = r.step()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// step reads the next chunk, or finds the end.
func (r *Reader) step() error {
	if r.next >= chunks(r.size) {
		return r.end()
	}
	if r.buf == nil {
		r.buf = make([]byte, min(BlobSize(r.size), sealedChunk))
	}
	length := chunkLen(r.size, r.next)
	sealed := r.buf[:length+TagSize]
	if _, err := io.ReadFull(r.blob, sealed); err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	b := sealed[:length]
	if !hmac.Equal(r.c.tag(r.next, r.next == chunks(r.size)-1, b), sealed[length:]) {
		return &DamageError{Chunk: r.next}
	}
	if r.note != nil {
		r.note.Write(sealed)
	}
	r.c.xor(b, b, r.next)
	r.plain = b
	r.next++
	return nil
}

// end makes sure that nothing follows the last chunk.
func (r *Reader) end() error {
	var more [1]byte
	switch n, err := io.ReadFull(r.blob, more[:]); {
	case n > 0:
		return &DamageError{Chunk: -1}
	case errors.Is(err, io.EOF):
		return io.EOF
	default:
		return err
	}
}
