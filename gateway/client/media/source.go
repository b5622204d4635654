package media

import (
	"bytes"
	"fmt"
	"io"
)

// Source is the blob of a planned file, encrypted as it is read, from any offset on. It holds one chunk. One goroutine at a time.
type Source struct {
	plan *Plan
	file io.ReaderAt
	c    *chunkCipher
	buf  []byte // the sealed chunk that at is in
	held int64  // its number; -1: none
	at   int64  // in the blob
}

// Source returns the blob of p, whose file is file, from its begin on. p must have passed Check.
func (p *Plan) Source(file io.ReaderAt) *Source {
	return &Source{plan: p, file: file, c: newChunkCipher(p.Key), held: -1}
}

// SeekTo makes the next Read begin at offset of the blob.
func (s *Source) SeekTo(offset int64) { s.at = offset }

// Read is io.Reader's. Errors besides io.EOF: ErrChanged, those of the file.
func (s *Source) Read(p []byte) (int, error) {
	if s.at >= BlobSize(s.plan.Size) || s.at < 0 {
		return 0, io.EOF
	}
	n := s.at / sealedChunk
	if n != s.held {
		if err := s.seal(n); err != nil {
			s.held = -1
			return 0, err
		}
	}
	k := copy(p, s.buf[s.at-n*sealedChunk:])
	s.at += int64(k)
	return k, nil
}

// seal puts chunk n into buf, if it is the one of the plan.
func (s *Source) seal(n int64) error {
	if s.buf == nil {
		s.buf = make([]byte, 0, min(BlobSize(s.plan.Size), sealedChunk))
	}
	length := chunkLen(s.plan.Size, n)
	b := s.buf[:length]
	if err := readChunk(s.file, b, n); err != nil {
		return err
	}
	s.c.xor(b, b, n)
	tag := s.c.tag(n, n == chunks(s.plan.Size)-1, b)
	if !bytes.Equal(tag, s.plan.Tags[n*TagSize:(n+1)*TagSize]) {
		clear(b) // it must not be sent
		return fmt.Errorf("%w: in its chunk %d", ErrChanged, n)
	}
	s.buf, s.held = append(b, tag...), n
	return nil
}
