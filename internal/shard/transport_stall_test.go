package shard

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
)

// stalled is a state whose sender is stopped in the middle of it.
type stalled struct {
	begun bool
	stop  chan struct{}
}

func (s *stalled) Read(p []byte) (int, error) {
	if s.begun {
		<-s.stop
	}
	s.begun = true
	return len(p), nil
}

// A leader that is stopped while it sends its state does not stop the replica that takes it in: that one votes for the next leader. What
// comes later of the state, when the sender goes on, is not taken for something else.
func TestStalledSnapshotFreesTheReplica(t *testing.T) {
	ca, all := newAuthority(t), new(members)
	a, b := newStation(t, ca, all, "n0"), &station{ca: ca, all: all, id: "n1", fs: vfs.NewMem(), addr: "127.0.0.1:0", timeout: 200 * time.Millisecond}
	b.listen(t)
	b.open(t, 1, true)
	at := bare(t, a)
	head := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n0"), Addr: []byte("n0")}
	conf := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: "n0", Address: "n0"}, {Suffrage: raft.Voter, ID: "n1", Address: "n1"}}}
	state := &stalled{stop: make(chan struct{})}
	sent := make(chan error, 1)
	go func() {
		var resp raft.InstallSnapshotResponse
		sent <- at.InstallSnapshot("n1", "n1", &raft.InstallSnapshotRequest{RPCHeader: head, SnapshotVersion: 1, Term: 3, LastLogIndex: 40, LastLogTerm: 3,
			Configuration: raft.EncodeConfiguration(conf), ConfigurationIndex: 1, Size: 1 << 30}, &resp, state)
	}()
	eventually(t, "the state is being taken in", func() bool { return b.gs[0].raft.CurrentTerm() == 3 })
	done := make(chan error, 1)
	go func() {
		var resp raft.RequestVoteResponse
		err := at.RequestVote("n1", "n1", &raft.RequestVoteRequest{RPCHeader: head, Term: 4, LastLogIndex: 50, LastLogTerm: 3, LeadershipTransfer: true}, &resp)
		if err == nil && !resp.Granted {
			t.Error("no vote")
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the replica waits for the rest of the state")
	}
	close(state.stop)
	if err := <-sent; err == nil || answered(err) {
		t.Errorf("the state was taken: %v", err)
	}
	if term := b.gs[0].raft.CurrentTerm(); term != 4 {
		t.Errorf("term %d", term)
	}
	b.close(t)
}
