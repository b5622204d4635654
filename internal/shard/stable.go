package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble"
	"linecard.example/internal/stanza"
)

// stableStore is raft's StableStore of one group (term and vote) in the log database; what it has written is synced, the term of a vote with
// its candidate. Safe for concurrent use.
type stableStore struct {
	db   *pebble.DB
	g    stanza.Group
	sync *pebble.WriteOptions
}

func (s *stableStore) key(k []byte) []byte {
	p := groupPrefix(keyStable, s.g)
	return append(p[:], k...)
}

// Set implements raft.StableStore.
func (s *stableStore) Set(k, v []byte) error {
	if err := s.db.Set(s.key(k), v, s.sync); err != nil {
		return fmt.Errorf("shard: writing %s of %s: %w", k, s.g, err)
	}
	return nil
}

// Get implements raft.StableStore: empty if k was never set.
func (s *stableStore) Get(k []byte) ([]byte, error) {
	v, err := getCopy(s.db, s.key(k))
	if err != nil {
		return nil, fmt.Errorf("shard: reading %s of %s: %w", k, s.g, err)
	}
	return v, nil
}

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(k []byte, v uint64) error {
	b := binary.BigEndian.AppendUint64(nil, v)
	if bytes.Equal(k, keyVote) {
		return s.beginVote(b)
	}
	return s.Set(k, b)
}

// beginVote writes the first half of a vote, its term; raft writes the candidate next, and answers when that is done. A crash between the
// two must not leave the new term with the candidate of the vote before: asked again by that one, raft would say that it has its
// vote already, without a look at how old its log is. So the half is a term without a candidate, in which raft has not voted. It is
// not synced: the candidate is, behind it in the same log.
func (s *stableStore) beginVote(term []byte) error {
	b := s.db.NewBatch()
	defer b.Close()
	err := errors.Join(b.Set(s.key(keyVote), term, nil), b.Delete(s.key(keyCandidate), nil))
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err != nil {
		return fmt.Errorf("shard: writing the vote of %s: %w", s.g, err)
	}
	return nil
}

// GetUint64 implements raft.StableStore: 0 if k was never set.
func (s *stableStore) GetUint64(k []byte) (uint64, error) {
	v, err := s.Get(k)
	if err != nil || len(v) == 0 {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: %s of %s", errLogRecord, k, s.g)
	}
	return binary.BigEndian.Uint64(v), nil
}

// getCopy returns a copy of the value of key, nil if there is none.
func getCopy(db *pebble.DB, key []byte) ([]byte, error) {
	v, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := append(make([]byte, 0, len(v)), v...)
	return c, closer.Close()
}
