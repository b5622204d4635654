package offline

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// fakeRaft commits what is proposed when it is told to.
type fakeRaft struct {
	h       *harness
	m       *group
	queue   []fakeProposal
	index   uint64
	refuse  bool          // take no proposals
	full    bool          // the disk is below its floor
	hold    bool          // leave proposals in flight
	outcome shard.Outcome // of the next run
	ahead   time.Duration // stamps of the wall clock
}

type fakeProposal struct {
	cmd []byte
	p   proposal
}

func (r *fakeRaft) Propose(cmd []byte, p proposal) bool {
	if r.refuse {
		return false
	}
	r.queue = append(r.queue, fakeProposal{append([]byte(nil), cmd...), p})
	return true
}
func (r *fakeRaft) ProposeLazy(cmd []byte, p proposal) bool { return r.Propose(cmd, p) }
func (r *fakeRaft) StorageFull() bool                       { return r.full }
func (r *fakeRaft) Stamp() int64                            { return r.h.now.Add(r.ahead).UnixMilli() }
func (r *fakeRaft) Wake()                                   { r.h.notify() }

func (r *fakeRaft) run() bool {
	if r.hold || len(r.queue) == 0 {
		return false
	}
	queue := r.queue
	r.queue = nil
	for _, p := range queue {
		var res result
		if r.outcome == shard.Committed {
			r.index++
			res = r.m.Apply(shard.Entry{Index: r.index, Stamp: r.Stamp(), Cmd: p.cmd})
		}
		r.m.Done(p.p, r.outcome, res)
	}
	r.m.Turn()
	return true
}

// harness is an offline daemon without raft, and peers on real in-process links. Its groups run on the test's goroutine.
type harness struct {
	t     *testing.T
	now   time.Time
	o     *Offline
	rafts []*fakeRaft
	woken chan struct{}

	mayFail bool
	failure error // what stopped the host
}

// mustNotFail is the failure of a host in tests that expect none.
func mustNotFail(err error) { panic(err) }

// failed stops the host.
func (h *harness) failed(err error) {
	if !h.mayFail {
		mustNotFail(err)
	}
	h.failure = err
}

func newHarness(t *testing.T, shards int, change func(*Config)) *harness {
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	h := &harness{t: t, now: time.UnixMilli(1_700_000_000_000), woken: make(chan struct{}, 1)}
	log := slog.New(slog.DiscardHandler)
	h.o = &Offline{peers: newPeers(), groups: map[stanza.Group]*served{}, log: log}
	count := newCounters(nil)
	for n := range shards {
		id := stanza.QueueGroup(n)
		m := newGroup(cfg, id, shards, 0, h.o.peers, count, log, h.failed)
		if err := m.loadFrom(newMemTables()); err != nil {
			t.Fatal(err)
		}
		s := &served{group: m}
		h.o.groups[id] = s
		h.o.order = append(h.o.order, s)
		r := &fakeRaft{h: h, m: m}
		h.rafts = append(h.rafts, r)
		m.bind(r, nil)
		m.Tick(h.now)
		m.Lead(1)
		m.Turn()
	}
	h.o.ep = link.NewEndpoint(link.Info{Role: link.RoleOffline, Node: 50, Incarnation: 1, Shards: shards, Cluster: "c"}, h.o, link.Options{})
	return h
}

func (h *harness) m() *group { return h.o.order[0].group }

func (h *harness) notify() {
	select {
	case h.woken <- struct{}{}:
	default:
	}
}

// drive runs the groups until nothing is left to do at once.
func (h *harness) drive() {
	for busy := true; busy; {
		busy = false
		for _, r := range h.rafts {
			r.m.Turn()
			busy = r.run() || busy
		}
	}
}

// tick lets time pass in ticks of 50 ms.
func (h *harness) tick(d time.Duration) {
	for end := h.now.Add(d); h.now.Before(end); {
		h.now = h.now.Add(50 * time.Millisecond)
		for _, s := range h.o.order {
			s.Tick(h.now)
		}
		h.drive()
	}
}

// until drives until cond holds.
func (h *harness) until(what string, cond func() bool) {
	h.t.Helper()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	look := time.NewTicker(5 * time.Millisecond) // not everything wakes a group
	defer look.Stop()
	for {
		h.drive()
		if cond() {
			return
		}
		select {
		case <-h.woken:
		case <-look.C:
		case <-limit.C:
			h.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// peer is a gateway or router.
type peer struct {
	h    *harness
	ep   *link.Endpoint
	id   link.GatewayID
	stop func()

	mu     sync.Mutex
	stream *link.Stream
	got    []link.Envelope
	held   bool // give no credit back
}

func (h *harness) peer(role link.Role, node uint64, credits int) *peer {
	p := &peer{h: h, id: link.GatewayID{Node: node, Incarnation: 9}}
	p.ep = link.NewEndpoint(link.Info{Role: role, Node: node, Incarnation: 9, Shards: len(h.rafts), Cluster: "c"}, p, link.Options{Credits: credits})
	p.connect()
	return p
}

func (p *peer) connect() {
	p.stop = link.Connect(p.ep, p.h.o.ep)
	p.h.t.Cleanup(p.stop)
}

func (p *peer) Up(s *link.Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stream = s
}

func (p *peer) Receive(s *link.Stream, batch []link.Envelope) {
	p.mu.Lock()
	for i := range batch {
		e := batch[i]
		e.Payload = append([]byte(nil), e.Payload...)
		p.got = append(p.got, e)
		if !p.held {
			s.Done(e.Group, e.Size())
		}
	}
	p.mu.Unlock()
	p.h.notify()
}

func (p *peer) Down(*link.Stream, error) {}

func (p *peer) send(e link.Envelope) {
	p.h.t.Helper()
	if err := p.stream.Send(&e); err != nil {
		p.h.t.Fatal(err)
	}
}

// take waits for the next envelope of a kind and removes it.
func (p *peer) take(k link.Kind) (e link.Envelope) {
	p.h.t.Helper()
	p.h.until(k.String(), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := range p.got {
			if p.got[i].Kind == k {
				e = p.got[i]
				p.got = append(p.got[:i], p.got[i+1:]...)
				return true
			}
		}
		return false
	})
	return e
}

// count returns how many envelopes of a kind are there. It first waits for the answer to a message of its own, which the stream's
// order puts behind everything that was sent before.
func (p *peer) count(k link.Kind) (n int) {
	p.h.t.Helper()
	p.fence()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.got {
		if p.got[i].Kind == k {
			n++
		}
	}
	return n
}

const fenceAccount = 999_984

func (p *peer) fence() {
	p.h.t.Helper()
	p.fenceOnce()
	p.fenceOnce() // the first is answered before the pushes of its turn
}

func (p *peer) fenceOnce() {
	p.h.t.Helper()
	if p.ep.Info().Role == link.RoleRouter {
		p.send(link.Envelope{Kind: link.KindDropQueue, Group: p.h.m().id, Account: fenceAccount, Device: 1})
		p.take(link.KindQueueDropped)
		return
	}
	for _, s := range p.h.o.order {
		p.send(link.Envelope{Kind: link.KindStore, Group: s.id, Gateway: p.id, ID: fenceAccount, Charge: 1})
	}
	for left := len(p.h.o.order); left > 0; {
		if e := p.take(link.KindRefused); e.ID == fenceAccount {
			left--
		}
	}
}

// store sends a message as a router would.
func (p *peer) store(from stanza.Account, dev stanza.Device, id, after uint64, to stanza.Account, devices ...stanza.Device) {
	p.h.t.Helper()
	s := stanza.MessageUp{ID: id, After: after, Account: to, Version: 1, Body: body(devices...)}
	p.storeStanza(from, dev, id, to, s.Append(nil))
}

func (p *peer) storeStanza(from stanza.Account, dev stanza.Device, id uint64, to stanza.Account, raw []byte) {
	p.h.t.Helper()
	p.send(link.Envelope{
		Kind: link.KindStore, Group: stanza.QueueGroup(stanza.ShardOf(to, len(p.h.rafts))), Gateway: p.id, Slot: 5, Gen: 6,
		Account: from, Device: dev, ID: id, Charge: 100, Payload: raw,
	})
}

func (p *peer) attach(k link.Kind, a stanza.Account, d stanza.Device, slot uint32, serial link.Fence) {
	p.h.t.Helper()
	p.send(link.Envelope{
		Kind: k, Group: stanza.QueueGroup(stanza.ShardOf(a, len(p.h.rafts))), Gateway: p.id, Account: a, Device: d,
		Slot: slot, Gen: 1, Serial: serial,
	})
}

// answer sends a delivery ack or expect for the attachment that e was delivered to.
func (p *peer) answer(k link.Kind, e link.Envelope, number uint64) {
	p.h.t.Helper()
	p.send(link.Envelope{
		Kind: k, Group: e.Group, Account: e.Account, Device: e.Device, Slot: e.Slot, Gen: e.Gen, Epoch: e.Epoch, ID: number,
	})
}

// refused takes a refusal and reads its stanza.
func (p *peer) refused() stanza.Refused {
	p.h.t.Helper()
	e := p.take(link.KindRefused)
	v, _, err := stanza.Decode(e.Payload)
	if err != nil {
		p.h.t.Fatal(err)
	}
	s, err := stanza.ParseRefused(v)
	if err != nil || s.ID != e.ID || s.Reason != e.Reason {
		p.h.t.Fatalf("refused %+v in %+v: %v", s, e, err)
	}
	return s
}

// delivered takes a delivery and reads its message's id.
func (p *peer) delivered() (e link.Envelope, id uint64) {
	p.h.t.Helper()
	e = p.take(link.KindDeliver)
	v, _, err := stanza.Decode(e.Payload)
	if err != nil {
		p.h.t.Fatal(err)
	}
	if v.Tag != stanza.TagMessage {
		return e, 0
	}
	s, err := stanza.ParseMessageDown(v)
	if err != nil {
		p.h.t.Fatal(err)
	}
	return e, s.ID
}

// attached returns the attachment of a device, nil if there is none: a copy if it is asleep.
func (h *harness) attached(k queueKey) *attachment {
	m := h.m()
	if q := m.queues[k]; q != nil && q.att != nil {
		return q.att
	}
	if s := m.asleep.get(k); s != nil {
		return &attachment{gw: m.asleep.at(s), slot: s.slot, gen: s.gen, serial: s.serial, epoch: s.epoch, acked: uint64(s.acked)}
	}
	return nil
}
