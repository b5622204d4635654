package offline

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// replica is a fold under real raft, with nobody attached. What it learns goes over channels.
type replica struct {
	*group
	led  chan uint64
	done chan result
}

func (r *replica) Lead(term uint64) {
	r.group.Lead(term)
	r.led <- term
}

func (r *replica) Done(_ proposal, o shard.Outcome, res result) {
	if o != shard.Committed {
		res = result{verdict: refused, reason: stanza.ReasonRetry}
	}
	r.done <- res
}

// stage is one opening of the databases.
type stage struct {
	t    *testing.T
	host *shard.Host
	g    *shard.Group[proposal, result]
	m    *replica
}

func openStage(t *testing.T, fs vfs.FS, first bool, flushBytes int) *stage {
	t.Helper()
	host, err := shard.OpenHost(shard.HostConfig{
		Dir: "offline", FS: fs, NodeID: "n", Bootstrap: first, FlushBytes: flushBytes,
		SnapshotCount: 64, TrailingLogs: 8, Heartbeat: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Cache = 2000
	cfg.WriteAheadAge = 1
	cfg.Sweep, cfg.StreamSweep = cfg.Retention, cfg.Retention
	id := stanza.QueueGroup(0)
	m := &replica{
		group: newGroup(cfg, id, 1, 0, newPeers(), newCounters(nil), slog.New(slog.DiscardHandler), mustNotFail),
		led:   make(chan uint64, 8), done: make(chan result, 1),
	}
	g, err := shard.Open(host, id, m)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.led:
	case <-time.After(20 * time.Second):
		t.Fatal("no leader")
	}
	return &stage{t, host, g, m}
}

func (s *stage) on(f func()) {
	s.t.Helper()
	if err := s.g.Call(context.Background(), f); err != nil {
		s.t.Fatal(err)
	}
}

// commit proposes c and waits for its result.
func (s *stage) commit(c command) result {
	s.t.Helper()
	s.on(func() {
		if !s.g.Propose(appendCommand(nil, &c), proposal{}) {
			s.m.done <- result{verdict: refused, reason: stanza.ReasonBusy}
		}
	})
	return <-s.m.done
}

func (s *stage) compare(m *model) (diff string, hash uint64) {
	s.t.Helper()
	s.on(func() { diff, hash = m.compare(s.m.state), s.m.Hash() })
	if diff == "" {
		s.on(func() { diff = checkMemory(s.m.state) })
	}
	return diff, hash
}

// TestMetamorphicOnRaft runs random operations through raft on an in-memory file system, with flushes, snapshots, records written ahead,
// restarts in order and with the power cut, against the model.
func TestMetamorphicOnRaft(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { metamorphicOnRaft(t, seed, 800) })
	}
}

func metamorphicOnRaft(t *testing.T, seed uint64, steps int) {
	fs := vfs.NewStrictMem()
	rng := rand.New(rand.NewPCG(seed, 5))
	ops := &operations{rng: rand.New(rand.NewPCG(seed, 6)), ids: map[streamKey]uint64{}}
	m := newModel()
	s := openStage(t, fs, true, 1500)
	reopen := func() {
		_, before := s.compare(m)
		cut := rng.IntN(2) == 0
		if cut {
			fs.SetIgnoreSyncs(true) // what is not synced by now is lost
		}
		if err := s.host.Close(); err != nil && !cut {
			t.Fatal(err)
		}
		if cut {
			fs.ResetToSyncedState()
			fs.SetIgnoreSyncs(false)
		}
		s = openStage(t, fs, false, 500+rng.IntN(3000))
		diff, after := s.compare(m)
		if diff != "" || before != after {
			t.Fatalf("restart (power cut: %v): hash %x, was %x; %s", cut, after, before, diff)
		}
	}
	for step := range steps {
		var c command
		var want string
		s.on(func() {
			c = ops.next(m, s.m.state)
			// The shard stamps: what the model compares by time stays out, but for what expires everything or nothing.
			switch c.op {
			case opExpireQueues, opExpireStreams, opExpireReceipts:
				c.cut, c.cutTombs = int64(rng.IntN(2))<<50, 0
			}
		})
		s.on(func() { want = modelStep(m, s.m.state, c, 1) })
		if got := show(s.commit(c)); got != want {
			t.Fatalf("step %d: %s, want %s: %+v", step, got, want, c)
		}
		s.on(func() { m.learnStamps(s.m.state) })
		switch rng.IntN(60) {
		case 0:
			reopen()
		case 1:
			if err := s.g.Snapshot(context.Background()); err != nil {
				t.Fatal(err)
			}
		case 2, 3, 4:
			s.on(func() { s.m.relieve(2000); s.m.evictQueues(2) })
		case 5, 6, 7:
			if diff, _ := s.compare(m); diff != "" {
				t.Fatalf("step %d: %s", step, diff)
			}
		}
	}
	reopen()
	if err := s.host.Close(); err != nil {
		t.Fatal(err)
	}
}

// learnStamps takes over the stamps that the shard gave.
func (m *model) learnStamps(s *state) {
	for k, want := range m.queues {
		q := s.find(k)
		if q == nil {
			continue
		}
		want.tomb = q.tomb
		for i, e := range want.entries {
			var r record
			if i < int(q.entries()) && s.read(q, q.head+uint64(i), &r) {
				e.stamp = r.stamp
			}
		}
	}
	for k := range m.streams {
		if v, ok := s.stream(k); ok {
			m.streams[k] = streamState{m.streams[k].last, v.stamp}
		}
	}
	for k, batches := range m.pending {
		if p := s.pending[k]; p != nil {
			for i := range batches {
				if i < len(p.batches) {
					batches[i].stamp = p.batches[i].stamp
				}
			}
		}
	}
}

// openDaemon opens a real daemon on raft; the returned function ends it in order.
func openDaemon(t *testing.T, fs vfs.FS, first bool, shards int) (*Offline, func()) {
	t.Helper()
	host, err := shard.OpenHost(shard.HostConfig{Dir: "offline", FS: fs, NodeID: "n", Bootstrap: first, Heartbeat: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	deps := Deps{Node: 50, Incarnation: 1, Shards: shards, Cluster: "c", Host: host}
	for n := range shards {
		deps.Groups = append(deps.Groups, n)
	}
	o, err := New(DefaultConfig(), deps)
	if err != nil {
		t.Fatal(err)
	}
	stop := link.Connect(o.Endpoint(), o.Endpoint())
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- o.Run(ctx) }()
	return o, func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		stop()
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	}
}

// storeIn sends a message of device 77/1, for devices 1 and 2 of an account, in a system of so many shards.
func (p *peer) storeIn(shards int, id, after uint64, to stanza.Account) {
	p.h.t.Helper()
	s := stanza.MessageUp{ID: id, After: after, Account: to, Version: 1, Body: body(1, 2)}
	p.send(link.Envelope{
		Kind: link.KindStore, Group: stanza.QueueGroup(stanza.ShardOf(to, shards)), Gateway: p.id,
		Account: 77, Device: 1, ID: id, Charge: 1, Payload: s.Append(nil),
	})
}

// TestDaemon stores through a real daemon on raft, restarts it, and drains.
func TestDaemon(t *testing.T) {
	const shards, messages = 4, 50
	fs := vfs.NewMem()
	o, closeAll := openDaemon(t, fs, true, shards)
	h := &harness{t: t, o: o, woken: make(chan struct{}, 1)}
	gw := h.peerOf(shards)
	for range shards {
		gw.take(link.KindHello)
	}
	if ok, why := o.Ready(); !ok {
		t.Error(why)
	}
	for _, turn := range o.Turned() {
		if time.Since(turn.At) > 5*time.Second {
			t.Error(turn)
		}
	}
	send := func(to stanza.Account, first, last uint64) {
		for id := first; id <= last; id++ {
			gw.storeIn(shards, id, id-1, to)
		}
		for range last - first + 1 {
			gw.take(link.KindAck)
		}
	}
	for to := stanza.Account(1); to <= 6; to++ {
		send(to, 1, messages)
	}
	gw.stop()
	closeAll()

	o, closeAll = openDaemon(t, fs, false, shards)
	h.o = o
	gw = h.peerOf(shards)
	for range shards {
		gw.take(link.KindHello)
	}
	for to := stanza.Account(1); to <= 6; to++ {
		gw.send(link.Envelope{
			Kind: link.KindAttach, Group: stanza.QueueGroup(stanza.ShardOf(to, shards)), Gateway: gw.id, Account: to, Device: 1,
			Slot: uint32(to), Gen: 1, Serial: 1,
		})
		for id := uint64(1); id <= messages; id++ {
			e, got := gw.delivered()
			if got != id || e.ID != id {
				t.Fatalf("message %d as delivery %d, want %d", got, e.ID, id)
			}
			gw.answer(link.KindDeliveryAck, e, e.ID)
		}
	}
	// The sender gets every receipt.
	gw.send(link.Envelope{Kind: link.KindAttach, Group: stanza.QueueGroup(77 % shards), Gateway: gw.id, Account: 77, Device: 1, Slot: 99, Gen: 1, Serial: 1})
	ids := map[stanza.Account]map[uint64]bool{}
	for n := 0; n < 6*messages; {
		e := gw.take(link.KindDeliver)
		v, _, _ := stanza.Decode(e.Payload)
		r, err := stanza.ParseReceiptDown(v)
		if err != nil {
			t.Fatal(err)
		}
		if ids[r.From] == nil {
			ids[r.From] = map[uint64]bool{}
		}
		for _, id := range packedIDs(r.IDs) {
			if ids[r.From][id] {
				t.Errorf("receipt %d of %d twice", id, r.From)
			}
			ids[r.From][id] = true
			n++
		}
		gw.answer(link.KindDeliveryAck, e, e.ID)
	}
	gw.stop()
	closeAll()
}

// peerOf connects a gateway to a daemon that runs by itself.
func (h *harness) peerOf(shards int) *peer {
	p := &peer{h: h, id: link.GatewayID{Node: 1, Incarnation: 9}}
	p.ep = link.NewEndpoint(link.Info{Role: link.RoleGateway, Node: 1, Incarnation: 9, Shards: shards, Cluster: "c"}, p, link.Options{})
	p.connect()
	return p
}
