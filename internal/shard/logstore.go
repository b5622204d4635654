package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/hashicorp/raft"
	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

// Keys of the log database: a kind byte, the group (big-endian), and
const (
	keyLog    = 'L' // the index, 8 bytes big-endian: a log entry
	keyStable = 'S' // a raft key: its term and vote
	keySnap   = 'M' // nothing: metadata of the last snapshot
	keyScrub  = 'C' // nothing: when the last complete scrub took its snapshot, Unix ms, 8 bytes big-endian

	// For replicas that come and go, each with nothing behind the group:
	keyReached = 'R' // index up to which the last received state was complete, 8 bytes big-endian
	keyJoin    = 'J' // the group began here without a log, and does not vote below this index, 8 bytes big-endian
	keyDrop    = 'D' // the group was dropped, see dropStage, 1 byte
)

const (
	logKeyLen = 1 + 2 + 8
	// A stored entry: version 1, type 1, term 8, appended-at 8 (Unix ns), length of the extensions 4, extensions, data.
	logValueHeader  = 1 + 1 + 8 + 8 + 4
	logValueVersion = 1
)

var errLogRecord = errors.New("shard: malformed record in the log database")

func groupPrefix(kind byte, g stanza.Group) [3]byte {
	return [3]byte{kind, byte(g >> 8), byte(g)}
}

func groupStart(kind byte, g stanza.Group) []byte {
	p := groupPrefix(kind, g)
	return p[:]
}

// groupEnd returns the first key after all keys of kind and g.
func groupEnd(kind byte, g stanza.Group) []byte {
	if g == 1<<16-1 {
		return []byte{kind + 1}
	}
	p := groupPrefix(kind, g+1)
	return p[:]
}

func putLogKey(b []byte, g stanza.Group, index uint64) {
	b[0] = keyLog
	binary.BigEndian.PutUint16(b[1:], uint16(g))
	binary.BigEndian.PutUint64(b[3:], index)
}

func logKey(g stanza.Group, index uint64) []byte {
	b := make([]byte, logKeyLen)
	putLogKey(b, g, index)
	return b
}

// logStore is raft's LogStore of one group. Appends of all groups meet in Pebble's commit pipeline and share fsyncs. Safe for
// concurrent use as raft uses it: one writer at the head, one truncating the tail, any readers.
type logStore struct {
	db   *pebble.DB
	g    stanza.Group
	sync *pebble.WriteOptions

	snaps *snapStore // of the group; nil: the log is only looked at

	mu          sync.Mutex
	first, last uint64   // 0, 0: empty
	block       logBlock // what GetLog read ahead
	tail        logTail  // what was stored last
	joining     bool     // keyJoin is there
	joinAt      uint64   // its index
	ended       bool     // see end
}

func openLogStore(db *pebble.DB, g stanza.Group, wo *pebble.WriteOptions) (*logStore, error) {
	s := &logStore{db: db, g: g, sync: wo}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: logKey(g, 0), UpperBound: groupEnd(keyLog, g)})
	if err != nil {
		return nil, fmt.Errorf("shard: reading the log of %s: %w", g, err)
	}
	if it.First() {
		s.first = binary.BigEndian.Uint64(it.Key()[3:])
	}
	if it.Last() {
		s.last = binary.BigEndian.Uint64(it.Key()[3:])
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("shard: reading the log of %s: %w", g, err)
	}
	return s, nil
}

// end makes GetLog answer errClosed; a call that is under way has returned when it does. The one of raft's goroutines for which its Shutdown
// does not wait, the gauge of a leader's oldest entry, may look at the log when group and database are gone.
func (s *logStore) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// FirstIndex implements raft.LogStore.
func (s *logStore) FirstIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, nil
}

// LastIndex implements raft.LogStore.
func (s *logStore) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, nil
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore: the entries are durable when it returns.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	logs = s.uncovered(logs)
	if len(logs) == 0 {
		return nil
	}
	size := 64
	for _, l := range logs {
		size += logKeyLen + logValueHeader + len(l.Extensions) + len(l.Data) + 16
	}
	b := s.db.NewBatchWithSize(size)
	defer b.Close()
	for _, l := range logs {
		d := b.SetDeferred(logKeyLen, logValueHeader+len(l.Extensions)+len(l.Data))
		putLogKey(d.Key, s.g, l.Index)
		putLogValue(d.Value, l)
		if err := d.Finish(); err != nil {
			return fmt.Errorf("shard: appending to the log of %s: %w", s.g, err)
		}
	}
	joined := s.joins(logs[len(logs)-1].Index)
	if joined {
		if err := b.Delete(groupStart(keyJoin, s.g), nil); err != nil {
			return fmt.Errorf("shard: appending to the log of %s: %w", s.g, err)
		}
	}
	wo := s.sync
	if planted.On(planted.NoSync) {
		wo = pebble.NoSync
	}
	if err := b.Commit(wo); err != nil {
		return fmt.Errorf("shard: appending to the log of %s: %w", s.g, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == 0 {
		s.first = logs[0].Index
	}
	s.last = logs[len(logs)-1].Index
	s.joining = s.joining && !joined
	s.block.forget(logs[0].Index, s.last)
	s.tail.add(logs)
	return nil
}

// uncovered leaves out what the snapshot covers. After a state was received raft takes the first entries of all once more, when they come
// late from an attempt before; stored, they would leave a gap up to the snapshot.
func (s *logStore) uncovered(logs []*raft.Log) []*raft.Log {
	if s.snaps == nil {
		return logs
	}
	at := s.snaps.index.Load()
	for len(logs) > 0 && logs[0].Index <= at {
		logs = logs[1:]
	}
	return logs
}

// DeleteRange implements raft.LogStore; min and max are inclusive. Cutting off the end is durable when it returns, because other
// entries follow under the same indexes; cutting off the beginning may be lost in a crash and is harmless then.
func (s *logStore) DeleteRange(minIndex, maxIndex uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == 0 || maxIndex < s.first || minIndex > s.last || minIndex > maxIndex {
		return nil
	}
	wo := pebble.NoSync
	if maxIndex >= s.last {
		wo = s.sync
	}
	end := groupEnd(keyLog, s.g)
	if maxIndex < 1<<64-1 {
		end = logKey(s.g, maxIndex+1)
	}
	if err := s.db.DeleteRange(logKey(s.g, minIndex), end, wo); err != nil {
		return fmt.Errorf("shard: truncating the log of %s: %w", s.g, err)
	}
	s.block.forget(minIndex, maxIndex)
	s.tail.forget(minIndex, maxIndex)
	switch head, tail := minIndex <= s.first, maxIndex >= s.last; {
	case head && tail:
		s.first, s.last = 0, 0
	case head:
		s.first = maxIndex + 1
	case tail:
		s.last = minIndex - 1
	}
	return s.skipGap()
}

// skipGap moves first and last to entries that exist: after a snapshot was installed the log may have a hole.
func (s *logStore) skipGap() error {
	if s.last == 0 {
		return nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: logKey(s.g, s.first), UpperBound: groupEnd(keyLog, s.g)})
	if err != nil {
		return fmt.Errorf("shard: reading the log of %s: %w", s.g, err)
	}
	s.first, s.last = 0, 0
	if it.First() {
		s.first = binary.BigEndian.Uint64(it.Key()[3:])
	}
	if it.Last() {
		s.last = binary.BigEndian.Uint64(it.Key()[3:])
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("shard: reading the log of %s: %w", s.g, err)
	}
	return nil
}

func putLogValue(b []byte, l *raft.Log) {
	b[0], b[1] = logValueVersion, byte(l.Type)
	binary.BigEndian.PutUint64(b[2:], l.Term)
	var at int64
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	binary.BigEndian.PutUint64(b[10:], uint64(at))
	binary.BigEndian.PutUint32(b[18:], uint32(len(l.Extensions)))
	n := copy(b[logValueHeader:], l.Extensions)
	copy(b[logValueHeader+n:], l.Data)
}

// getLogValue decodes v into l, which borrows v.
func getLogValue(v []byte, index uint64, l *raft.Log) error {
	if len(v) < logValueHeader || v[0] != logValueVersion {
		return fmt.Errorf("%w: entry %d", errLogRecord, index)
	}
	ext := int64(binary.BigEndian.Uint32(v[18:]))
	if ext > int64(len(v)-logValueHeader) {
		return fmt.Errorf("%w: entry %d", errLogRecord, index)
	}
	body := v[logValueHeader:]
	*l = raft.Log{Index: index, Type: raft.LogType(v[1]), Term: binary.BigEndian.Uint64(v[2:]), Data: body[ext:]}
	if ext > 0 {
		l.Extensions = body[:ext:ext]
	}
	if at := int64(binary.BigEndian.Uint64(v[10:])); at != 0 {
		l.AppendedAt = time.Unix(0, at)
	}
	return nil
}
