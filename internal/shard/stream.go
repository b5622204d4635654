package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble"
	"linecard.example/internal/stanza"
)

// A stream is the whole state of a group at one applied index, for a replica that the log does not reach any more:
//
//	magic    4 bytes "lcss", version 1 byte, today 1
//	group    2 bytes big-endian
//	applied  8 bytes: F, the index up to which the tables are complete
//	stamp    8 bytes: the highest stamp up to there, Unix ms
//	records  in ascending order of keys: 1 byte 1, uvarint lengths of key and value, key, value
//	end      1 byte 0, count of records 8 bytes, xxhash64 of everything before 8 bytes
//
// Keys go without the group's prefix: the receiver adds its own, so that nothing that is sent can reach another group's tables.
const (
	streamMagic   = "lcss"
	streamVersion = 1
	streamHeader  = len(streamMagic) + 1 + 2 + 8 + 8
	streamEnd     = 1 + 8 + 8

	streamRecord = 1 // kinds
	streamLast   = 0

	// What a record may be. Machines stay far below it; a receiver holds at most one of them in memory.
	maxStreamKey   = 4 << 10
	maxStreamValue = 4 << 20

	streamChunk = 64 << 10 // bytes encoded at a time
)

// errStream says that a stream is not one, or is damaged or incomplete.
var errStream = errors.New("shard: malformed stream")

// stateStream reads the state of a group as it was when the stream was opened. Safe for concurrent use: raft closes it while a
// transport that has given up may still be reading.
type stateStream struct {
	g      stanza.Group
	done   func(error) // called once, under mu: at its end with nil, or for tables that cannot be read; or nil
	closed func()      // called once, when the tables are let go; or nil

	mu    sync.Mutex
	over  bool             // it was closed
	snap  *pebble.Snapshot // nil: it was closed, or all is encoded
	it    *pebble.Iterator
	more  bool // it stands on a record
	ended bool
	count uint64
	hash  xxhash.Digest
	buf   []byte // buf[off:] is encoded and not read yet
	off   int
}

// openStream returns the state of g, whose F is at least least, and the exact number of bytes it will take: raft sends it ahead, and the
// other side insists on it. For that the state is read twice. stop ends the first time early.
func openStream(db *pebble.DB, g stanza.Group, least uint64, stop func() bool) (s *stateStream, size int64, err error) {
	s = &stateStream{g: g, snap: db.NewSnapshot()}
	defer func() {
		if err != nil {
			s.Close()
			s = nil
		}
	}()
	index, stamp, err := appliedIn(s.snap, g)
	if err != nil {
		return s, 0, err
	}
	if index < least {
		return s, 0, fmt.Errorf("shard: the tables of %s end at %d, its snapshot is at %d", g, index, least)
	}
	if s.it, err = s.snap.NewIter(&pebble.IterOptions{LowerBound: groupStart(keyTable, g), UpperBound: groupEnd(keyTable, g)}); err != nil {
		return s, 0, fmt.Errorf("shard: reading %s: %w", g, err)
	}
	if size, err = s.measure(stop); err != nil {
		return s, 0, err
	}
	s.more = s.it.First()
	s.hash.Reset()
	s.buf = append(make([]byte, 0, streamChunk+streamChunk/4), streamMagic...)
	s.buf = append(s.buf, streamVersion)
	s.buf = binary.BigEndian.AppendUint16(s.buf, uint16(g))
	s.buf = binary.BigEndian.AppendUint64(s.buf, index)
	s.buf = binary.BigEndian.AppendUint64(s.buf, uint64(stamp))
	_, _ = s.hash.Write(s.buf) // never fails
	return s, size, nil
}

// measure returns how long the stream is.
func (s *stateStream) measure(stop func() bool) (int64, error) {
	size, n := int64(streamHeader+streamEnd), 0
	for ok := s.it.First(); ok; ok = s.it.Next() {
		if n++; n%1024 == 0 && stop() {
			return 0, errClosed
		}
		k, v := len(s.it.Key())-tablePrefix, len(s.it.Value())
		if k > maxStreamKey || v > maxStreamValue {
			return 0, fmt.Errorf("shard: a record of %s has a key of %d and a value of %d bytes: too large to be sent", s.g, k, v)
		}
		size += int64(1 + uvarintLen(k) + uvarintLen(v) + k + v)
	}
	if err := s.it.Error(); err != nil {
		return 0, fmt.Errorf("shard: reading %s: %w", s.g, err)
	}
	return size, nil
}

func uvarintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// Read implements io.Reader.
func (s *stateStream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return 0, errClosed
	}
	if s.off == len(s.buf) {
		if s.ended {
			return 0, io.EOF
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.off:])
	s.off += n
	return n, nil
}

// fill encodes the next piece. Under mu.
func (s *stateStream) fill() error {
	s.buf, s.off = s.buf[:0], 0
	for ; s.more && len(s.buf) < streamChunk; s.more = s.it.Next() {
		k, v := s.it.Key()[tablePrefix:], s.it.Value()
		s.buf = append(s.buf, streamRecord)
		s.buf = binary.AppendUvarint(s.buf, uint64(len(k)))
		s.buf = binary.AppendUvarint(s.buf, uint64(len(v)))
		s.buf = append(append(s.buf, k...), v...)
		s.count++
	}
	if !s.more {
		if err := s.it.Error(); err != nil {
			err = fmt.Errorf("shard: reading %s: %w", s.g, err)
			s.end(err)
			return err
		}
		s.buf = binary.BigEndian.AppendUint64(append(s.buf, streamLast), s.count)
		s.ended = true
	}
	_, _ = s.hash.Write(s.buf) // never fails
	if !s.ended {
		return nil
	}
	s.buf = binary.BigEndian.AppendUint64(s.buf, s.hash.Sum64())
	err := s.release() // the other side may take long to answer, and nothing is scrubbed as long as the tables are held
	s.end(err)
	return err
}

// end tells how it went. Under mu.
func (s *stateStream) end(err error) {
	if s.done != nil {
		s.done(err)
		s.done = nil
	}
}

// Close ends the stream; a second call does nothing.
func (s *stateStream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.release()
}

// release lets go of the tables, if it has not. Under mu.
func (s *stateStream) release() error {
	if s.snap == nil {
		return nil
	}
	var err error
	if s.it != nil {
		err = s.it.Close()
	}
	err = errors.Join(err, s.snap.Close())
	s.snap, s.it = nil, nil
	if s.closed != nil {
		s.closed()
	}
	if err != nil {
		return fmt.Errorf("shard: reading %s: %w", s.g, err)
	}
	return nil
}
