package gateway

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/config"
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

const testShards = 4

// patience is how long a test waits for what must happen; it decides nothing when the code is right.
const patience = time.Minute

// fakeClock moves only when told to.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// peer is a router or an offline that does what the test says. It grants its credits back at once, unless held.
type peer struct {
	t        testing.TB
	role     link.Role
	endpoint *link.Endpoint
	term     uint64
	got      chan link.Envelope

	mu     sync.Mutex
	stream *link.Stream
	hold   bool                                        // give no credits back
	auto   func(s *link.Stream, e *link.Envelope) bool // true: handled, not for the test
	seen   func(e *link.Envelope)                      // looks at everything, before auto
}

func newPeer(t testing.TB, role link.Role, credits int) *peer {
	p := &peer{t: t, role: role, term: 1, got: make(chan link.Envelope, 1<<16)}
	info := link.Info{Role: role, Node: uint64(role), Incarnation: 1, Shards: testShards, Cluster: "test"}
	p.endpoint = link.NewEndpoint(info, p, link.Options{Credits: credits})
	return p
}

func (p *peer) Up(s *link.Stream) {
	p.mu.Lock()
	p.stream = s
	p.mu.Unlock()
	p.hello(p.term)
}

func (p *peer) Down(*link.Stream, error) {}

func (p *peer) Receive(s *link.Stream, batch []link.Envelope) {
	for i := range batch {
		e := batch[i]
		p.mu.Lock()
		hold, auto, seen := p.hold, p.auto, p.seen
		p.mu.Unlock()
		if !hold {
			s.Done(e.Group, e.Size())
		}
		e.Payload = append([]byte(nil), e.Payload...)
		if seen != nil {
			seen(&e)
		}
		if auto == nil || !auto(s, &e) {
			p.got <- e
		}
	}
}

// tap has look see every envelope from now on.
func (p *peer) tap(look func(e *link.Envelope)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = look
}

// hello says that this peer leads all groups of its role.
func (p *peer) hello(term uint64) {
	p.term = term
	for shard := range testShards {
		g := stanza.DirGroup(shard)
		if p.role == link.RoleOffline {
			g = stanza.QueueGroup(shard)
		}
		p.send(link.Envelope{Kind: link.KindHello, Group: g, Term: term})
	}
}

func (p *peer) send(e link.Envelope) {
	p.t.Helper()
	p.mu.Lock()
	s := p.stream
	p.mu.Unlock()
	if err := s.Send(&e); err != nil {
		p.t.Errorf("%v send %v: %v", p.role, e.Kind, err)
	}
}

// want returns the next envelope, which must be of that kind.
func (p *peer) want(kind link.Kind) link.Envelope {
	p.t.Helper()
	select {
	case e := <-p.got:
		if e.Kind != kind {
			p.t.Fatalf("%v got %v (%+v), want %v", p.role, e.Kind, e, kind)
		}
		return e
	case <-time.After(patience):
		p.t.Fatalf("%v waited for %v", p.role, kind)
	}
	panic("unreachable")
}

// skipTo returns the next envelope of that kind and throws away what comes before it.
func (p *peer) skipTo(kind link.Kind) link.Envelope {
	p.t.Helper()
	for {
		select {
		case e := <-p.got:
			if e.Kind == kind {
				return e
			}
		case <-time.After(patience):
			p.t.Fatalf("%v waited for %v", p.role, kind)
		}
	}
}

type harness struct {
	t               testing.TB
	g               *Gateway
	clock           *fakeClock
	reg             *prometheus.Registry
	router, offline *peer
	cut             map[*peer]func() // ends a peer's link
	stop            func() error     // ends Run and returns what it returned
	ended           chan error       // what Run returned
	root            ed25519.PrivateKey
}

// start runs a gateway between a fake router and a fake offline. Time stands still until the test moves it.
func start(t testing.TB, change func(*Config)) *harness {
	t.Helper()
	return startAs(t, change, nil)
}

// startAs is start with other surroundings.
func startAs(t testing.TB, change func(*Config), surround func(*Deps)) *harness {
	t.Helper()
	h := begin(t, change, surround)
	h.until("ready", func() bool { ok, _ := h.g.Ready(); return ok })
	return h
}

// begin is startAs for a gateway that is not ready soon.
func begin(t testing.TB, change func(*Config), surround func(*Deps)) *harness {
	t.Helper()
	h := &harness{t: t, clock: &fakeClock{now: time.Unix(1_800_000_000, 0)}, reg: prometheus.NewRegistry(), cut: map[*peer]func(){}}
	cfg := DefaultConfig()
	cfg.Listen, cfg.Loops, cfg.SetProcs = "127.0.0.1:0", 2, false
	cfg.DrainTimeout = config.Duration(3 * time.Second)
	if change != nil {
		change(&cfg)
	}
	static, err := wire.GenerateKeypair(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, h.root, _ = ed25519.GenerateKey(nil)
	cert := wire.Certificate{Serial: 1, NotBefore: 0, NotAfter: 1 << 39, Cluster: "test"}
	copy(cert.Static[:], static.Public)
	deps := Deps{
		Node: 7, Incarnation: 8, Shards: testShards, Cluster: "test", Registerer: h.reg, Clock: h.clock.Now,
		Static: static, Cert: cert.Sign(h.root),
	}
	if surround != nil {
		surround(&deps)
	}
	h.g, err = New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	h.router, h.offline = newPeer(t, link.RoleRouter, 0), newPeer(t, link.RoleOffline, 0)
	h.router.auto = bindAll()
	h.connect(h.router)
	h.connect(h.offline)
	h.run()
	return h
}

func (h *harness) run() {
	ctx, cancel := context.WithCancel(context.Background())
	h.ended = make(chan error, 1)
	go func() { h.ended <- h.g.Run(ctx) }()
	var once sync.Once
	var result error
	h.stop = func() error {
		once.Do(func() {
			cancel()
			result = <-h.ended
		})
		return result
	}
	h.t.Cleanup(func() {
		if err := h.stop(); err != nil && !errors.Is(err, ErrHandedOver) {
			h.t.Errorf("Run: %v", err)
		}
		for _, cut := range h.cut {
			cut()
		}
	})
}

func (h *harness) connect(p *peer) {
	h.cut[p] = link.Connect(h.g.Endpoint(), p.endpoint)
}

// until looks until a condition holds that must come true by itself, on the gateway's own goroutines; it fails the test when that does
// not happen. The pause only yields the processor.
func (h *harness) until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) { // loops and sockets tell no test: they are asked again
		if time.Now().After(end) {
			h.t.Fatalf("waited for %s", what)
		}
	}
}

// bindAll answers binds with what they claim and registrations with accounts from 1 on, and swallows rebinding.
func bindAll() func(*link.Stream, *link.Envelope) bool {
	var mu sync.Mutex
	next, serial := stanza.Account(1), uint64(0)
	return func(s *link.Stream, e *link.Envelope) bool {
		mu.Lock()
		defer mu.Unlock()
		switch e.Kind {
		case link.KindBind:
		case link.KindRegister:
			e.Account, e.Device = next, 1
			next++
		case link.KindRebindDone:
			return true
		default:
			return false
		}
		serial++
		b := stanza.Bound{Account: e.Account, Device: e.Device, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 256 << 10}
		_ = s.Send(&link.Envelope{
			Kind: link.KindBound, Group: stanza.DirGroup(int(e.Account) % testShards), Slot: e.Slot, Gen: e.Gen, Account: e.Account,
			Device: e.Device, Serial: link.MakeFence(1, serial), Payload: boundPayload(&b),
		})
		return true
	}
}

// boundPayload is what a router sends with bound: the hash of the device's key and the stanza.
func boundPayload(b *stanza.Bound) []byte { return b.Append(make([]byte, wire.HashSize)) }

// buffered is how many bytes wait for the session in a slot.
func (h *harness) buffered(self uint32) int {
	n := make(chan int, 1)
	l := h.g.loops[self>>slotBits]
	h.onLoop(l, func() { n <- l.conn(self & slotMask).OutboundBuffered() })
	return <-n
}
