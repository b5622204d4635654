package turnd

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendRun sends payload as one run of segments, as fast senders do.
func sendRun(t *testing.T, c *net.UDPConn, payload []byte, segment int, to netip.AddrPort) {
	t.Helper()
	control := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.SizeofCmsghdr:], uint16(segment))
	var addr *net.UDPAddr
	if to.IsValid() {
		addr = net.UDPAddrFromAddrPort(to)
	}
	if _, _, err := c.WriteMsgUDP(payload, control, addr); err != nil {
		t.Fatal(err)
	}
}

// path is an allocation with a channel and what a test needs of it.
type path struct {
	server  *Server
	device  *device
	peer    *peer
	relayed netip.AddrPort
	alloc   *allocation
}

const pathChannel = 0x4001

func newPath(t testing.TB) path {
	t.Helper()
	p := path{server: start(t, testConfig(), Deps{}), peer: newPeer(t)}
	p.device = dial(t, p.server.Addrs("udp")[0], "anna", "secret-a")
	p.relayed = p.device.allocate()
	if code := p.device.request(channelRequest, wantChannel(pathChannel, p.peer.addr())); code != 0 {
		t.Fatalf("ChannelBind: %d", code)
	}
	if p.alloc = p.server.fronts[0].table.get(p.device.client()); p.alloc == nil {
		t.Fatal("no allocation")
	}
	return p
}

// TestRunsToClient: what a peer sends as one run reaches the client packet by packet, in order and whole, by channel and as indications.
func TestRunsToClient(t *testing.T) {
	p := newPath(t)
	var run []byte
	var want []string
	for i := range 10 {
		one := strings.Repeat(string(rune('a'+i)), 101)
		if i == 9 {
			one = one[:7]
		}
		run, want = append(run, one...), append(want, one)
	}
	sendRun(t, p.peer.conn, run, 101, p.relayed)
	for i, w := range want {
		if got := p.device.receive(); string(got) != string(channelData(pathChannel, w)) {
			t.Fatalf("packet %d: got %x", i, got)
		}
	}
	other := newPeer(t)
	if code := p.device.request(permissionRequest, wantPeers(other.addr())); code != 0 {
		t.Fatalf("CreatePermission: %d", code)
	}
	sendRun(t, other.conn, run, 101, p.relayed)
	for i, w := range want {
		var m message
		if got := p.device.receive(); !m.parse(got) || m.typ != dataIndication || string(m.data) != w || m.peers[0] != other.addr() {
			t.Fatalf("indication %d: got %x", i, got)
		}
	}
}

// TestRunsToPeer: what a client sends as one run is taken apart: each message goes its own way, also the one that is a request.
func TestRunsToPeer(t *testing.T) {
	p := newPath(t)
	var run []byte
	var want []string
	for i := range 12 {
		one := strings.Repeat(string(rune('a'+i)), 60)
		run, want = append(run, channelData(pathChannel, one)...), append(want, one)
	}
	sendRun(t, p.device.conn.(*net.UDPConn), run, 64, netip.AddrPort{})
	for i, w := range want {
		if got, from := p.peer.receive(); got != w || from != p.relayed {
			t.Fatalf("packet %d: got %q from %v", i, got, from)
		}
	}
	id := p.device.id()
	binding := stamp(begin(nil, bindingRequest, &id)) // 28 bytes
	mixed := append(channelData(pathChannel, strings.Repeat("x", 24)), binding...)
	mixed = append(mixed, channelData(0x4fff, strings.Repeat("y", 24))...) // bound to nobody
	mixed = append(mixed, channelData(pathChannel, "end")...)
	sendRun(t, p.device.conn.(*net.UDPConn), mixed, 28, netip.AddrPort{})
	var m message
	if got := p.device.receive(); !m.parse(got) || m.typ != bindingRequest.success() || m.id != id {
		t.Fatalf("the Binding request was answered with %x", got)
	}
	for _, w := range []string{strings.Repeat("x", 24), "end"} {
		if got, _ := p.peer.receive(); got != w {
			t.Fatalf("got %q, want %q", got, w)
		}
	}
}

// TestNoAllocations: relaying allocates nothing, in either direction, alone or in runs, by channel or by indication.
func TestNoAllocations(t *testing.T) {
	p := newPath(t)
	other := newPeer(t)
	if code := p.device.request(permissionRequest, wantPeers(other.addr())); code != 0 {
		t.Fatalf("CreatePermission: %d", code)
	}
	var b batch
	if err := b.init(p.server); err != nil {
		t.Fatal(err)
	}
	defer b.in.free()
	f, via := p.server.fronts[0], p.alloc.via.(*fastSocket)
	space := make([]byte, headroom+4096)
	frames := space[:headroom]
	for range 5 {
		frames = append(frames, channelData(pathChannel, strings.Repeat("x", 200))...)
	}
	payload := append(make([]byte, headroom, 4096), strings.Repeat("y", 999)...)
	sock, err := openFast(p.server.pollers[0], netip.MustParseAddrPort("127.0.0.1:0"), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sock.close()
	sock.handle = p.alloc.relay.fromPeers
	to := sock.local()
	for name, relay := range map[string]func(){
		"to the peer, run":        func() { f.packets(&b, via, frames, 204, p.device.client()) },
		"to the peer, one":        func() { f.packets(&b, via, frames[:headroom+204], 204, p.device.client()) },
		"to the client, run":      func() { p.alloc.relay.fromPeers(&b, payload, 100, p.peer.addr()) },
		"to the client, one":      func() { p.alloc.relay.fromPeers(&b, payload, 999, p.peer.addr()) },
		"indications, run":        func() { p.alloc.relay.fromPeers(&b, payload, 101, other.addr()) },
		"indication, one":         func() { p.alloc.relay.fromPeers(&b, payload, 999, other.addr()) },
		"no permission":           func() { p.alloc.relay.fromPeers(&b, payload, 100, netip.MustParseAddrPort("127.0.0.9:9")) },
		"no channel":              func() { f.packets(&b, via, frames, 3, p.device.client()) },
		"from socket to a client": func() { _, _ = p.peer.conn.WriteToUDPAddrPort(payload, to); b.read(sock) },
	} {
		if n := testing.AllocsPerRun(50, func() {
			b.now = p.server.now()
			relay()
			b.flush()
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestTraffic: an allocation's counters know packets and payload, in runs as well.
func TestTraffic(t *testing.T) {
	p := newPath(t)
	sendRun(t, p.peer.conn, bytes.Repeat([]byte{'z'}, 950), 100, p.relayed)
	for range 10 {
		p.device.receive()
	}
	for _, n := range []int{1, 10, 100} {
		p.device.send(channelData(pathChannel, strings.Repeat("x", n)))
		p.peer.receive()
	}
	c := &p.alloc.traffic
	eventually(t, "all are counted", func() bool { return c.recvPackets.Load() == 10 && c.sentPackets.Load() == 3 })
	if got, sent := c.recvBytes.Load(), c.sentBytes.Load(); got != 950 || sent != 111 {
		t.Errorf("received %d bytes, sent %d", got, sent)
	}
}

// TestFamilies: clients over IPv6, and over IPv4 at a socket for both.
func TestFamilies(t *testing.T) {
	for _, listen := range []string{"[::1]:0", "[::]:0"} {
		cfg := testConfig()
		cfg.UDP = []string{listen}
		s := start(t, cfg, Deps{})
		at := s.Addrs("udp")[0].(*net.UDPAddr)
		hosts := []net.IP{net.IPv6loopback}
		if listen == "[::]:0" {
			hosts = append(hosts, net.IPv4(127, 0, 0, 1))
		}
		for _, ip := range hosts {
			d := dial(t, &net.UDPAddr{IP: ip, Port: at.Port}, "anna", "secret-a")
			p := newPeer(t)
			relayed := d.allocate()
			if code := d.request(channelRequest, wantChannel(pathChannel, p.addr())); code != 0 {
				t.Fatalf("%s from %v: ChannelBind: %d", listen, ip, code)
			}
			d.send(channelData(pathChannel, "there"))
			p.receive()
			p.send("back", relayed)
			if got := d.receive(); string(got) != string(channelData(pathChannel, "back")) {
				t.Fatalf("%s from %v: %x", listen, ip, got)
			}
		}
	}
}
