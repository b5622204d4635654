package shard

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// Whoever sends on a pipeline is not held for ever when raft has seen a refusal and takes no more answers.
func TestPipelineAfterRefusal(t *testing.T) {
	ca, all := newAuthority(t), new(members)
	a, b := newStation(t, ca, all, "n0"), newStation(t, ca, all, "n1")
	at, bt := bare(t, a), b.n.transport(0, b.log.logger())
	bt.open()
	t.Cleanup(func() { bt.Close() })
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case rpc := <-bt.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Term: 7}, nil)
			case <-stop:
				return
			}
		}
	}()
	p, err := at.AppendEntriesPipeline("n1", "n1")
	noErr(t, err)
	sent := make(chan int)
	go func() {
		n := 0
		for ; n < 10; n++ {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 1}, new(raft.AppendEntriesResponse)); err != nil {
				break
			}
		}
		sent <- n
	}()
	if f := <-p.Consumer(); f.Response().Term != 7 {
		t.Errorf("%+v", f.Response())
	}
	select {
	case n := <-sent:
		if n == 10 {
			t.Error("it goes on sending what cannot be taken any more")
		}
	case <-time.After(20 * time.Second):
		t.Error("the sender is held")
	}
	noErr(t, p.Close())
}
