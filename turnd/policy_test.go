package turnd

import (
	"net"
	"net/netip"
	"testing"
)

// TestPolicy: which peers may be relayed to, however their address is written.
func TestPolicy(t *testing.T) {
	cfg := DefaultConfig()
	cfg.RelayAddress, cfg.ExternalAddress, cfg.MinPort, cfg.MaxPort = "10.1.2.3", "8.8.4.4", 50000, 50999
	cfg.AllowPeers, cfg.DenyPeers = []string{"10.9.0.0/16"}, []string{"10.9.9.0/24", "9.9.9.9/32"}
	p, err := newPolicy(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.own[netip.MustParseAddr("8.8.8.8")] = true
	for _, c := range []struct {
		peer string
		want string // "": not relayed to
	}{
		{"1.1.1.1:1234", "1.1.1.1:1234"},
		{"1.1.1.1:0", ""},
		{"9.9.9.9:53", ""}, // denied
		{"8.8.8.8:53", ""}, // own
		{"10.9.1.1:5", "10.9.1.1:5"},
		{"10.9.9.1:5", ""},                  // denied although allowed
		{"8.8.4.4:50000", "10.1.2.3:50000"}, // another allocation, as clients know it
		{"10.1.2.3:50999", "10.1.2.3:50999"},
		{"8.8.4.4:49999", ""}, // the machine's other ports
		{"10.1.2.3:22", ""},
		{"10.0.0.1:5", ""}, {"172.16.0.1:5", ""}, {"172.31.255.255:5", ""}, {"192.168.1.1:5", ""},
		{"172.32.0.1:5", "172.32.0.1:5"},
		{"127.0.0.1:5", ""}, {"0.0.0.0:5", ""}, {"0.1.2.3:5", ""},
		{"169.254.169.254:80", ""}, {"100.100.100.200:80", ""}, {"168.63.129.16:80", ""}, {"192.0.0.192:80", ""},
		{"100.64.0.1:5", ""}, {"100.127.255.255:5", ""}, {"100.128.0.1:5", "100.128.0.1:5"},
		{"192.0.2.1:5", ""}, {"198.51.100.1:5", ""}, {"203.0.113.1:5", ""}, {"198.18.0.1:5", ""}, {"198.19.255.255:5", ""},
		{"192.88.99.1:5", ""},
		{"224.0.0.1:5", ""}, {"239.255.255.255:5", ""}, {"240.0.0.1:5", ""}, {"255.255.255.255:5", ""},
		{"[::1]:5", ""}, {"[::]:5", ""}, {"[fe80::1]:5", ""}, {"[fd00:ec2::254]:80", ""}, {"[ff02::1]:5", ""},
		{"[64:ff9b::7f00:1]:5", ""}, {"[2002:7f00:1::]:5", ""}, {"[::7f00:1]:5", ""}, {"[2001:db8::1]:5", ""},
		{"[2606:4700::1111]:5", ""}, // relays are IPv4
	} {
		var id [12]byte
		copy(id[:], "transaction.")
		// As it comes: read from an attribute, which unmaps.
		a := netip.MustParseAddrPort(c.peer)
		for _, v := range written(a, &id) {
			b := attr(begin(nil, channelRequest, &id), attrPeer, v...)
			var m message
			if !m.parse(b) {
				t.Fatalf("%v does not parse", a)
			}
			got, ok := p.endpoint(m.peers[0])
			if ok != (c.want != "") || ok && got.String() != c.want {
				t.Errorf("%v: %v, %v; want %q", a, got, ok, c.want)
			}
			if _, ok := p.endpoint(m.peers[0]); ok && !p.address(m.peers[0].Addr()) {
				t.Errorf("%v: there may be packets, but no permission", a)
			}
		}
	}
}

// written returns the attributes that an address can be written in: IPv4 in IPv6, too.
func written(a netip.AddrPort, id *[12]byte) [][]byte {
	plain := attrAddr(begin(nil, channelRequest, id), attrPeer, a, id)[headerSize+4:]
	mapped := a.Addr().As16()
	mask(mapped[:], id)
	return [][]byte{plain, append(append([]byte{0, familyIPv6}, plain[2:4]...), mapped[:]...)}
}

// TestReservedPeers: every range that is reserved is refused from its first address to its last.
func TestReservedPeers(t *testing.T) {
	p, err := newPolicy(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reserved {
		if !r.Addr().Is4() {
			continue
		}
		first := r.Masked().Addr()
		raw := first.As4()
		for i := r.Bits(); i < 32; i++ {
			raw[i/8] |= 0x80 >> (i % 8)
		}
		for _, a := range []netip.Addr{first, netip.AddrFrom4(raw)} {
			if p.address(a) && a != p.relay {
				t.Errorf("%v of %v is allowed", a, r)
			}
		}
	}
}

// TestOwnListener: no relay is a client of the server that it is on, although its address may be relayed to.
func TestOwnListener(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	own := s.Addrs("udp")[0].(*net.UDPAddr).AddrPort()
	d, p := dial(t, s.Addrs("udp")[0], "anna", "secret-a"), newPeer(t)
	d.allocate()
	for _, a := range []netip.AddrPort{own, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), own.Port())} {
		if code := d.request(channelRequest, wantChannel(oneChan, a)); code != codeForbidden {
			t.Errorf("a channel to %v: %d", a, code)
		}
	}
	if code := d.request(permissionRequest, wantPeers(own)); code != 0 { // it has no port
		t.Fatal(code)
	}
	d.send(d.indication(own, string(begin(nil, bindingRequest, &[12]byte{}))))
	d.send(d.indication(p.addr(), "a peer there"))
	if got, _ := p.receive(); got != "a peer there" {
		t.Errorf("the peer got %q", got)
	}
	if n := value(s.count.drops[PeerForbidden]); n != 1 {
		t.Errorf("%v were dropped", n)
	}
}

// TestOwnService: a relay on loopback, as `up` has it, reaches other relays and no service of the machine.
func TestOwnService(t *testing.T) {
	cfg := testConfig()
	cfg.AllowPeers = nil
	cfg.MinPort, cfg.MaxPort = 49152, 65000
	s := start(t, cfg, Deps{})
	a := dial(t, s.Addrs("udp")[0], "anna", "secret-a")
	b := dial(t, s.Addrs("udp")[0], "bert", "secret-b")
	fromA, fromB := a.allocate(), b.allocate()
	if code := a.request(channelRequest, wantChannel(oneChan, netip.MustParseAddrPort("127.0.0.1:22"))); code != codeForbidden {
		t.Errorf("a channel to a service of the machine: %d", code)
	}
	if code := a.request(channelRequest, wantChannel(oneChan, fromB)); code != 0 {
		t.Fatalf("a channel to another relay: %d", code)
	}
	if code := b.request(permissionRequest, wantPeers(fromA)); code != 0 {
		t.Fatalf("a permission for another relay: %d", code)
	}
	b.send(b.indication(netip.MustParseAddrPort("127.0.0.1:22"), "never")) // has a permission, by its address
	a.send(channelData(oneChan, "through both"))
	var m message
	if in := b.receive(); !m.parse(in) || string(m.data) != "through both" || m.peers[0] != fromA {
		t.Errorf("the other client got %x", in)
	}
	eventually(t, "the drop is counted", func() bool { return value(s.count.drops[PeerForbidden]) == 1 })
}

// TestBroadcast: what means all machines of a network is no peer, whatever is allowed.
func TestBroadcast(t *testing.T) {
	for network, want := range map[string]string{
		"192.0.2.1/24": "192.0.2.255", "10.1.2.3/8": "10.255.255.255", "192.0.2.9/30": "192.0.2.11", "192.0.2.8/31": "", "192.0.2.8/32": "", "2001:db8::1/64": "",
	} {
		ip, n, err := net.ParseCIDR(network)
		if err != nil {
			t.Fatal(err)
		}
		n.IP = ip // as net.InterfaceAddrs has it
		if got, ok := broadcast(n); ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, %v; want %q", network, got, ok, want)
		}
	}
	p, err := newPolicy(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	if all := netip.MustParseAddr("127.255.255.255"); p.address(all) {
		t.Errorf("%v may be relayed to", all)
	}
}
