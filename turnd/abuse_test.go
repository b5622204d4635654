package turnd

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"linecard.example/internal/config"
)

// value reads a counter.
func value(c prometheus.Counter) float64 {
	var m dto.Metric
	_ = c.Write(&m)
	return m.Counter.GetValue()
}

// TestNoAmplification: what a source over UDP is answered before it is known is never more than it sent, and a small greeting.
func TestNoAmplification(t *testing.T) {
	cfg := testConfig()
	cfg.UDP = []string{"127.0.0.1:0"}
	cfg.Sockets, cfg.Greeting, cfg.Greetings = 1, 300, 1<<20
	s := start(t, cfg, Deps{})
	d := dial(t, s.Addrs("udp")[0], "", "")
	evil := [][]byte{
		d.build(allocateRequest, d.id(), wantUDP), d.build(refreshRequest, d.id(), nil),
		attr(begin(nil, bindingRequest, &[12]byte{}), 0x7fff), begin(nil, 0x0fe0&^classMask, &[12]byte{}),
	}
	sent, got := 0, 0
	begun := time.Now()
	for i := range 500 {
		p := evil[i%len(evil)]
		d.send(p)
		sent += len(p)
	}
	eventually(t, "all requests are counted", func() bool {
		return value(s.count.refusals[Unauthorized])+value(s.count.refusals[UnknownAttribute])+value(s.count.refusals[UnknownMethod]) == 500
	})
	d.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	buf := make([]byte, 2048)
	for {
		n, err := d.conn.Read(buf)
		if err != nil {
			break
		}
		got += n
	}
	greeting := 300 * (1 + int(time.Since(begun)/greetingTime) + 1)
	if got > sent+greeting || got < sent/2 {
		t.Errorf("%d bytes sent, %d answered", sent, got)
	}
}

// TestSecondTry: with no greeting at all a client has its answer at the second try, and none before it has paid for it.
func TestSecondTry(t *testing.T) {
	cfg := testConfig()
	cfg.Greeting = 0
	s := start(t, cfg, Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	first := d.build(allocateRequest, d.id(), wantUDP)
	d.send(first)
	eventually(t, "it is not answered", func() bool { return value(s.count.drops[Unpaid]) == 1 })
	m := d.ask(first)
	if m.errorCode != codeUnauthorized {
		t.Fatalf("code %d", m.errorCode)
	}
	d.nonce, d.realm = m.nonce, string(m.realm)
	d.allocate()
}

// TestSources: the account of a source, step by step.
func TestSources(t *testing.T) {
	now := int64(0)
	cfg := DefaultConfig()
	cfg.SourceRate, cfg.SourceBurst, cfg.Greeting, cfg.Greetings = 10, 20, 100, 150
	one, two, three := netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("1.2.3.5"), netip.MustParseAddr("2001:db8::1")
	s := newSources(cfg, func() int64 { return now })
	ask := func(what string, from netip.Addr, in, out int, proven bool, want Reason) {
		t.Helper()
		if got := s.request(from, in, out, proven); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	ask("greeting", one, 28, 60, false, OK)           // 68 left
	ask("greeting again", one, 28, 60, false, OK)     // 36
	ask("greeting once more", one, 28, 60, false, OK) // 4
	ask("used up", one, 28, 60, false, Unpaid)
	ask("paid by two requests", one, 28+8, 60, false, OK)
	ask("large requests pay", one, 200, 100, false, OK)
	ask("saved", one, 0, 100, false, OK)
	ask("and spent", one, 0, 60, false, Unpaid)
	ask("another source, from what all have left", two, 28, 80, false, OK) // 52 of 54 left
	ask("which is used up", three, 28, 60, false, Unpaid)
	ask("but a second try pays", three, 32, 60, false, OK)
	now += int64(10 * time.Second)
	ask("renewed", one, 28, 60, false, OK)
	ask("a connection's address is proven", three, 0, 9999, true, OK)
	for range 18 {
		ask("requests", three, 0, 0, true, OK)
	}
	now += int64(time.Second / 2)
	for range 6 {
		s.request(three, 0, 0, true)
	}
	ask("too many", three, 1000, 0, true, TooFast)
	ask("another's packets with its address are counted apart", three, 1000, 0, false, OK)
	if same := netip.MustParseAddr("2001:db8:0:1::2"); s.request(same, 1000, 0, true) != TooFast {
		t.Error("a neighbour in the same /56 has an account of its own")
	}
}

// TestSourcesBounded: sources that come once each do not make it remember more and more, and do not make it forget one that is used.
func TestSourcesBounded(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SourceRate, cfg.SourceBurst = 1e-9, 4
	s := newSources(cfg, func() int64 { return 0 })
	used := netip.MustParseAddr("9.9.9.9")
	for i := range 3 {
		if why := s.request(used, 0, 0, true); why != OK {
			t.Fatalf("request %d: %v", i, why)
		}
		for j := range maxSources - 10 {
			s.request(netip.AddrFrom4([4]byte{byte(10 + i), byte(j >> 16), byte(j >> 8), byte(j)}), 0, 0, true)
		}
	}
	if n := len(s.young) + len(s.old); n > 2*maxSources {
		t.Errorf("%d sources are remembered", n)
	}
	s.request(used, 0, 0, true)
	if why := s.request(used, 0, 0, true); why != TooFast {
		t.Errorf("a source that is used was forgotten: %v", why)
	}
}

// TestUnauthorizedFlood: wrong passwords are refused as often as a source may have an answer, then not answered; who has a nonce and the right
// password is served all the time.
func TestUnauthorizedFlood(t *testing.T) {
	cfg := testConfig()
	cfg.SourceRate, cfg.SourceBurst, cfg.Sockets = 1e-6, 50, 1
	s := start(t, cfg, Deps{})
	addr := s.Addrs("udp")[0]
	good, bad := dial(t, addr, "anna", "secret-a"), dial(t, addr, "anna", "wrong")
	good.allocate()
	bad.greet()
	for range 200 {
		bad.send(bad.build(refreshRequest, bad.id(), nil))
	}
	if code := good.request(refreshRequest, wantLifetime(600)); code != 0 {
		t.Errorf("Refresh in the flood: %d", code)
	}
	eventually(t, "the flood is counted", func() bool { return value(s.count.refusals[Unauthorized]) == 200+2 })
	if n := value(s.count.drops[TooFast]); n != 200+2-50 {
		t.Errorf("%v were not answered, want %d", n, 200+2-50)
	}
}

// TestNonces: a nonce is good for the address that it was made for, and for a time.
func TestNonces(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	n := newNonces(nonceLife, func() time.Time { return now })
	a, b := netip.MustParseAddrPort("1.2.3.4:5"), netip.MustParseAddrPort("1.2.3.4:6")
	nonce := n.append(nil, a)
	if len(nonce) != nonceSize {
		t.Errorf("a nonce has %d bytes", len(nonce))
	}
	if !n.valid(nonce, a) || n.valid(nonce, b) || n.valid(nonce[:nonceSize-1], a) || n.valid(append([]byte("!"), nonce[1:]...), a) {
		t.Error("a nonce is good where it should not be, or not where it should be")
	}
	now = now.Add(nonceLife - time.Second)
	if !n.valid(nonce, a) {
		t.Error("ended too early")
	}
	now = now.Add(time.Second)
	if n.valid(nonce, a) {
		t.Error("does not end")
	}
	if newNonces(nonceLife, func() time.Time { return now }).valid(n.append(nil, a), a) {
		t.Error("another process's nonce is good here")
	}
}

// TestStolenNonce: with a nonce of another address a client is told another one, with which it gets in.
func TestStolenNonce(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	a, b := dial(t, s.Addrs("udp")[0], "anna", "secret-a"), dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	a.greet()
	b.nonce, b.realm = a.nonce, a.realm
	m := b.ask(b.build(allocateRequest, b.id(), wantUDP))
	if m.errorCode != codeStaleNonce || m.nonce == nil {
		t.Fatalf("code %d, nonce %q", m.errorCode, m.nonce)
	}
	b.nonce = m.nonce
	b.allocate()
}

// TestBandwidth: an account's packets above its rate are dropped, in both directions together, and it may send again later.
func TestBandwidth(t *testing.T) {
	now := int64(0)
	var b bucket
	b.init(1000, now)
	for i, c := range []struct {
		wait time.Duration
		n    int
		ok   bool
	}{{0, 600, true}, {0, 400, true}, {0, 1, false}, {time.Second / 2, 500, true}, {0, 10, false}, {time.Hour, 1000, true}, {0, 1, false}} {
		now += int64(c.wait)
		if got := b.take(c.n, 1000, now); got != c.ok {
			t.Errorf("step %d: %v", i, got)
		}
	}
	cfg := testConfig()
	cfg.AccountRate = config.Size(64 << 10)
	s := start(t, cfg, Deps{})
	d, p := dial(t, s.Addrs("udp")[0], "anna", "secret-a"), newPeer(t)
	d.allocate()
	d.request(channelRequest, wantChannel(oneChan, p.addr()))
	for range 200 {
		d.send(channelData(oneChan, string(make([]byte, 1000))))
	}
	eventually(t, "packets are dropped", func() bool { return value(s.count.drops[Bandwidth]) > 0 })
}

// TestEmptyPackets: packets without payload are work too, and are taken from the account's rate.
func TestEmptyPackets(t *testing.T) {
	cfg := testConfig()
	cfg.AccountRate = minRate
	s := start(t, cfg, Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.allocate()
	a, n := s.fronts[0].table.get(d.client()), 0
	for now := s.now() + int64(time.Second); a.pay(0, now) && n < minRate; n++ {
	}
	if n != minRate/packetHeaders {
		t.Errorf("%d empty packets in a second", n)
	}
}

// TestAccountsForgotten: accounts without an allocation do not stay.
func TestAccountsForgotten(t *testing.T) {
	now := int64(0)
	cfg := DefaultConfig()
	cfg.Allocations = 1
	s := newAccounts(cfg, func() int64 { return now })
	s.request("stays")
	place, why := s.take("stays")
	if why != OK {
		t.Fatal(why)
	}
	if _, why := s.take("other"); why != NoPorts {
		t.Errorf("above the limit of all: %v", why)
	}
	for i := range 3 * maxIdleAccounts {
		now += int64(time.Millisecond)
		s.request(string(rune(i)) + "x")
	}
	if n := len(s.list); n > 2*maxIdleAccounts || s.list["stays"] != place {
		t.Errorf("%d accounts are remembered; the one in use: %v", n, s.list["stays"] == place)
	}
}

// TestNoPorts: when all ports are taken, a client is told, and has not lost its place.
func TestNoPorts(t *testing.T) {
	used := newPeer(t).addr().Port()
	cfg := testConfig()
	cfg.MinPort, cfg.MaxPort = int(used), int(used)
	s := start(t, cfg, Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.greet()
	if code := d.request(allocateRequest, wantUDP); code != codeCapacity {
		t.Errorf("Allocate: %d", code)
	}
	if n := s.Allocations(); n != 0 {
		t.Errorf("%d places are taken", n)
	}
}

// TestSlowReader: a client over TCP that takes in nothing is closed, and holds up nobody.
func TestSlowReader(t *testing.T) {
	cfg := allConfig(t)
	cfg.WriteTimeout = config.Duration(200 * time.Millisecond)
	s := start(t, cfg, Deps{})
	slow := connect(t, s, "tcp", "anna", "secret-a")
	slow.conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	relayed := slow.allocate()
	p := newPeer(t)
	slow.request(channelRequest, wantChannel(oneChan, p.addr()))
	quit := make(chan struct{})
	defer close(quit)
	go func() {
		payload := make([]byte, 1200)
		for {
			select {
			case <-quit:
				return
			case <-time.After(10 * time.Microsecond):
				p.conn.WriteToUDPAddrPort(payload, relayed)
			}
		}
	}()
	other := connect(t, s, "tcp", "bert", "secret-b")
	other.allocate()
	eventually(t, "the slow one is closed", func() bool { return s.Allocations() == 1 })
	if code := other.request(refreshRequest, wantLifetime(600)); code != 0 {
		t.Errorf("Refresh of the other: %d", code)
	}
}
