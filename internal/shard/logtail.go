package shard

import "github.com/hashicorp/raft"

// Bounds of a logTail. The two newest entries are kept however long they are: an entry and the one before it are what replication reads.
const (
	tailEntries = 64
	tailBytes   = 128 << 10
)

// logTail are the entries that were stored last. A leader sends each to every replica, with the term of the one before it, and a replica folds
// it once it is committed: read from Pebble that is half a dozen seeks for an entry in three processes, of what each of them had in its hands a
// moment ago. raft's own cache has no bound in bytes. Guarded by logStore.mu.
type logTail struct {
	on    bool       // the group has peers; alone nobody reads what was just stored
	logs  []raft.Log // of consecutive indexes; they share memory with raft's, which nobody writes
	bytes int
}

func logBytes(l *raft.Log) int { return len(l.Data) + len(l.Extensions) }

// get returns an entry that is there.
func (t *logTail) get(index uint64) (*raft.Log, bool) {
	if len(t.logs) == 0 || index < t.logs[0].Index || index-t.logs[0].Index >= uint64(len(t.logs)) {
		return nil, false
	}
	return &t.logs[index-t.logs[0].Index], true
}

// add notes entries that were stored.
func (t *logTail) add(logs []*raft.Log) {
	if !t.on {
		return
	}
	for _, l := range logs {
		if n := len(t.logs); n > 0 && l.Index != t.logs[n-1].Index+1 {
			t.clear() // in place of others, or behind a gap
		}
		if t.logs == nil {
			t.logs = make([]raft.Log, 0, tailEntries)
		}
		for n := len(t.logs); n == tailEntries || n > 1 && t.bytes+logBytes(l) > tailBytes; n = len(t.logs) {
			t.bytes -= logBytes(&t.logs[0])
			copy(t.logs, t.logs[1:])
			t.logs[n-1] = raft.Log{}
			t.logs = t.logs[:n-1]
		}
		t.logs = append(t.logs, *l)
		t.bytes += logBytes(l)
	}
}

// forget drops everything if any of the indexes lo to hi is there.
func (t *logTail) forget(lo, hi uint64) {
	if n := len(t.logs); n > 0 && lo <= t.logs[n-1].Index && hi >= t.logs[0].Index {
		t.clear()
	}
}

func (t *logTail) clear() {
	clear(t.logs)
	t.logs, t.bytes = t.logs[:0], 0
}
