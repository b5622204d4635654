package turnd

import (
	"net/netip"
	"strings"
	"testing"
)

// TestNoAllocationsAnywhere: where packets go one by one nothing is allocated for one either, whatever the client's transport, in both
// directions, by channel and by indication. (DTLS is pion's: it allocates for each record.)
func TestNoAllocationsAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("-short is how the race detector's run is called, which takes what is free out of pools")
	}
	const number = 0x4001
	cfg := allConfig(t)
	cfg.Batches = false
	s := start(t, cfg, Deps{})
	for _, transport := range []string{"udp", "tcp", "tls"} {
		d := connect(t, s, transport, "anna", "secret-a")
		p, other := newPeer(t), newPeer(t)
		d.allocate()
		if code := d.request(channelRequest, wantChannel(number, p.addr())); code != 0 {
			t.Fatalf("%s: ChannelBind: %d", transport, code)
		}
		if code := d.request(permissionRequest, wantPeers(other.addr())); code != 0 {
			t.Fatalf("%s: CreatePermission: %d", transport, code)
		}
		f, a := onlyAllocation(t, s, transport)
		data, stranger := channelData(number, strings.Repeat("x", 200)), channelData(number+1, strings.Repeat("x", 200))
		send := d.indication(other.addr(), strings.Repeat("y", 200))
		payload := append(make([]byte, headroom, headroom+maxPacket+4), strings.Repeat("z", 201)...)
		for name, relay := range map[string]func(){
			"channel data to a peer":     func() { packetOf(f, a, data) },
			"a Send indication":          func() { packetOf(f, a, send) },
			"channel data to the client": func() { a.relay.fromPeer(payload, p.addr()) },
			"a Data indication":          func() { a.relay.fromPeer(payload, other.addr()) },
			"no permission":              func() { a.relay.fromPeer(payload, netip.MustParseAddrPort("127.0.0.9:9")) },
			"no channel":                 func() { packetOf(f, a, stranger) },
		} {
			before := a.traffic.sentPackets.Load() + a.traffic.recvPackets.Load()
			if n := testing.AllocsPerRun(50, relay); n != 0 {
				t.Errorf("%s, %s: %v allocations", transport, name, n)
			}
			went := a.traffic.sentPackets.Load()+a.traffic.recvPackets.Load() > before
			if want := !strings.HasPrefix(name, "no "); went != want {
				t.Errorf("%s, %s: relayed: %v", transport, name, went)
			}
		}
	}
}

// packetOf hands over what a client sent as what reads its transport does.
func packetOf(f *front, a *allocation, p []byte) {
	if c, ok := a.via.(*connection); ok {
		_, _ = c.take(p)
		return
	}
	f.packet(p, a.client, a.via)
}

// onlyAllocation returns the one allocation of a transport.
func onlyAllocation(t *testing.T, s *Server, transport string) (*front, *allocation) {
	t.Helper()
	for _, f := range s.fronts {
		if all := f.table.all(); f.transport == transport && len(all) == 1 {
			return f, all[0]
		}
	}
	t.Fatalf("%s: no allocation", transport)
	return nil, nil
}
