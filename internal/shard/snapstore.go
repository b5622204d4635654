package shard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/cockroachdb/pebble"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// errSnapshotStream is what a replica answers that is sent a whole state: streaming belongs to clusters of several voters.
var errSnapshotStream = errors.New("shard: streaming a snapshot between replicas is not supported")

// snapStore is raft's SnapshotStore of one group. A snapshot is a reference: the state is in the tables, made durable by Persist,
// and only the metadata is written, synced, to the log database. There is one, the newest.
type snapStore struct {
	db    *pebble.DB
	g     stanza.Group
	sync  *pebble.WriteOptions
	index atomic.Uint64 // of the newest snapshot
}

func openSnapStore(db *pebble.DB, g stanza.Group, wo *pebble.WriteOptions) (*snapStore, error) {
	s := &snapStore{db: db, g: g, sync: wo}
	m, err := s.load()
	if err != nil {
		return nil, err
	}
	if m != nil {
		s.index.Store(m.Index)
	}
	return s, nil
}

func (s *snapStore) load() (*raft.SnapshotMeta, error) {
	p := groupPrefix(keySnap, s.g)
	v, err := getCopy(s.db, p[:])
	if err != nil || v == nil {
		return nil, err
	}
	m := new(raft.SnapshotMeta)
	if err := json.Unmarshal(v, m); err != nil {
		return nil, fmt.Errorf("%w: snapshot of %s: %w", errLogRecord, s.g, err)
	}
	return m, nil
}

// Create implements raft.SnapshotStore.
func (s *snapStore) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &snapSink{store: s, meta: raft.SnapshotMeta{
		Version: v, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term, Configuration: c, ConfigurationIndex: ci,
	}}, nil
}

// List implements raft.SnapshotStore.
func (s *snapStore) List() ([]*raft.SnapshotMeta, error) {
	m, err := s.load()
	if err != nil || m == nil {
		return nil, err
	}
	return []*raft.SnapshotMeta{m}, nil
}

// Open implements raft.SnapshotStore.
func (s *snapStore) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return nil, nil, errSnapshotStream
}

// snapSink becomes the newest snapshot when it is closed after its state was made durable.
type snapSink struct {
	store   *snapStore
	meta    raft.SnapshotMeta
	durable bool // set by Persist
	done    bool
}

// ID implements raft.SnapshotSink.
func (k *snapSink) ID() string { return k.meta.ID }

// Write implements io.Writer; only a received snapshot is written.
func (k *snapSink) Write([]byte) (int, error) { return 0, errSnapshotStream }

// Cancel implements raft.SnapshotSink.
func (k *snapSink) Cancel() error {
	k.done = true
	return nil
}

// Close makes the metadata durable; raft truncates the log afterwards.
func (k *snapSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	if !k.durable {
		return errSnapshotStream
	}
	v, err := json.Marshal(&k.meta)
	if err != nil {
		return fmt.Errorf("shard: snapshot of %s: %w", k.store.g, err)
	}
	p := groupPrefix(keySnap, k.store.g)
	if err := k.store.db.Set(p[:], v, k.store.sync); err != nil {
		return fmt.Errorf("shard: snapshot of %s: %w", k.store.g, err)
	}
	k.store.index.Store(k.meta.Index)
	return nil
}
