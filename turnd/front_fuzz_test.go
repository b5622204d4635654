package turnd

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v2"

	"linecard.example/internal/wire"
)

// world is a server with clients and peers that do what the bytes of a fuzzer say. Relays have no sockets: what they send is looked at, and
// what peers send is told them. Requests change things on pion's goroutine only, which settle waits for, so a script ends the same way
// each time.
type world struct {
	t      *testing.T
	s      *Server
	script []byte
	clock  time.Time
	users  [][2]string // names and passwords
	guests []*guest

	mu    sync.Mutex
	ports map[netip.AddrPort]*fakePort // open ones
	log   []string                     // what relays sent
}

// guest is a client, and the carrier of what it is sent.
type guest struct {
	w      *world
	f      *front
	addr   netip.AddrPort
	framed bool

	mu       sync.Mutex
	over     bool
	nonce    []byte
	token    []byte
	sent     int                  // bytes
	answered int                  // bytes of answers to it as a stranger
	asked    []byte               // the last request
	grants   map[netip.Addr]int64 // peers' addresses, and until when at most
}

// fakePort is a relay's socket.
type fakePort struct {
	w       *world
	at      netip.AddrPort
	once    sync.Once
	closed  chan struct{}
	started chan *relay // by pion's reader
	relayed *relay
}

// What scripts find. No two guests have one source, so that a source's bytes are a guest's.
const (
	fuzzAllocations = 5
	fuzzEach        = 3
	fuzzGreeting    = 256
	fuzzMinPort     = 20000
	fuzzMaxPort     = 20003 // they run out
	longestStranger = 120   // bytes of an answer to one
)

var (
	fuzzRelay    = netip.MustParseAddr("127.0.0.1")
	fuzzExternal = netip.MustParseAddr("8.8.4.4")
	fuzzDenied   = netip.MustParsePrefix("9.9.9.0/24")
	fuzzAllowed  = netip.MustParsePrefix("10.7.0.0/16")
	fuzzCarriers = netip.MustParsePrefix("100.64.0.0/10")
	fuzzGuests   = []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.2:1000"), netip.MustParseAddrPort("[2001:db8::1]:1000"),
		netip.MustParseAddrPort("192.0.2.4:1000"), // over TCP
	}
	fuzzPeers = []netip.AddrPort{
		netip.MustParseAddrPort("1.1.1.1:5000"), netip.MustParseAddrPort("1.1.1.1:5001"), netip.MustParseAddrPort("10.7.1.1:9"),
		netip.MustParseAddrPort("8.8.4.4:20000"), netip.MustParseAddrPort("127.0.0.1:20001"), // relays
		netip.MustParseAddrPort("9.9.9.9:53"), netip.MustParseAddrPort("127.0.0.1:22"), netip.MustParseAddrPort("8.8.4.4:22"),
		netip.MustParseAddrPort("[::ffff:10.0.0.1]:5"), netip.MustParseAddrPort("[2606:4700::1]:5"), netip.MustParseAddrPort("0.0.0.0:7"),
		netip.MustParseAddrPort("255.255.255.255:7"), netip.MustParseAddrPort("1.1.1.2:0"), netip.MustParseAddrPort("169.254.169.254:80"),
		netip.MustParseAddrPort("100.100.100.200:80"), netip.MustParseAddrPort("[64:ff9b::a00:1]:5"), netip.MustParseAddrPort("[2002:a00:1::]:5"),
	}
)

// newWorld runs a server until the test ends.
func newWorld(t *testing.T, script []byte) *world {
	w := &world{t: t, script: script, clock: time.Unix(1_700_000_000, 0), ports: map[netip.AddrPort]*fakePort{}}
	cfg := testConfig()
	cfg.TCP, cfg.Batches, cfg.Sockets = []string{"127.0.0.1:0"}, false, 1
	cfg.RelayAddress, cfg.ExternalAddress = fuzzRelay.String(), fuzzExternal.String()
	cfg.MinPort, cfg.MaxPort = fuzzMinPort, fuzzMaxPort
	cfg.AllowPeers, cfg.DenyPeers = []string{fuzzAllowed.String()}, []string{fuzzDenied.String()}
	cfg.Allocations, cfg.AccountAllocations = fuzzAllocations, fuzzEach
	cfg.Greeting, cfg.SourceRate, cfg.SourceBurst = fuzzGreeting, 1, 40
	s, err := New(cfg, Deps{Clock: func() time.Time { return w.clock }})
	if err != nil {
		t.Fatal(err)
	}
	w.s, s.open = s, w.openPort
	s.SetSecrets([]wire.RelaySecret{secret(1)})
	w.users = [][2]string{{"anna", "secret-a"}, {"bert", "secret-b"}, {"anna", "wrong"}, {"nobody", ""}}
	for _, d := range []time.Duration{time.Hour, 2 * time.Hour, -time.Hour, 48 * time.Hour} {
		name, password := credential(1, "7", w.clock.Add(d).Unix())
		w.users = append(w.users, [2]string{name, password})
	}
	for _, addr := range fuzzGuests {
		w.guests = append(w.guests, &guest{w: w, f: s.fronts[0], addr: addr, grants: map[netip.Addr]int64{}})
	}
	last := w.guests[len(w.guests)-1]
	last.f, last.framed = s.fronts[1], true
	t.Cleanup(func() { // after the end of Run
		if len(w.ports) != 0 {
			t.Errorf("%d ports are left", len(w.ports))
		}
	})
	run(t, s)
	return w
}

func (w *world) openPort(_ carrier, at netip.AddrPort) (port, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ports[at] != nil || at.Addr() != fuzzRelay || at.Port() < fuzzMinPort || at.Port() > fuzzMaxPort {
		return nil, errNoPort
	}
	p := &fakePort{w: w, at: at, closed: make(chan struct{}), started: make(chan *relay, 1)}
	w.ports[at] = p
	return p, nil
}

func (p *fakePort) local() netip.AddrPort { return p.at }

func (p *fakePort) relay(r *relay) error {
	p.started <- r
	<-p.closed
	return net.ErrClosed
}

func (p *fakePort) close() {
	p.once.Do(func() {
		close(p.closed)
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		delete(p.w.ports, p.at)
	})
}

// send looks whether a packet may go there, by what the standard library and the last answers say; to another relay it goes.
func (p *fakePort) send(b []byte, to netip.AddrPort) error {
	t, ip := p.w.t, to.Addr()
	inside := ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || fuzzCarriers.Contains(ip) ||
		ip.As4()[0] >= 224 || ip.As4()[0] == 0
	other := ip == fuzzRelay && to.Port() >= fuzzMinPort && to.Port() <= fuzzMaxPort
	if to.Port() == 0 || fuzzDenied.Contains(ip) || ip == fuzzExternal || inside && !other && !fuzzAllowed.Contains(ip) {
		t.Fatalf("a packet to %v", to)
	}
	a := p.relayed.owner
	for _, g := range p.w.guests {
		if g.f == a.front && g.addr == a.client && g.grants[ip] < p.w.s.now() {
			t.Fatalf("a packet to %v, for which %v has nothing", to, g.addr)
		}
	}
	p.w.mu.Lock()
	p.w.log = append(p.w.log, to.String()+" "+string(b))
	next := p.w.ports[to]
	p.w.mu.Unlock()
	if next != nil && next.relayed != nil {
		next.receive(p.at, b)
	}
	return nil
}

// receive has a relay handle a packet.
func (p *fakePort) receive(from netip.AddrPort, payload []byte) {
	b := make([]byte, headroom, headroom+len(payload)+4)
	p.relayed.fromPeer(append(b, payload...), from)
}

func (g *guest) gone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.over
}

func (g *guest) stream() bool { return g.framed }

// deliver is for what peers sent.
func (g *guest) deliver(b []byte, to netip.AddrPort) error {
	if to != g.addr || g.f.table.get(to) == nil {
		g.w.t.Errorf("%v is delivered what is for %v", g.addr, to)
	}
	if n, err := frame(b); g.framed && (n != len(b) || err != nil) {
		g.w.t.Errorf("%x is no message of a stream", b)
	}
	m := &stun.Message{Raw: b}
	if b[0]>>6 != 1 && (m.Decode() != nil || msgType(m.Type.Value()) != dataIndication) {
		g.w.t.Errorf("%x is delivered", b)
	}
	return nil
}

// post is for answers.
func (g *guest) post(b []byte, to netip.AddrPort) error {
	var m message
	if to != g.addr || !m.parse(b) || m.typ&classMask != classSuccess && m.typ&classMask != classError {
		g.w.t.Errorf("%v is answered %x to %v", g.addr, b, to)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.integrity == 0 {
		g.answered += len(b)
		if len(b) > longestStranger || !g.framed && g.answered > g.sent+2*fuzzGreeting { // one of them renewed
			g.w.t.Errorf("%v sent %d bytes, and is answered %d, the last time %d", g.addr, g.sent, g.answered, len(b))
		}
	}
	if m.nonce != nil {
		g.nonce = append([]byte(nil), m.nonce...)
	}
	if m.reservation != nil {
		g.token = append([]byte(nil), m.reservation...)
	}
	g.learn(&m)
	return nil
}

// learn keeps which peers an answer allows, by pion's reading of the request.
func (g *guest) learn(m *message) {
	asked := &stun.Message{Raw: g.asked}
	if m.typ == allocateRequest.success() {
		g.grants = map[netip.Addr]int64{}
	}
	if m.typ != permissionRequest.success() && m.typ != channelRequest.success() || asked.Decode() != nil || asked.TransactionID != m.id {
		return
	}
	end := slices.IndexFunc(asked.Attributes, func(a stun.RawAttribute) bool { return a.Type == stun.AttrMessageIntegrity })
	asked.Attributes = asked.Attributes[:max(end, 0)] // what follows the integrity is nobody's
	for i, a := range peersOf(asked) {
		if !a.IsValid() {
			var ours message
			_ = ours.parse(g.asked)
			a = ours.peers[i]
		}
		ip := a.Addr()
		if ip == fuzzExternal {
			ip = fuzzRelay
		}
		g.grants[ip] = g.w.s.now() + int64(channelLife)
	}
}

// packet is one from a guest.
func (g *guest) packet(b []byte) {
	g.mu.Lock()
	g.sent += len(b)
	g.asked = b
	g.mu.Unlock()
	g.f.packet(b, g.addr, g)
}

// wave is the carrier of a request that is refused when all before it is done.
type wave chan struct{}

func (c wave) deliver([]byte, netip.AddrPort) error { return nil }
func (c wave) post([]byte, netip.AddrPort) error    { close(c); return nil }
func (c wave) gone() bool                           { return false }
func (c wave) stream() bool                         { return false }

// settle waits until pion has done all requests, and reads from the relays that there are.
func (w *world) settle() {
	for _, f := range w.s.fronts {
		done := make(wave)
		f.queue <- &request{message: message{typ: refreshRequest}, client: netip.MustParseAddrPort("192.0.2.99:9"), via: done, key: []byte("key")}
		select {
		case <-done:
		case <-time.After(patience):
			w.t.Fatal("pion does no more requests")
		}
		for _, a := range f.table.all() {
			if p := a.relay.sock.(*fakePort); p.relayed == nil {
				p.relayed = <-p.started
			}
		}
	}
}

// check is what holds after each step.
func (w *world) check() {
	if places, open := w.s.Allocations(), w.open(); places > fuzzAllocations || places != open {
		w.t.Fatalf("%d places are taken, %d ports open", places, open)
	}
	held := map[string]int{}
	for _, f := range w.s.fronts {
		for _, a := range f.table.all() {
			list := a.peers.Load()
			if held[a.owner.name]++; held[a.owner.name] > fuzzEach || len(list.permits) > maxPermissions || len(list.channels) > maxChannels {
				w.t.Fatalf("%s has %d allocations, this one %d permissions and %d channels", a.owner.name, held[a.owner.name], len(list.permits), len(list.channels))
			}
		}
	}
}

// end is the end of a guest's connection.
func (w *world) end(g *guest) {
	if a := g.f.table.get(g.addr); a != nil {
		a.end(PeerClosed)
		eventually(w.t, "pion's reader ends the allocation", func() bool { return g.f.table.get(g.addr) == nil && w.s.Allocations() == w.open() })
	}
}

func (w *world) open() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ports)
}

// pass lets time pass, for credentials, nonces and tables; pion's timers do not notice.
func (w *world) pass(d time.Duration) {
	w.clock = w.clock.Add(d)
	w.s.start = w.s.start.Add(-d)
}

// byte takes one of the script.
func (w *world) byte() byte {
	if len(w.script) == 0 {
		return 0
	}
	b := w.script[0]
	w.script = w.script[1:]
	return b
}

// chunk takes a length and as many bytes.
func (w *world) chunk() []byte {
	n := min(int(binary.BigEndian.Uint16([]byte{w.byte(), w.byte()})), len(w.script))
	b := w.script[:n:n]
	w.script = w.script[n:]
	return b
}
