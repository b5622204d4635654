package shard

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// Nodes are members whose messages take a millisecond each way, with the default timeouts. In a bubble of synctest time stands still while
// anybody works, so what is measured is what is waited for, whatever the machine is doing.

// slowTransport delays every message, and holds the answers to appends while its gate is shut. Appends are not pipelined, so that all of
// them are.
type slowTransport struct {
	*raft.InmemTransport
	gate gate
	far  atomic.Pointer[map[raft.ServerAddress]time.Duration] // how much longer appends take to some
}

const oneWay = time.Millisecond

func (t *slowTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t *slowTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, a *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	time.Sleep(oneWay)
	if far := t.far.Load(); far != nil {
		time.Sleep((*far)[to])
	}
	err := t.InmemTransport.AppendEntries(id, to, a, r)
	t.gate.pass()
	time.Sleep(oneWay)
	return err
}

func (t *slowTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, a *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	time.Sleep(2 * oneWay)
	return t.InmemTransport.RequestVote(id, to, a, r)
}

func (t *slowTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, a *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	time.Sleep(2 * oneWay)
	return t.InmemTransport.RequestPreVote(id, to, a, r)
}

func (t *slowTransport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, a *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	time.Sleep(2 * oneWay)
	return t.InmemTransport.TimeoutNow(id, to, a, r)
}

// gate lets everything pass until it is shut.
type gate struct {
	mu   sync.Mutex
	shut chan struct{}
	held atomic.Int32
}

func (g *gate) pass() {
	g.mu.Lock()
	c := g.shut
	g.mu.Unlock()
	if c != nil {
		g.held.Add(1)
		<-c
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// openNodes opens n hosts of one group. The first begins as its only voter, the others wait for a leader.
func openNodes(t *testing.T, n int, change func(i int, c *HostConfig)) []*member {
	t.Helper()
	var ms []*member
	var all []int
	for i := range n {
		addr, in := raft.NewInmemTransportWithTimeout(raft.ServerAddress(fmt.Sprint("n", i)), 100*time.Millisecond)
		slow := &slowTransport{InmemTransport: in}
		cfg := testConfig(vfs.NewMem())
		cfg.NodeID, cfg.Heartbeat, cfg.TrailingLogs, cfg.Join = string(addr), 0, 1<<20, i > 0
		cfg.Transport = func(stanza.Group) (raft.Transport, raft.ServerAddress) { return slow, addr }
		if change != nil {
			change(i, &cfg)
		}
		ms = append(ms, &member{h: openHost(t, cfg), m: newToy(), trans: in, slow: slow})
		all = append(all, i)
	}
	connect(ms, all...)
	for _, x := range ms {
		var err error
		if x.g, err = Open[int, uint64](x.h, testGroup, x.m); err != nil {
			t.Fatal(err)
		}
	}
	within(t, 5*time.Minute, "the first leader", func() bool { _, ok := ms[0].g.Leading(); return ok })
	return ms
}

// within waits until cond holds.
func within(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); time.Sleep(time.Millisecond) { // a bubble's time
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

func names(which []int) []string {
	var ids []string
	for _, i := range which {
		ids = append(ids, fmt.Sprint("n", i))
	}
	return ids
}

// want tells all members which are to vote, the preferred leader first.
func want(ms []*member, which ...int) {
	for _, x := range ms {
		x.h.Want(func(stanza.Group) []string { return names(which) })
	}
}

// configuration returns the servers as a member knows them, standbys in brackets, in the order of their names.
func configuration(x *member) string {
	var all []string
	for _, r := range x.h.Status()[0].Servers {
		if r.Voter {
			all = append(all, r.Node)
		} else {
			all = append(all, "("+r.Node+")")
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// leading returns the member that leads, the one with the highest term if an old leader has not noticed yet; nil: nobody.
func leading(ms []*member) (lead *member) {
	var highest uint64
	for _, x := range ms {
		if term, ok := x.g.Leading(); ok && term > highest {
			lead, highest = x, term
		}
	}
	return lead
}

// awaitVoters waits until exactly these vote, as the leader knows it.
func awaitVoters(t *testing.T, ms []*member, which ...int) *member {
	t.Helper()
	text := strings.Join(names(which), " ")
	within(t, time.Minute, "voters "+text, func() bool {
		x := leading(ms)
		return x != nil && configuration(x) == text
	})
	return leading(ms)
}

// grown returns n nodes that all vote.
func grown(t *testing.T, n int, change func(i int, c *HostConfig)) []*member {
	t.Helper()
	ms := openNodes(t, n, change)
	var all []int
	for i := range n {
		all = append(all, i)
	}
	want(ms, all...)
	awaitVoters(t, ms, all...)
	return ms
}

// pump proposes to whoever leads, again and again, and notes when something was committed.
type pump struct {
	mu     sync.Mutex
	last   time.Time
	gap    time.Duration // longest between two commits since reset
	stop   chan struct{}
	ended  chan struct{}
	counts map[*member]int
}

func startPump(t *testing.T, ms []*member, every time.Duration) *pump {
	p := &pump{stop: make(chan struct{}), ended: make(chan struct{}), counts: map[*member]int{}, last: time.Now()}
	for _, x := range ms {
		onShard(t, x.g, func() {
			x.m.onDone = func(_ int, o Outcome) {
				if o == Committed {
					p.note(time.Now())
				}
			}
		})
	}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
			for _, x := range ms {
				_ = x.g.Call(t.Context(), func() {
					if n := p.counts[x]; x.g.Propose([]byte(fmt.Sprint("k", n%100)), n) {
						p.counts[x]++
					}
				})
			}
		}
	}()
	return p
}

func (p *pump) note(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gap = max(p.gap, now.Sub(p.last))
	p.last = now
}

// longest returns the longest time without a commit since the last call.
func (p *pump) longest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap := max(p.gap, time.Since(p.last))
	p.gap, p.last = 0, time.Now()
	return gap
}

// end stops the pump and counts the outcomes of each member.
func (p *pump) end(t *testing.T, ms []*member) (sum [3]int) {
	t.Helper()
	close(p.stop)
	<-p.ended
	for _, x := range ms {
		within(t, 10*time.Second, "outcomes", func() (done bool) {
			onShard(t, x.g, func() { done = x.g.props.empty(); x.m.onDone = nil })
			return done
		})
		for o, n := range checkOutcomes(t, x) {
			sum[o] += n
		}
	}
	return sum
}

// agree waits until the members have applied the same, and compares them.
func agree(t *testing.T, ms []*member) {
	t.Helper()
	within(t, 30*time.Second, "a leader", func() bool { return leading(ms) != nil })
	lead := leading(ms)
	var at uint64
	onShard(t, lead.g, func() { at = lead.g.at })
	hash := hashOf(t, lead.g, lead.m)
	for _, x := range ms {
		// A leader asks a replica that did not answer for long again after 10.24 s (raft's backoff).
		within(t, 15*time.Second, "entries applied", func() (ok bool) {
			onShard(t, x.g, func() { ok = x.g.at >= at })
			return ok
		})
		if got := hashOf(t, x.g, x.m); got != hash {
			t.Errorf("%s: hash %x, the leader has %x", x.h.cfg.NodeID, got, hash)
		}
	}
}
