package turnd

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/config"
)

// TestRelay: the whole way once: allocation, permission, Send and Data, channel, refresh, release.
func TestRelay(t *testing.T) {
	for _, batches := range []bool{true, false} {
		cfg := testConfig()
		cfg.Batches = batches
		relayOnce(t, start(t, cfg, Deps{}))
	}
}

func relayOnce(t *testing.T, s *Server) {
	t.Helper()
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	p := newPeer(t)
	relayed := d.allocate()
	if code := d.request(permissionRequest, wantPeers(p.addr())); code != 0 {
		t.Fatalf("CreatePermission: %d", code)
	}
	d.send(d.indication(p.addr(), "hello"))
	if got, from := p.receive(); got != "hello" || from != relayed {
		t.Fatalf("the peer got %q from %v, want it from %v", got, from, relayed)
	}
	p.send("answer", relayed)
	var m message
	if in := d.receive(); !m.parse(in) || m.typ != dataIndication || string(m.data) != "answer" || m.peers[0] != p.addr() {
		t.Fatalf("the client got %x", in)
	}
	if code := d.request(channelRequest, wantChannel(0x4001, p.addr())); code != 0 {
		t.Fatalf("ChannelBind: %d", code)
	}
	d.send(channelData(0x4001, "by channel"))
	if got, _ := p.receive(); got != "by channel" {
		t.Fatalf("the peer got %q", got)
	}
	p.send("back by channel", relayed)
	if in := d.receive(); string(in) != string(channelData(0x4001, "back by channel")) {
		t.Fatalf("the client got %x", in)
	}
	if code := d.request(refreshRequest, wantLifetime(300)); code != 0 {
		t.Fatalf("Refresh: %d", code)
	}
	if code := d.request(refreshRequest, wantLifetime(0)); code != 0 {
		t.Fatalf("Refresh to 0: %d", code)
	}
	if n := s.Allocations(); n != 0 {
		t.Fatalf("%d allocations after the release", n)
	}
}

// TestReleaseAndAllocate: an allocation that was released does not take the next one of the same 5-tuple with it.
func TestReleaseAndAllocate(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	for i := range 200 {
		d.allocate()
		if code := d.request(refreshRequest, wantLifetime(600)); code != 0 {
			t.Fatalf("round %d: the new allocation is gone: %d", i, code)
		}
		if code := d.request(refreshRequest, wantLifetime(0)); code != 0 {
			t.Fatalf("round %d: release: %d", i, code)
		}
	}
}

// TestPermissions: what a peer without a permission sends does not reach the client.
func TestPermissions(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	d, p := dial(t, s.Addrs("udp")[0], "anna", "secret-a"), newPeer(t)
	relayed := d.allocate()
	if code := d.request(permissionRequest, wantPeers(netip.MustParseAddrPort("127.0.0.2:5000"))); code != 0 {
		t.Fatal(code)
	}
	p.send("evil", relayed)
	eventually(t, "it is dropped", func() bool { return value(s.count.drops[NoPermission]) == 1 })
	if code := d.request(permissionRequest, wantPeers(p.addr())); code != 0 {
		t.Fatal(code)
	}
	p.send("good", relayed)
	var m message
	if in := d.receive(); !m.parse(in) || string(m.data) != "good" {
		t.Errorf("the client got %x", in)
	}
}

// TestPeersExpire: permissions last five minutes, channels ten.
func TestPeersExpire(t *testing.T) {
	one, two := netip.MustParseAddrPort("1.1.1.1:1"), netip.MustParseAddrPort("2.2.2.2:2")
	p := (&peers{}).with(0, []netip.Addr{one.Addr()}, channel{peer: one, number: oneChan, expires: int64(channelLife)})
	p = p.with(int64(time.Minute), []netip.Addr{two.Addr()}, channel{})
	for _, c := range []struct {
		at            time.Duration
		one, two, has bool
	}{
		{0, true, true, true}, {permissionLife - 1, true, true, true}, {permissionLife, false, true, true},
		{permissionLife + time.Minute, false, false, true}, {channelLife - 1, false, false, true}, {channelLife, false, false, false},
	} {
		now := int64(c.at)
		_, byNumber := p.byNumber(oneChan, now)
		_, byPeer := p.byPeer(one, now)
		if p.permitted(one.Addr(), now) != c.one || p.permitted(two.Addr(), now) != c.two || byNumber != c.has || byPeer != c.has {
			t.Errorf("after %v: %v, %v, %v, %v", c.at, p.permitted(one.Addr(), now), p.permitted(two.Addr(), now), byNumber, byPeer)
		}
	}
	if q := p.with(int64(channelLife), nil, channel{}); len(q.permits)+len(q.channels) != 0 {
		t.Errorf("%d permissions and %d channels are kept after their end", len(q.permits), len(q.channels))
	}
}

// TestChannels: a channel and a peer belong to each other until they expire; the same again is a refresh.
func TestChannels(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.allocate()
	other := netip.AddrPortFrom(goodPeer.Addr(), goodPeer.Port()+1)
	for i, c := range []struct {
		number uint16
		peer   netip.AddrPort
		want   int
	}{
		{oneChan, goodPeer, 0}, {oneChan, goodPeer, 0}, {oneChan, other, codeBadRequest}, {oneChan + 1, goodPeer, codeBadRequest},
		{oneChan + 1, other, 0}, {maxChannel + 1, other, codeBadRequest}, {minChannel - 1, other, codeBadRequest},
		{oneChan + 2, netip.MustParseAddrPort("[2001:db8::1]:5"), codePeerFamily},
	} {
		if code := d.request(channelRequest, wantChannel(c.number, c.peer)); code != c.want {
			t.Errorf("step %d: %d, want %d", i, code, c.want)
		}
	}
	if n := value(s.count.refusals[ChannelTaken]); n != 2 {
		t.Errorf("%v times the channel was taken", n)
	}
	for i := range maxChannels {
		d.request(channelRequest, wantChannel(oneChan+10+uint16(i), netip.AddrPortFrom(goodPeer.Addr(), 6000+uint16(i))))
	}
	if n := value(s.count.refusals[TooManyPeers]); n != 2 {
		t.Errorf("%v channels above the limit were refused, want 2", n)
	}
}

// TestAllocateTwice: a second Allocate is another client's mistake or another user's try.
func TestAllocateTwice(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	relayed := d.allocate()
	again := d.build(allocateRequest, [12]byte{11: byte(d.n)}, wantUDP) // the same transaction: its answer was lost
	if m := d.ask(again); m.relayed != relayed {
		t.Errorf("the same request again: code %d, %v", m.errorCode, m.relayed)
	}
	if code := d.request(allocateRequest, wantUDP); code != codeMismatch {
		t.Errorf("another request: %d", code)
	}
	d.user, d.password = "bert", "secret-b"
	if code := d.request(allocateRequest, wantUDP); code != codeWrongCredentials {
		t.Errorf("another user: %d", code)
	}
}

// ghost is a connection that ended while its client's request waited.
type ghost struct{}

func (ghost) deliver([]byte, netip.AddrPort) error { return net.ErrClosed }
func (ghost) post([]byte, netip.AddrPort) error    { return net.ErrClosed }
func (ghost) gone() bool                           { return true }
func (ghost) stream() bool                         { return true }

// TestGone: an allocation whose connection has ended before it was made does not stay.
func TestGone(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	client := netip.MustParseAddrPort("192.0.2.1:1000")
	d := &device{t: t, user: "anna", password: "secret-a", realm: "linecard", nonce: s.nonces.append(nil, client)}
	s.fronts[0].packet(d.build(allocateRequest, d.id(), wantUDP), client, ghost{})
	eventually(t, "the allocation is made", func() bool { return value(s.count.requests[allocateRequest]) == 1 })
	eventually(t, "the allocation ends", func() bool { return s.Allocations() == 0 })
}

// TestPionNonce: pion's nonce may be too old whenever a request comes, after a quiet hour or when the clock was set: the client does not learn of it.
func TestPionNonce(t *testing.T) {
	s, err := New(testConfig(), Deps{})
	if err != nil {
		t.Fatal(err)
	}
	made := uint64(time.Now().Add(-2 * time.Hour).UnixMilli()) // as pion makes them
	s.fronts[0].nonce = []byte(hex.EncodeToString(append(binary.BigEndian.AppendUint64(nil, made), make([]byte, 32)...)))
	run(t, s)
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.allocate()
	if code := d.request(refreshRequest, wantLifetime(600)); code != 0 {
		t.Errorf("Refresh: %d", code)
	}
}

// TestDontFragment: DONT-FRAGMENT is not offered, so it is an attribute that must be understood and is not: requests are told so, and a Send indication
// with it is dropped (RFC 5766 10.2, RFC 5389 7.3).
func TestDontFragment(t *testing.T) {
	const dontFragment = 0x001A
	s := start(t, testConfig(), Deps{})
	d, p := dial(t, s.Addrs("udp")[0], "anna", "secret-a"), newPeer(t)
	d.greet()
	with := func(add func([]byte, *[12]byte) []byte) func([]byte, *[12]byte) []byte {
		return func(b []byte, id *[12]byte) []byte { return attr(add(b, id), dontFragment) }
	}
	if code := d.request(allocateRequest, with(wantUDP)); code != codeUnknownAttribute {
		t.Errorf("Allocate: %d", code)
	}
	d.allocate()
	if code := d.request(refreshRequest, with(wantLifetime(600))); code != codeUnknownAttribute {
		t.Errorf("Refresh: %d", code)
	}
	d.request(permissionRequest, wantPeers(p.addr()))
	d.send(attr(d.indication(p.addr(), "whole"), dontFragment))
	d.send(d.indication(p.addr(), "either way"))
	if got, _ := p.receive(); got != "either way" {
		t.Errorf("the peer got %q", got)
	}
}

// TestChannelOutlivesPermission: a channel lasts ten minutes and its permission five. In between the client may send and the peer may not.
func TestChannelOutlivesPermission(t *testing.T) {
	for _, batches := range []bool{true, false} {
		cfg := testConfig()
		cfg.Batches = batches
		s := start(t, cfg, Deps{})
		d, p := dial(t, s.Addrs("udp")[0], "anna", "secret-a"), newPeer(t)
		relayed := d.allocate()
		d.request(channelRequest, wantChannel(oneChan, p.addr()))
		a := s.fronts[0].table.get(d.client())
		a.peers.Store(&peers{channels: a.peers.Load().channels})
		p.send("too late", relayed)
		eventually(t, "it is dropped", func() bool { return value(s.count.drops[NoPermission]) == 1 })
		d.send(channelData(oneChan, "still"))
		if got, _ := p.receive(); got != "still" {
			t.Errorf("batches %v: the peer got %q", batches, got)
		}
		d.request(channelRequest, wantChannel(oneChan, p.addr()))
		p.send("again", relayed)
		if got := d.receive(); string(got) != string(channelData(oneChan, "again")) {
			t.Errorf("batches %v: the client got %x", batches, got)
		}
	}
}

// TestEndedBeforeLearnt: an allocation whose relay failed before pion had answered is refused, and is in no table for ever.
func TestEndedBeforeLearnt(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	f := s.fronts[0]
	a := &allocation{front: f, client: netip.MustParseAddrPort("192.0.2.1:1000")}
	f.table.drop(a)
	if f.learn(&request{message: message{typ: allocateRequest}, client: a.client, made: a, via: ghost{}}) {
		t.Error("it is granted")
	}
	if f.table.get(a.client) != nil {
		t.Error("it is in the table")
	}
}

// TestFingerprint: an answer has a fingerprint if its request had one.
func TestFingerprint(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.greet()
	for i, b := range [][]byte{
		d.build(allocateRequest, d.id(), wantPair), d.build(refreshRequest, d.id(), wantLifetime(600)), d.build(channelRequest, d.id(), nil),
		begin(nil, bindingRequest, &[12]byte{}),
	} {
		if m := d.ask(b); m.fingerprint {
			t.Errorf("request %d: a fingerprint that was not asked for", i)
		}
		if m := d.ask(stamp(b)); !m.fingerprint {
			t.Errorf("request %d: no fingerprint", i)
		}
	}
}

// TestForeign: what looks like a request and has a wrong fingerprint is not answered, since it is none.
func TestForeign(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	b := stamp(begin(nil, bindingRequest, &[12]byte{}))
	b[len(b)-1]++
	d.send(b)
	eventually(t, "it is dropped", func() bool { return value(s.count.drops[NotTURN]) == 1 })
	if n := value(s.count.refusals[Malformed]); n != 0 {
		t.Errorf("%v were answered", n)
	}
}

// TestTooLarge: packet by packet, the longest payload is relayed, and one that is longer is counted.
func TestTooLarge(t *testing.T) {
	cfg := testConfig()
	cfg.Batches = false
	s := start(t, cfg, Deps{})
	d, p := dial(t, s.Addrs("udp")[0], "anna", "secret-a"), newPeer(t)
	relayed := d.allocate()
	d.request(permissionRequest, wantPeers(p.addr()))
	longest := strings.Repeat("x", maxPacket)
	p.send(longest+"y", relayed)
	p.send(longest, relayed)
	var m message
	if !m.parse(d.receive()) || string(m.data) != longest {
		t.Errorf("the client got %d bytes", len(m.data))
	}
	if n := value(s.count.drops[TooLarge]); n != 1 {
		t.Errorf("%v packets were too large", n)
	}
}

// TestTooLongInStream: a message that is too long is passed by, and the connection goes on behind it.
func TestTooLongInStream(t *testing.T) {
	s := start(t, allConfig(t), Deps{})
	d, p := connect(t, s, "tcp", "anna", "secret-a"), newPeer(t)
	d.allocate()
	d.request(channelRequest, wantChannel(oneChan, p.addr()))
	for _, size := range []int{maxPacket + headroom + 1, inBuffer, 1<<16 - 1} {
		d.send(slices.Concat(pad(channelData(oneChan, strings.Repeat("x", size))), pad(channelData(oneChan, "behind it"))))
		if got, _ := p.receive(); got != "behind it" {
			t.Errorf("%d bytes: the peer got %.20q", size, got)
		}
	}
	if n := value(s.count.drops[TooLarge]); n != 3 {
		t.Errorf("%v messages were too large", n)
	}
}

// TestExpires: an allocation that is not refreshed ends by itself, and its client may have another one.
func TestExpires(t *testing.T) {
	cfg := testConfig()
	cfg.Lifetime = config.Duration(time.Second)
	s := start(t, cfg, Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.allocate()
	eventually(t, "it ends", func() bool { return s.Allocations() == 0 })
	if n := value(s.count.ends[Expired]); n != 1 {
		t.Errorf("%v have expired", n)
	}
	if code := d.request(refreshRequest, wantLifetime(600)); code != codeMismatch {
		t.Errorf("Refresh after its end: %d", code)
	}
	d.allocate()
}

// TestAllocateAttributes: what an Allocate may ask for together, and what not (RFC 5766 6.2, RFC 6156 4.2).
func TestAllocateAttributes(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	token := func(b []byte) []byte { return attr(b, attrReservation, 1, 2, 3, 4, 5, 6, 7, 8) }
	family := func(b []byte, f byte) []byte { return attr(b, attrFamily, f, 0, 0, 0) }
	for name, c := range map[string]struct {
		add  func(b []byte) []byte
		want int
	}{
		"no transport":               {func(b []byte) []byte { return b[:headerSize] }, codeBadRequest},
		"a token and an even port":   {func(b []byte) []byte { return token(attr(b, attrEvenPort, 0)) }, codeBadRequest},
		"a token and a family":       {func(b []byte) []byte { return token(family(b, familyIPv4)) }, codeBadRequest},
		"no such token":              {token, codeCapacity},
		"IPv4":                       {func(b []byte) []byte { return family(b, familyIPv4) }, 0},
		"IPv6":                       {func(b []byte) []byte { return family(b, familyIPv6) }, codeFamily},
		"a family that is none":      {func(b []byte) []byte { return family(b, 3) }, codeFamily},
		"a lifetime of three bytes":  {func(b []byte) []byte { return attr(b, attrLifetime, 0, 2, 88) }, codeBadRequest},
		"an even port":               {func(b []byte) []byte { return attr(b, attrEvenPort, 0) }, 0},
		"what may be left aside":     {func(b []byte) []byte { return attr(b, 0x8022, 'x') }, 0},
		"what must be understood":    {func(b []byte) []byte { return attr(b, 0x7fff, 'x') }, codeUnknownAttribute},
		"a lifetime above the limit": {func(b []byte) []byte { return attr(b, attrLifetime, 0xff, 0xff, 0xff, 0xff) }, 0},
	} {
		d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
		d.greet()
		if code := d.request(allocateRequest, func(b []byte, id *[12]byte) []byte { return c.add(wantUDP(b, id)) }); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
}

// TestEndDuringRequests: an allocation may end while permissions are made for it: pion, which would stop a timer that is not there yet, has none of
// them. What is looked for is a race that the detector sees.
func TestEndDuringRequests(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	for range 50 {
		d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
		d.allocate()
		a := s.fronts[0].table.get(d.client())
		for i := range 8 {
			d.send(d.build(permissionRequest, d.id(), wantPeers(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 5000))))
		}
		d.receive() // the first is made
		a.end(PeerClosed)
	}
	eventually(t, "all have ended", func() bool { return s.Allocations() == 0 })
}

// TestLifetimes: an allocation lasts as long as the client is told.
func TestLifetimes(t *testing.T) {
	cfg := testConfig()
	cfg.Lifetime = config.Duration(90 * time.Second)
	s := start(t, cfg, Deps{})
	d := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	d.greet()
	first := d.build(allocateRequest, d.id(), wantUDP)
	for i, c := range []struct {
		request []byte
		want    uint32
	}{
		{first, 90}, {d.build(refreshRequest, d.id(), wantLifetime(70)), 70}, {first, 90}, {d.build(refreshRequest, d.id(), wantLifetime(1)), 60},
		{d.build(refreshRequest, d.id(), nil), 90}, {d.build(refreshRequest, d.id(), wantLifetime(0)), 0},
	} {
		m := d.ask(c.request)
		if m.typ&classMask != classSuccess || m.lifetime == nil || binary.BigEndian.Uint32(m.lifetime) != c.want {
			t.Errorf("step %d: type %#x, lifetime %x, want %d s", i, m.typ, m.lifetime, c.want)
		}
	}
}
