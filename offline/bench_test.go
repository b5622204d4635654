package offline

import (
	"log/slog"
	"testing"
	"time"
	"unsafe"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// instantRaft commits at once, on the caller's stack: what is measured is the group alone.
type instantRaft struct {
	m     *group
	index uint64
	off   bool
}

func (r *instantRaft) Propose(cmd []byte, p proposal) bool {
	if r.off {
		return true
	}
	r.index++
	e := shard.Entry{Index: r.index, Stamp: int64(r.index), Cmd: cmd}
	r.m.cmdOut = nil // cmd is it
	r.m.Done(p, shard.Committed, r.m.Apply(e))
	r.m.cmdOut = cmd[:0]
	return true
}
func (r *instantRaft) ProposeLazy(cmd []byte, p proposal) bool { return r.Propose(cmd, p) }
func (r *instantRaft) Stamp() int64                            { return int64(r.index) }
func (r *instantRaft) Wake()                                   {}
func (r *instantRaft) StorageFull() bool                       { return false }

type sink struct{}

func (sink) Up(*link.Stream)          {}
func (sink) Down(*link.Stream, error) {}
func (sink) Receive(s *link.Stream, batch []link.Envelope) {
	for i := range batch {
		s.Done(batch[i].Group, batch[i].Size())
	}
}

// rig is a group with one gateway stream that swallows everything.
type rig struct {
	m         *group
	raft      *instantRaft
	gw        link.GatewayID
	ids       []uint64
	env       link.Envelope
	msg, body []byte
}

func newRig(b testing.TB, cfg Config) *rig {
	cfg.Sweep, cfg.StreamSweep = cfg.Retention, cfg.Retention
	p := newPeers()
	log := slog.New(slog.DiscardHandler)
	m := newGroup(cfg, stanza.QueueGroup(0), 1, 0, p, newCounters(nil), log, mustNotFail)
	if err := m.loadFrom(newMemTables()); err != nil {
		b.Fatal(err)
	}
	r := &rig{m: m, raft: &instantRaft{m: m}, gw: link.GatewayID{Node: 1, Incarnation: 2}, ids: make([]uint64, 1001)}
	o := &Offline{peers: p, order: []*served{{group: m}}, groups: map[stanza.Group]*served{m.id: {group: m}}, log: log}
	ours := link.NewEndpoint(link.Info{Role: link.RoleOffline, Node: 9, Shards: 1, Cluster: "c"}, o, link.Options{})
	theirs := link.NewEndpoint(link.Info{Role: link.RoleGateway, Node: 1, Incarnation: 2, Shards: 1, Cluster: "c"}, sink{}, link.Options{Credits: 1 << 30})
	b.Cleanup(link.Connect(ours, theirs))
	m.bind(r.raft, nil)
	m.Tick(time.UnixMilli(1_700_000_000_000))
	m.Lead(1)
	m.Turn()
	return r
}

// store is the way of one message from envelope to ack; 1,000 recipients in turn, each with a sender of its own.
func (r *rig) store(n int, ciphertext []byte) {
	to := stanza.Account(1 + n%1000)
	r.ids[to]++
	s := stanza.MessageUp{ID: r.ids[to], Account: to, Version: 1}
	if s.ID > 1 {
		s.After = s.ID - 1
	}
	r.body = stanza.AppendCipher(r.body[:0], 1, ciphertext)
	s.Body = r.body
	r.msg = s.Append(r.msg[:0])
	r.env = link.Envelope{Kind: link.KindStore, Group: r.m.id, Gateway: r.gw, Account: to + 1000, Device: 1, ID: s.ID, Charge: 1, Payload: r.msg}
	r.m.handleStore(&r.env)
}

func (r *rig) attachAll() {
	for to := stanza.Account(1); to <= 1000; to++ {
		r.m.handleAttach(&link.Envelope{Kind: link.KindAttach, Group: r.m.id, Gateway: r.gw, Account: to, Device: 1, Slot: uint32(to), Gen: 1, Serial: 1})
	}
}

// ack acks everything that was pushed to the n-th recipient.
func (r *rig) ack(n int) {
	a := r.m.queues[keyOf(stanza.Account(1+n%1000), 1)].att
	r.env = link.Envelope{Kind: link.KindDeliveryAck, Account: a.q.key.account(), Device: 1, Slot: a.slot, Gen: 1, Epoch: a.epoch, ID: a.acked + uint64(len(a.sent))}
	r.m.handleDeliveryAck(&r.env)
}

// confirm takes the raised receipts as handed over.
func (r *rig) confirm() {
	for _, p := range r.m.raised {
		p.send.listed = false
		c := command{op: opConfirm, account: p.key.to.account(), device: p.key.to.device(), from: p.key.from, tag: stanza.TagDelivered}
		r.m.packReceipt(p)
		c.body = p.send.packed[1:]
		r.m.cmdOut = appendCommand(r.m.cmdOut[:0], &c)
		r.raft.Propose(r.m.cmdOut, proposal{purpose: forConfirm})
	}
	r.m.raised = r.m.raised[:0]
}

var ciphertext = make([]byte, 80)

// BenchmarkStore is the state machine's part of a stored message: envelope, proposal, fold, ack envelope. Nobody is attached; queues are
// emptied outside of the clock.
func BenchmarkStore(b *testing.B) {
	r := newRig(b, DefaultConfig())
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		r.store(n, ciphertext)
		if n%100_000 == 99_999 {
			b.StopTimer()
			for to := stanza.Account(1); to <= 1000; to++ {
				c := command{op: opAck, account: to, device: 1, upTo: stanza.MaxID}
				r.raft.Propose(appendCommand(nil, &c), proposal{purpose: forAck})
			}
			r.confirm()
			b.StartTimer()
		}
	}
}

// BenchmarkOnline is a message stored, pushed, acked and its receipt raised and confirmed; acks come one for each message.
func BenchmarkOnline(b *testing.B) {
	r := newRig(b, DefaultConfig())
	r.attachAll()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		r.store(n, ciphertext)
		r.m.pushReady()
		r.ack(n)
		r.m.proposeAcks()
		r.confirm()
	}
}

// BenchmarkDrain is one message of a queue in memory from push to ack, a window of 32 at a time, its receipt raised and confirmed.
func BenchmarkDrain(b *testing.B) {
	r := newRig(b, DefaultConfig())
	for n := range b.N {
		r.store(n, ciphertext)
	}
	b.ReportAllocs()
	b.ResetTimer()
	r.attachAll()
	r.m.pushReady()
	for n := 0; r.m.entries > 0; n++ {
		r.ack(n)
		r.m.proposeAcks()
		r.m.pushReady()
		r.confirm()
	}
}

// TestBudgets: what a device costs that has nothing waiting, and one that is attached besides.
func TestBudgets(t *testing.T) {
	if n := unsafe.Sizeof(queue{}); n > 256 {
		t.Errorf("a queue takes %d bytes", n)
	}
	if n := unsafe.Sizeof(attachment{}); n > 152 {
		t.Errorf("an attachment takes %d bytes", n)
	}
}

// TestHotPathAllocations: a stored message costs its record, everything else on the way of a message nothing.
func TestHotPathAllocations(t *testing.T) {
	r := newRig(t, DefaultConfig())
	r.attachAll()
	n := 0
	turn := func() {
		r.store(n, ciphertext)
		r.m.pushReady()
		r.ack(n)
		r.m.proposeAcks()
		r.confirm()
		n++
	}
	for range 20_000 {
		turn()
	}
	if allocs := testing.AllocsPerRun(5000, turn); allocs > 1.2 {
		t.Errorf("%.2f allocations for a message", allocs)
	}
}
