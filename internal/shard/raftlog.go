package shard

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/hashicorp/raft"
)

// raftLog is the log store as raft has it. Where an entry cannot be read that must be there, raft panics, and the process would end with the
// stacks of all goroutines in place of a line that names the file. So damage stops the host, and the goroutine of raft's that met it
// ends there, with what it has deferred.
type raftLog struct {
	*logStore
	host *Host
}

// GetLog implements raft.LogStore. It does not return when the log is damaged.
func (s raftLog) GetLog(index uint64, l *raft.Log) error {
	err := s.logStore.GetLog(index, l)
	if errors.Is(err, errClosed) {
		return err
	}
	if errors.Is(err, raft.ErrLogNotFound) {
		if !s.lacks(index) {
			return err
		}
		err = fmt.Errorf("%w: %s has no entry %d", errLogRecord, s.g, index)
	}
	if err != nil {
		s.host.Fail(s.host.report("log", err))
		runtime.Goexit()
	}
	return nil
}

// lacks reports whether an entry that is not there should be: gaps end at the snapshot.
func (s *logStore) lacks(index uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snaps.index.Load() < index && index <= s.last
}

// newEngine makes raft run on a goroutine that may end, see raftLog.
func (c *core) newEngine(rc *raft.Config, trans raft.Transport) (r *raft.Raft, err error) {
	done, returned := make(chan struct{}), false
	go func() {
		defer close(done)
		r, err = raft.NewRaft(rc, &fsm{c}, raftLog{c.store, c.host}, c.stable, c.snaps, trans)
		returned = true
	}()
	<-done
	if !returned {
		<-c.host.failing
		return nil, c.host.why
	}
	return r, err
}
