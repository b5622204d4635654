package shard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble"
	"github.com/hashicorp/raft"
)

// Read-ahead of GetLog: a block is bounded by both.
const (
	blockEntries = 512
	blockBytes   = 1 << 20
)

// logBlock is a run of entries read with one iterator: raft reads its log one index at a time, twice at start, and an iterator
// makes that several times cheaper than point reads. Guarded by logStore.mu.
type logBlock struct {
	start uint64 // index of the first value; 0: no block
	vals  [][]byte
	next  uint64 // the index that would continue the last read
}

// get returns the stored value of index if the block has it.
func (b *logBlock) get(index uint64) ([]byte, bool) {
	if b.start == 0 || index < b.start || index-b.start >= uint64(len(b.vals)) {
		return nil, false
	}
	return b.vals[index-b.start], true
}

// forget drops the block if it holds any of the indexes lo..hi.
func (b *logBlock) forget(lo, hi uint64) {
	if b.start != 0 && lo < b.start+uint64(len(b.vals)) && hi >= b.start {
		b.start, b.vals = 0, nil
	}
}

// GetLog implements raft.LogStore. Reads in ascending order are served from a block; l shares memory with it, which nobody writes.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errClosed
	}
	if t, ok := s.tail.get(index); ok {
		*l = *t
		return nil
	}
	v, ok := s.block.get(index)
	if !ok {
		var err error
		if v, err = s.read(index); err != nil {
			if errors.Is(err, raft.ErrLogNotFound) && s.standIn(index, l) {
				return nil
			}
			return err
		}
	}
	s.block.next = index + 1
	if index == s.last {
		s.block.start, s.block.vals = 0, nil // read to the end: raft will not come back
	}
	return getLogValue(v, index, l)
}

// standIn answers for the last entry that a snapshot covers when the log was cut up to there. A follower that holds further entries, which
// its leader does not have, looks for the one before them to compare terms. raft itself counts on old entries behind every snapshot; without
// one it would be sent the whole state again and again, and never take it for enough. Nobody replicates the stand-in: that takes
// the entry before it, which is cut, too; the first entry of all has none and is not stood in for.
func (s *logStore) standIn(index uint64, l *raft.Log) bool {
	if s.snaps == nil || index < 2 {
		return false
	}
	at, term := s.snaps.point()
	if at != index {
		return false
	}
	*l = raft.Log{Index: index, Term: term, Type: raft.LogNoop}
	return true
}

// read returns the value of index and, when it follows the index read before, fills the block from there. A lone read, as raft's
// metrics make of the first entry, must not.
func (s *logStore) read(index uint64) ([]byte, error) {
	if s.last == 0 || index < s.first || index > s.last {
		return nil, raft.ErrLogNotFound
	}
	limit := 1
	if index == s.block.next {
		limit = blockEntries
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: logKey(s.g, index), UpperBound: groupEnd(keyLog, s.g)})
	if err != nil {
		return nil, fmt.Errorf("shard: reading the log of %s: %w", s.g, err)
	}
	vals := make([][]byte, 0, min(limit, int(s.last-index)+1))
	size := 0
	for ok := it.First(); ok && len(vals) < limit && size < blockBytes; ok = it.Next() {
		if binary.BigEndian.Uint64(it.Key()[3:]) != index+uint64(len(vals)) {
			break // a gap
		}
		v := append([]byte(nil), it.Value()...)
		vals = append(vals, v)
		size += len(v)
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("shard: reading the log of %s: %w", s.g, err)
	}
	if len(vals) == 0 {
		return nil, raft.ErrLogNotFound
	}
	if limit > 1 {
		s.block.start, s.block.vals = index, vals
	}
	return vals[0], nil
}
