package shard

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// errSnapshotStream says that raft did something with a snapshot for which there is no state.
var errSnapshotStream = errors.New("shard: a snapshot without its state")

// errSuperseded ends a snapshot of our own when a newer one was received meanwhile.
var errSuperseded = errors.New("shard: a newer snapshot was received")

// snapStore is raft's SnapshotStore of one group. A snapshot is a reference: the state is in the tables, made durable by Persist or
// taken in by an install, and only the metadata is written, synced, to the log database. There is one, the newest.
type snapStore struct {
	db    *pebble.DB
	g     stanza.Group
	sync  *pebble.WriteOptions
	core  *core         // nil: the store is only looked at
	index atomic.Uint64 // of the newest snapshot

	mu      sync.Mutex // also held while metadata are written
	term    uint64     // of the newest snapshot
	reached uint64     // index up to which a received state was complete: tables may be that far ahead of the log
	pending *receipt   // received, not yet taken in
	streams map[*stateStream]struct{}
	ending  bool // no stream is opened any more
}

// receipt is a received snapshot on its way into the tables.
type receipt struct {
	meta raft.SnapshotMeta
	recv *receiver
}

func openSnapStore(db *pebble.DB, g stanza.Group, wo *pebble.WriteOptions) (*snapStore, error) {
	s := &snapStore{db: db, g: g, sync: wo, streams: map[*stateStream]struct{}{}}
	m, err := s.load()
	if err != nil {
		return nil, err
	}
	if m != nil {
		s.term = m.Term
		s.index.Store(m.Index)
	}
	v, err := getCopy(db, groupStart(keyReached, g))
	if err != nil {
		return nil, err
	}
	if len(v) == 8 {
		s.reached = binary.BigEndian.Uint64(v)
	} else if v != nil {
		return nil, fmt.Errorf("%w: received state of %s", errLogRecord, g)
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

// receivedID marks a snapshot that came from another replica, as long as it is not taken in.
const receivedID = "received-"

// Create implements raft.SnapshotStore, for snapshots that are taken and for those that are received.
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

// Open implements raft.SnapshotStore. A leader gets the state as it is now, at or above the index of the newest snapshot, whichever it
// asked for. A follower that is about to take in what it received gets nothing to read: Restore takes the tables.
func (s *snapStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if strings.HasPrefix(id, receivedID) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pending == nil {
			return nil, nil, errSnapshotStream
		}
		return &s.pending.meta, io.NopCloser(strings.NewReader("")), nil
	}
	m, err := s.load() // before the state: that is at least as new, then
	if err != nil {
		return nil, nil, err
	}
	if m == nil || s.core == nil {
		return nil, nil, errSnapshotStream
	}
	h := s.core.host
	h.sending.Add(1)
	x, size, err := openStream(h.state, s.g, m.Index, s.isEnding)
	if err != nil {
		h.sending.Add(-1)
		s.streamed(err)
		return nil, nil, err
	}
	x.done, x.closed = s.streamed, func() { h.sending.Add(-1) }
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return nil, nil, errors.Join(errClosed, x.Close())
	}
	s.streams[x] = struct{}{}
	m.Size = size
	return m, &openedStream{x, s}, nil
}

// openedStream is a stream that the store knows of.
type openedStream struct {
	*stateStream
	store *snapStore
}

// Close implements io.Closer.
func (o *openedStream) Close() error {
	o.store.mu.Lock()
	delete(o.store.streams, o.stateStream)
	o.store.mu.Unlock()
	return o.stateStream.Close()
}

// streamed notes how sending a state went. Tables that cannot be read stop the group: another replica can send its own.
func (s *snapStore) streamed(err error) {
	switch {
	case err == nil:
		s.core.metrics.streamSent.Inc()
	case pebble.IsCorruptionError(err):
		s.core.stopGroup(err)
	}
}

func (s *snapStore) isEnding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}

// end closes the streams that are open, lets none be opened, and forgets what was received: the group closes, and must let go of the
// databases even if a transport does not.
func (s *snapStore) end() {
	s.mu.Lock()
	s.ending = true
	open, p := s.streams, s.pending
	s.streams, s.pending = nil, nil
	s.mu.Unlock()
	for x := range open {
		_ = x.Close() // nobody is left to hear of it
	}
	if p != nil {
		p.recv.remove()
	}
}

// point returns index and term of the newest snapshot.
func (s *snapStore) point() (index, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.Load(), s.term
}

// await makes p the snapshot that Open and Restore find next.
func (s *snapStore) await(p *receipt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		p.recv.remove()
		return errClosed
	}
	if s.pending != nil {
		s.pending.recv.remove()
	}
	s.pending = p
	return nil
}

// arrived takes the snapshot that await left.
func (s *snapStore) arrived() *receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending
	s.pending = nil
	return p
}

// put writes the metadata of a snapshot whose state is durable, with what else changes in b, which it commits.
func (s *snapStore) put(m raft.SnapshotMeta, b *pebble.Batch) error {
	still := &s.core.host.still // nobody copies the databases meanwhile
	still.RLock()
	defer still.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Index < s.index.Load() {
		return errors.Join(errSuperseded, b.Close())
	}
	m.ID = fmt.Sprintf("%d-%d", m.Term, m.Index)
	v, err := json.Marshal(&m)
	if err == nil {
		err = b.Set(groupStart(keySnap, s.g), v, nil)
	}
	if err == nil {
		err = b.Commit(s.sync)
	}
	if err = errors.Join(err, b.Close()); err != nil {
		return fmt.Errorf("shard: snapshot of %s: %w", s.g, err)
	}
	s.term = m.Term
	s.index.Store(m.Index)
	return nil
}

// snapSink becomes the newest snapshot when it is closed after its state was made durable; one that is received, when it is restored.
type snapSink struct {
	store   *snapStore
	meta    raft.SnapshotMeta
	durable bool      // set by Persist
	recv    *receiver // of a snapshot that is received
	done    bool
}

// ID implements raft.SnapshotSink.
func (k *snapSink) ID() string { return k.meta.ID }

// Write implements io.Writer; only a received snapshot is written. Nothing of the group changes before Restore.
func (k *snapSink) Write(p []byte) (int, error) {
	if k.done || k.store.core == nil {
		return 0, errSnapshotStream
	}
	if k.recv == nil {
		k.meta.ID = receivedID + k.meta.ID
		k.recv = newReceiver(k.store.core.host, k.store.g)
		k.recv.skip = k.store.core.appliedAt.Load() >= k.meta.Index
	}
	return k.recv.Write(p)
}

// Cancel implements raft.SnapshotSink.
func (k *snapSink) Cancel() error {
	if k.recv != nil && !k.done {
		k.store.core.metrics.streamFailed.Inc()
		k.recv.remove()
	}
	k.done = true
	return nil
}

// Close makes the metadata durable, and raft truncates the log afterwards; a received snapshot is left for Restore.
func (k *snapSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	if k.recv != nil {
		return k.closeReceived()
	}
	if !k.durable {
		return errSnapshotStream
	}
	return k.store.put(k.meta, k.store.db.NewBatch())
}

func (k *snapSink) closeReceived() error {
	if err := k.recv.finish(&k.meta); err != nil {
		k.store.core.metrics.streamFailed.Inc()
		k.recv.remove()
		return err
	}
	return k.store.await(&receipt{meta: k.meta, recv: k.recv})
}
