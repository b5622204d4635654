package router

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// crowd is a gateway that registers accounts as fast as it is answered, a window of them at a time.
type crowd struct {
	t      *testing.T
	stream *link.Stream
	up     chan struct{}
	hellos sync.WaitGroup
	room   chan struct{}
	bound  atomic.Int64
	closed atomic.Int64
	sent   []int64 // ns, by slot
	took   []int64
}

func (c *crowd) Up(s *link.Stream) {
	c.stream = s
	close(c.up)
}
func (c *crowd) Down(*link.Stream, error) {}
func (c *crowd) Receive(s *link.Stream, batch []link.Envelope) {
	for i := range batch {
		e := &batch[i]
		switch e.Kind {
		case link.KindHello:
			c.hellos.Done()
		case link.KindBound, link.KindClose:
			if e.Kind == link.KindClose {
				c.closed.Add(1)
			}
			c.took[e.Slot] = time.Now().UnixNano() - c.sent[e.Slot]
			c.bound.Add(1)
			<-c.room
		}
		s.Done(e.Group, e.Size())
	}
}

func (c *crowd) register(from, to, shards int) {
	for n := from; n < to; n++ {
		c.room <- struct{}{}
		handle := fmt.Sprintf("user%d", n)
		var key [32]byte
		binary.BigEndian.PutUint64(key[:], uint64(n)*0x9e3779b97f4a7c15)
		binary.BigEndian.PutUint64(key[16:], uint64(n)*0xbf58476d1ce4e5b9)
		r := stanza.Register{Handle: []byte(handle)}
		c.sent[n] = time.Now().UnixNano()
		e := link.Envelope{Kind: link.KindRegister, Group: stanza.DirGroup(stanza.HandleShard(handle, shards)), Slot: uint32(n), Gen: 1, Payload: r.Append(key[:])}
		if err := c.stream.Send(&e); err != nil {
			c.t.Error(err)
			return
		}
	}
}

// finish waits for the last answers.
func (c *crowd) finish() {
	for range cap(c.room) {
		c.room <- struct{}{}
	}
}

// startMany opens a whole router on real files.
func startMany(t *testing.T, shards, flush int) (r *Router, stop func()) {
	host, err := shard.OpenHost(shard.HostConfig{
		Dir: t.TempDir(), NodeID: "n1", Bootstrap: true, NoTrailing: true, Light: true, FlushBytes: flush, Heartbeat: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	deps := Deps{Node: 50, Incarnation: 1, Shards: shards, Cluster: "test", Host: host}
	for n := range shards {
		deps.Groups = append(deps.Groups, n)
	}
	if r, err = New(DefaultConfig(), deps); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return r, func() {
		cancel()
		if err := errors.Join(<-done, host.Close()); err != nil {
			t.Error(err)
		}
	}
}

// snapshots takes one of every group at once, as a scrub or a long log would, and returns how long the slowest took.
func snapshots(t *testing.T, r *Router) time.Duration {
	begin := time.Now()
	var wg sync.WaitGroup
	for _, h := range r.hosted {
		wg.Go(func() {
			if err := h.group.Snapshot(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// TestManyAccounts registers accounts and binds their sessions through a whole router on real files, with snapshots in between, and pins
// what that leaves in memory: caches of a fixed size, and an entry outside the heap for each session. LINECARD_LONG=1 does 300,000 with
// the daemon's settings.
func TestManyAccounts(t *testing.T) {
	accounts, flush := 10_000, 16<<10 // or else the changes that are not flushed yet are most of it
	if os.Getenv("LINECARD_LONG") != "" {
		accounts, flush = 300_000, 0
	}
	const shards = 16
	r, stop := startMany(t, shards, flush)
	defer stop()
	c := &crowd{t: t, up: make(chan struct{}), room: make(chan struct{}, 2000), sent: make([]int64, accounts), took: make([]int64, accounts)}
	c.hellos.Add(shards)
	info := link.Info{Role: link.RoleGateway, Node: 1, Incarnation: 1, Shards: shards, Cluster: "test"}
	cut := link.Connect(link.NewEndpoint(info, c, link.Options{}), r.Endpoint())
	defer cut()
	<-c.up
	c.hellos.Wait()
	c.register(0, accounts/10, shards) // the caches and buffers have their size
	before, begin := settled(), time.Now()
	c.register(accounts/10, accounts/2, shards)
	took := make(chan time.Duration)
	go func() { took <- snapshots(t, r) }()
	c.register(accounts/2, accounts, shards)
	c.finish()
	slowest := <-took // before the heap is weighed: they take memory meanwhile
	after := settled()
	if n := c.closed.Load(); n > 0 {
		t.Errorf("%d closed", n)
	}
	mapped := 0
	for _, h := range r.hosted {
		if err := h.group.Call(context.Background(), func() { mapped += h.shard.bindings.table.Bytes() }); err != nil {
			t.Fatal(err)
		}
	}
	n := float64(accounts - accounts/10)
	heap, objects := float64(int64(after.HeapAlloc-before.HeapAlloc))/n, float64(int64(after.HeapObjects-before.HeapObjects))/n
	slices.Sort(c.took)
	t.Logf("%d accounts in %v, 16 snapshots in %v; answers p50 %v, p99 %v, longest %v", accounts, time.Since(begin), slowest,
		time.Duration(c.took[accounts/2]), time.Duration(c.took[accounts*99/100]), time.Duration(c.took[accounts-1]))
	each := float64(mapped) / float64(accounts)
	t.Logf("each leaves %.1f bytes and %.3f objects on the heap, and %.1f bytes mapped", heap, objects, each)
	if heap > 128 || objects > 0.5 || each > 56 {
		t.Errorf("each leaves %.1f bytes and %.3f objects on the heap, and %.1f bytes mapped: want at most 128, 0.5 and 56", heap, objects, each)
	}
}

func settled() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}
