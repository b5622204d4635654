package router

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
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

// TestManyAccounts registers accounts, and binds their sessions, through a whole router on real files, and pins what that leaves on the
// heap: caches of a fixed size, whatever the number.
func TestManyAccounts(t *testing.T) {
	accounts := 10_000
	if os.Getenv("LINECARD_LONG") != "" {
		accounts = 300_000
	}
	if n, err := strconv.Atoi(os.Getenv("LINECARD_ACCOUNTS")); err == nil {
		accounts = n
	}
	const shards = 16
	host, err := shard.OpenHost(shard.HostConfig{Dir: t.TempDir(), NodeID: "n1", Bootstrap: true, NoTrailing: true, FlushBytes: 1 << 20, Heartbeat: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	deps := Deps{Node: 50, Incarnation: 1, Shards: shards, Cluster: "test", Host: host}
	for n := range shards {
		deps.Groups = append(deps.Groups, n)
	}
	r, err := New(DefaultConfig(), deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	c := &crowd{t: t, up: make(chan struct{}), room: make(chan struct{}, 2000), sent: make([]int64, accounts), took: make([]int64, accounts)}
	c.hellos.Add(shards)
	info := link.Info{Role: link.RoleGateway, Node: 1, Incarnation: 1, Shards: shards, Cluster: "test"}
	cut := link.Connect(link.NewEndpoint(info, c, link.Options{}), r.Endpoint())
	<-c.up
	c.hellos.Wait()
	before := settled()
	begin := time.Now()
	for from := 0; from < accounts; from += accounts / 10 {
		c.register(from, min(from+accounts/10, accounts), shards)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("%7d: heap %d MiB, in use %d MiB, sys %d MiB, %v", from+accounts/10, m.HeapAlloc>>20, m.HeapInuse>>20, m.Sys>>20, time.Since(begin).Round(time.Millisecond))
	}
	for i := range cap(c.room) {
		_ = i
		c.room <- struct{}{} // all answered
	}
	after := settled()
	if c.closed.Load() > 0 {
		t.Errorf("%d closed", c.closed.Load())
	}
	slices.Sort(c.took)
	t.Logf("%d accounts in %v; answers p50 %v p99 %v longest %v", accounts, time.Since(begin), time.Duration(c.took[accounts/2]),
		time.Duration(c.took[accounts*99/100]), time.Duration(c.took[accounts-1]))
	heap := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	objects := int64(after.HeapObjects) - int64(before.HeapObjects)
	mapped, dirty := 0, 0
	for _, h := range r.hosted {
		_ = h.group.Call(ctx, func() { mapped += h.shard.bindings.table.Bytes(); dirty += h.shard.Dirty() })
	}
	t.Logf("heap %+d bytes (%.1f each), %+d objects (%.2f each), bindings %.1f bytes mapped each; dirty %d", heap, float64(heap)/float64(accounts), objects,
		float64(objects)/float64(accounts), float64(mapped)/float64(accounts), dirty)
	cut()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
}

func settled() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}
