package shard

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
)

// verified asks a member whether it leads, and waits for the answer.
func verified(t *testing.T, x *member) bool {
	t.Helper()
	got := make(chan bool, 1)
	onShard(t, x.g, func() { x.g.Verify(func(ok bool) { got <- ok }) })
	return <-got
}

// A majority is asked each time, the same one for all that wait; without one the answer is no.
func TestVerifyAsksAMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := grown(t, 3, nil)
		lead := leading(ms)
		for range 100 {
			if begun := time.Now(); !verified(t, lead) || time.Since(begun) < 2*oneWay {
				t.Fatalf("verified after %v: nobody can have been asked", time.Since(begun))
			}
		}
		for _, x := range ms {
			if x != lead && verified(t, x) {
				t.Errorf("%s does not lead", x.h.cfg.NodeID)
			}
		}
		cut(ms, 1)
		if !verified(t, lead) {
			t.Error("two of three are a majority")
		}
		cut(ms, 2)
		begun := time.Now()
		if verified(t, lead) {
			t.Error("one of three is not")
		}
		t.Logf("without a majority: no after %v", time.Since(begun))
	})
}

// A leader was stopped. Answers to heartbeats from before wait in its sockets, and others have elected a leader and taken commands,
// when it goes on and is asked to verify. The answers are no yes.
func TestStaleLeaderIsNotVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := grown(t, 3, func(i int, c *HostConfig) {
			if i == 0 {
				c.Heartbeat = time.Minute // so that it does not step down by itself
			}
		})
		old := ms[0]
		if leading(ms) != old {
			t.Fatal("the first does not lead")
		}
		old.slow.gate.close()
		defer old.slow.gate.open()
		heartbeats := old.g.raft.VerifyLeader() // to both, at once
		within(t, time.Second, "held answers", func() bool { return old.slow.gate.held.Load() == 4 })

		next := ms[1:]
		for _, x := range next {
			x.trans.Disconnect(old.trans.LocalAddr()) // a process that is stopped hears nothing
		}
		within(t, 10*time.Second, "the next leader", func() bool { return leading(next) != nil })
		x := leading(next)
		propose(t, x.g, x.m, 0, 10)
		if _, ok := old.g.Leading(); !ok {
			t.Fatal("the old leader has noticed: nothing is tested")
		}
		got := make(chan bool, 1)
		onShard(t, old.g, func() { old.g.Verify(func(ok bool) { got <- ok }) })
		synctest.Wait()
		old.slow.gate.open()
		if <-got {
			t.Error("a leader that was deposed, and whose state is old, is verified")
		}
		t.Logf("raft's own verification: %v", heartbeats.Error())
		connect(ms, 0, 1, 2)
		within(t, 5*time.Second, "the end of the old leadership", func() bool { _, ok := old.g.Leading(); return !ok })
		agree(t, ms)
	})
}

// What waits for a verification is told when the group closes.
func TestVerifyEndsWithTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := grown(t, 3, nil)
		lead := leading(ms)
		lead.slow.gate.close()
		defer lead.slow.gate.open()
		got := make(chan bool, 2)
		for range 2 {
			onShard(t, lead.g, func() { lead.g.Verify(func(ok bool) { got <- ok }) })
		}
		closed := make(chan error, 1)
		go func() { closed <- lead.h.Close() }()
		for range 2 {
			if <-got {
				t.Error("verified without an answer")
			}
		}
		lead.slow.gate.open()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// handlerTransport keeps the handler of heartbeats.
type handlerTransport struct {
	*raft.InmemTransport
	handle func(raft.RPC)
}

func (t *handlerTransport) SetHeartbeatHandler(f func(raft.RPC)) { t.handle = f }

// Heartbeats that would change the term or the state go to raft's main goroutine, the others past it.
func TestHeartbeatRaisesNoTerm(t *testing.T) {
	h := openHost(t, testConfig(vfs.NewMem()))
	m := newToy()
	g := openToy(t, h, testGroup, m)
	_, in := raft.NewInmemTransport("x")
	inner := &handlerTransport{InmemTransport: in}
	w, err := watch(inner, g.core, "n1")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	past := make(chan raft.RPC, 1)
	w.SetHeartbeatHandler(func(rpc raft.RPC) { past <- rpc })
	check := func(what string, term uint64, direct bool) {
		t.Helper()
		go inner.handle(raft.RPC{Command: &raft.AppendEntriesRequest{Term: term}})
		select {
		case <-past:
			if !direct {
				t.Errorf("%s: handled beside the main goroutine", what)
			}
		case <-w.Consumer():
			if direct {
				t.Errorf("%s: waits for the main goroutine", what)
			}
		}
	}
	term := g.raft.CurrentTerm()
	check("before raft has started", term-1, false)
	w.raft.Store(g.raft)
	check("of a later term", term+1, false)
	check("to one that does not follow", term, false)
	check("of an earlier term", term-1, true)
	cfg := testConfig(vfs.NewMem())
	cfg.Join = true // knows nobody, and so follows for ever
	x, err := Open[int, uint64](openHost(t, cfg), testGroup, newToy())
	if err != nil {
		t.Fatal(err)
	}
	w.raft.Store(x.raft)
	check("to a follower, in its term", 0, true)
	check("to a follower, of a later term", 1, false)
}

// bareTransport carries no pre-votes.
type bareTransport struct{ raft.Transport }

func TestTransportCarriesPreVotes(t *testing.T) {
	_, in := raft.NewInmemTransport("x")
	if _, err := watch(bareTransport{in}, nil, "x"); err == nil {
		t.Error("taken")
	}
}
