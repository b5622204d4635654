package media

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Plan is a file read once under a fresh key: the blob's name, and the tag of each of its chunks. An upload sends no chunk whose tag is
// another than the plan's: a file that changes between two tries would otherwise put two plaintexts under one stretch of key stream,
// and a server that kept both ciphertexts could take the difference. Whoever goes on with an upload later keeps the plan.
type Plan struct {
	Key  [KeySize]byte
	Size int64 // of the file
	Blob [HashSize]byte
	Tags []byte // 32 bytes a chunk
}

// NewPlan reads file, which has size bytes, from begin to end. Errors: ErrTooBig, ErrChanged when the file ends before size, those of
// the file, ctx's.
func NewPlan(ctx context.Context, file io.ReaderAt, size int64) (*Plan, error) {
	var key [KeySize]byte
	rand.Read(key[:]) // never fails
	return planUnder(ctx, key, file, size)
}

func planUnder(ctx context.Context, key [KeySize]byte, file io.ReaderAt, size int64) (*Plan, error) {
	if size < 0 || size > MaxSize {
		return nil, ErrTooBig
	}
	p := &Plan{Key: key, Size: size, Tags: make([]byte, 0, chunks(size)*TagSize)}
	c := newChunkCipher(key)
	name := sha256.New()
	buf := make([]byte, min(ChunkSize, size))
	for n := range chunks(size) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:chunkLen(size, n)]
		if err := readChunk(file, b, n); err != nil {
			return nil, err
		}
		c.xor(b, b, n)
		tag := c.tag(n, n == chunks(size)-1, b)
		name.Write(b)
		name.Write(tag)
		p.Tags = append(p.Tags, tag...)
	}
	name.Sum(p.Blob[:0])
	return p, nil
}

// readChunk fills b with chunk n of the file.
func readChunk(file io.ReaderAt, b []byte, n int64) error {
	if len(b) == 0 {
		return nil
	}
	got, err := file.ReadAt(b, n*ChunkSize)
	switch {
	case got == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it is shorter than before", ErrChanged)
	}
	return err
}

// Check says whether p, which was stored somewhere, can be of a file: ErrPointer.
func (p *Plan) Check() error {
	if p.Size < 0 || p.Size > MaxSize || int64(len(p.Tags)) != chunks(p.Size)*TagSize {
		return ErrPointer
	}
	return nil
}
