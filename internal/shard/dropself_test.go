package shard

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
)

// A replica that was dropped and comes back gets its log again from the beginning, when it was the only voter. It does not take itself for
// that when the leader falls silent, nor is it handed a leadership, until it has what it had.
func TestForgetfulDoesNotElectItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		h := openHost(t, testConfig(fs))
		m := newToy()
		g := openToy(t, h, testGroup, m)
		propose(t, g, m, 0, 10)
		var logs []*raft.Log
		last, _ := g.store.LastIndex()
		for i := uint64(1); i <= last; i++ {
			l := new(raft.Log)
			noErr(t, g.store.GetLog(i, l))
			logs = append(logs, l)
		}
		noErr(t, g.Close(), h.Drop(testGroup), h.Close())

		s := seatFor(t, fs, func(c *HostConfig) { c.Bootstrap = false })
		s.term = 9
		feed := func(prev uint64, entries ...*raft.Log) {
			t.Helper()
			req := &raft.AppendEntriesRequest{RPCHeader: s.header(), Term: s.term, PrevLogEntry: prev, Entries: entries}
			if prev > 0 {
				req.PrevLogTerm = logs[prev-1].Term
			}
			var resp raft.AppendEntriesResponse
			if err := s.lead.AppendEntries("n1", "n1", req, &resp); err != nil || !resp.Success {
				t.Fatal(resp, err)
			}
		}
		stays := func(what string) {
			t.Helper()
			time.Sleep(time.Minute)
			if s.g.raft.State() != raft.Follower || s.g.raft.CurrentTerm() != s.term {
				t.Fatalf("%s: it is %v in term %d", what, s.g.raft.State(), s.g.raft.CurrentTerm())
			}
		}
		feed(0, logs[:last-1]...)
		stays("the leader is silent")
		if err := s.lead.TimeoutNow("n1", "n1", &raft.TimeoutNowRequest{RPCHeader: s.header()}, &raft.TimeoutNowResponse{}); err == nil {
			t.Error("it takes a leadership")
		}
		stays("a leader hands over")
		feed(last-1, logs[last-1])
		within(t, time.Minute, "an election with all that it had", func() bool { return s.g.raft.State() == raft.Leader })
		noErr(t, s.h.Close())
	})
}
