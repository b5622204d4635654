package shard

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
)

func TestOutcomeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Outcome
	}{
		{nil, Committed},
		{raft.ErrEnqueueTimeout, Rejected},
		{raft.ErrNotLeader, Rejected},
		{raft.ErrLeadershipTransferInProgress, Rejected},
		{raft.ErrLeadershipLost, Unknown},
		{raft.ErrRaftShutdown, Unknown},
		{raft.ErrAbortedByRestore, Unknown},
		{errors.New("disk"), Unknown},
	} {
		if got := outcomeOf(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

// Every context is answered once and in order when a group is closed under load.
func TestCloseAnswersEverything(t *testing.T) {
	for round := range 10 {
		h := openHost(t, testConfig(vfs.NewMem()))
		m := newToy()
		g := openToy(t, h, testGroup, m)
		next, busy := 0, make(chan struct{})
		onShard(t, g, func() {
			m.onTurn = func() {
				for range 20 {
					if g.Propose([]byte("x"), next) {
						next++
					}
				}
				if next >= 100*(round+1) {
					select {
					case <-busy:
					default:
						close(busy)
					}
				}
				g.Wake()
			}
		})
		<-busy
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		done := m.results()
		if len(done) != next {
			t.Fatalf("%d proposed, %d answered", next, len(done))
		}
		for i, r := range done {
			if r.ctx != i {
				t.Fatalf("answer %d is for %d", i, r.ctx)
			}
			if (r.out == Committed) != (r.r != 0) {
				t.Fatalf("answer %d: %+v", i, r)
			}
		}
		if g.Propose([]byte("x"), 0) {
			t.Fatal("accepted after Close")
		}
		if err := g.Call(context.Background(), func() {}); err == nil {
			t.Fatal("Call after Close")
		}
	}
}

func TestLostLeadershipIsUnknown(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.Heartbeat = time.Second // the lease: what follows is proposed before it ends
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, testGroup, m)
	// A second voter that does not exist: the leader cannot commit any more and steps down when its lease ends.
	if err := g.raft.AddVoter("nobody", "nowhere", 0, 0).Error(); err != nil {
		t.Fatal(err)
	}
	onShard(t, g, func() {
		for i := range 200 {
			if !g.Propose([]byte("x"), i) {
				t.Error("refused")
			}
		}
	})
	waitFor(t, g, func() bool { return len(m.results()) == 200 })
	unknown, rejected := 0, 0
	for i, r := range m.results() {
		switch {
		case r.ctx != i:
			t.Fatalf("answer %d is for %d", i, r.ctx)
		case r.out == Unknown:
			if rejected > 0 {
				t.Fatal("a later command was submitted though an earlier one was not")
			}
			unknown++
		case r.out == Rejected:
			rejected++
		}
	}
	t.Logf("%d unknown, %d rejected", unknown, rejected)
	if unknown == 0 || unknown+rejected != 200 {
		t.Fatalf("%d unknown, %d rejected", unknown, rejected)
	}
	onShard(t, g, func() {
		if m.follows != 1 || g.Propose([]byte("x"), 0) {
			t.Error("still leading")
		}
	})
	ok := make(chan bool, 1)
	onShard(t, g, func() { g.Verify(func(v bool) { ok <- v }) })
	if <-ok {
		t.Fatal("verified without a leader")
	}
}

// waitFor turns the shard goroutine until cond, which runs on it, holds.
func waitFor(t testing.TB, g *toyGroup, cond func() bool) {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	for ok := false; !ok; {
		onShard(t, g, func() { ok = cond() })
		if time.Now().After(limit) {
			t.Fatal("condition not reached")
		}
		time.Sleep(100 * time.Microsecond) // the condition is looked at, nothing announces it
	}
}

func TestBusyBound(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.PendingBytes = 64 << 10
	h := openHost(t, cfg)
	m := newToy()
	g := openToy(t, h, testGroup, m)
	cmd := make([]byte, 1000)
	accepted := 0
	onShard(t, g, func() {
		for range 1000 {
			if g.Propose(cmd, accepted) {
				accepted++
			}
		}
	})
	if accepted < 60 || accepted > 65 {
		t.Fatalf("%d of 1,000 bytes accepted into 64 KiB", accepted)
	}
	waitFor(t, g, func() bool { return m.committed(t) == accepted })
	onShard(t, g, func() {
		if g.props.pending != 0 || g.props.inFlight != 0 {
			t.Errorf("%d bytes, %d packs left", g.props.pending, g.props.inFlight)
		}
		if !g.Propose(cmd, accepted) {
			t.Error("busy though nothing is pending")
		}
	})
}

func TestVerify(t *testing.T) {
	h := openHost(t, testConfig(vfs.NewMem()))
	m := newToy()
	g := openToy(t, h, testGroup, m)
	got := make(chan bool, 10)
	onShard(t, g, func() {
		for range 10 {
			g.Verify(func(ok bool) { got <- ok })
		}
	})
	for range 10 {
		if !<-got {
			t.Fatal("a sole voter is not verified")
		}
	}
	if term, ok := g.Leading(); !ok || term == 0 {
		t.Fatal("not leading")
	}
}

// In a bubble time stands still until everybody waits, so that waiting times are exact.
func TestLazyWaitsForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := OpenHost(testConfig(vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		m := newToy()
		g, err := Open[int, uint64](h, testGroup, m)
		if err != nil {
			t.Fatal(err)
		}
		<-m.led
		var at time.Time
		answered := make(chan int, 64)
		onShard(t, g, func() { m.onDone = func(ctx int, o Outcome) { at = time.Now(); answered <- ctx } })

		start := time.Now()
		onShard(t, g, func() { g.ProposeLazy([]byte("a"), 1) })
		<-answered
		if d := at.Sub(start); d < 20*time.Millisecond || d > 21*time.Millisecond {
			t.Errorf("alone: answered after %v", d)
		}
		start = time.Now()
		onShard(t, g, func() { g.ProposeLazy([]byte("a"), 2) })
		time.Sleep(5 * time.Millisecond)
		onShard(t, g, func() { g.Propose([]byte("b"), 3) })
		if a, b := <-answered, <-answered; a != 2 || b != 3 {
			t.Errorf("order %d %d", a, b)
		}
		if d := at.Sub(start); d < 5*time.Millisecond || d > 6*time.Millisecond {
			t.Errorf("with company after 5 ms: answered after %v", d)
		}
		start = time.Now()
		onShard(t, g, func() {
			for i := range 64 {
				g.ProposeLazy([]byte("a"), i)
			}
		})
		for range 64 {
			<-answered
		}
		if d := at.Sub(start); d > time.Millisecond {
			t.Errorf("full pack: answered after %v", d)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A committed pack settles those before it that raft has not answered yet: they are not in the log. A pack whose outcome was
// reported as unknown is not reported again when it is applied after all.
func TestTakeSettlesEarlierPacks(t *testing.T) {
	v, err := newMetricVecs(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := newToy()
	g := &toyGroup{core: &core{metrics: v.group(1)}, m: m}
	for i := range 4 {
		g.props.add([]byte("x"), i, false, 1, 0)
		g.props.submit(g.props.waiting(), 0)
	}
	g.failed(failure{seq: 1, out: Unknown})
	g.deliver()
	if g.take(1) != nil {
		t.Error("an unknown pack was taken")
	}
	g.failed(failure{seq: 2, out: Unknown}) // raft's answer to 3 is still to come when 4 is applied
	own := g.take(4)
	if own == nil || own.seq != 4 || own.ctxs[0] != 3 || g.props.inFlight != 0 || !g.props.empty() {
		t.Fatalf("%+v, %d in flight", own, g.props.inFlight)
	}
	g.failed(failure{seq: 3, out: Rejected}) // late, and said already
	want := []result{{0, Unknown, 0}, {1, Unknown, 0}, {2, Rejected, 0}}
	if got := m.results(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
