package turnd

import (
	"net"
	"net/netip"
	"testing"

	"github.com/pion/turn/v3"
)

// site is a server that a hole is looked for in: ours, or pion/turn as it is.
type site struct {
	addr net.Addr
	bare bool
}

// bare runs pion/turn as its examples do, with the users and the denied peers of ours.
func bare(t *testing.T) site {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := bareConfig()
	cfg.PacketConnConfigs = []turn.PacketConnConfig{{PacketConn: c, RelayAddressGenerator: bareRelays(), PermissionHandler: barePeers}}
	s, err := turn.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return site{c.LocalAddr(), true}
}

func bareConfig() turn.ServerConfig {
	users := testConfig().Users
	return turn.ServerConfig{Realm: "linecard", LoggerFactory: silence{}, AuthHandler: func(name, realm string, _ net.Addr) ([]byte, bool) {
		password, ok := users[name]
		return turn.GenerateAuthKey(name, realm, password), ok
	}}
}

func bareRelays() turn.RelayAddressGenerator {
	return &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
}

func barePeers(_ net.Addr, ip net.IP) bool { return ip.IsLoopback() }

func ours(t *testing.T) site {
	t.Helper()
	cfg := testConfig()
	cfg.AccountAllocations = 4
	return site{start(t, cfg, Deps{}).Addrs("udp")[0], false}
}

// code sends a request with credentials and returns the code of the answer: 0 for success, noCode for a refusal without one, silent for none.
// pion handles one packet after the other, so it has not answered when it answers the next one.
func (d *device) code(s site, typ msgType, add func([]byte, *[12]byte) []byte) int {
	d.t.Helper()
	id := d.id()
	d.send(d.build(typ, id, add))
	after := d.id()
	if s.bare {
		d.send(begin(nil, bindingRequest, &after))
	}
	for {
		var m message
		if !m.parse(d.receive()) {
			d.t.Fatal("the answer is no message")
		}
		switch {
		case m.id == after:
			return silent
		case m.id != id:
		case m.typ == typ.success():
			if s.bare {
				d.receive()
			}
			return 0
		default:
			if s.bare {
				d.receive()
			}
			if m.errorCode == 0 {
				return noCode
			}
			return m.errorCode
		}
	}
}

const (
	silent = -1
	noCode = -2
)

var (
	goodPeer  = netip.MustParseAddrPort("127.0.0.1:5000")
	badPeer   = netip.MustParseAddrPort("10.0.0.1:5000")
	oneChan   = uint16(0x4000)
	threeMore = []struct {
		typ msgType
		add func([]byte, *[12]byte) []byte
	}{{refreshRequest, wantLifetime(600)}, {permissionRequest, wantPeers(goodPeer)}, {channelRequest, wantChannel(oneChan, goodPeer)}}
)
