package turnd

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"linecard.example/internal/config"
)

// patience is how long a test waits for what must come: never reached unless something is wrong.
const patience = 20 * time.Second

// testConfig is one for tests: loopback, ports picked by the kernel, static users, no peers denied on loopback.
func testConfig() Config {
	c := DefaultConfig()
	c.UDP, c.TCP = []string{"127.0.0.1:0"}, nil
	c.Users = map[string]string{"anna": "secret-a", "bert": "secret-b"}
	c.AllowPeers = []string{"127.0.0.0/8"}
	c.Drain = config.Duration(0)
	c.AccountRequests, c.AccountRate = 1<<20, 0
	c.SourceRate, c.SourceBurst, c.Greeting, c.Greetings = 1e6, 1<<20, 1<<16, 1<<20
	return c
}

// start runs a server until the test ends.
func start(t testing.TB, cfg Config, deps Deps) *Server {
	t.Helper()
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s
}

// started runs a server of cfg until end is called; done has what its Run returns.
func started(t testing.TB, cfg Config, deps Deps) (s *Server, end context.CancelFunc, done chan error) {
	t.Helper()
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	done = make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, end, done
}

// run runs a server until the test ends.
func run(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
		if n := s.Allocations(); n != 0 {
			t.Errorf("%d allocations are left", n)
		}
	})
}

// device is a client that does exactly what a test says, right or wrong.
type device struct {
	t        testing.TB
	conn     net.Conn
	user     string
	password string
	realm    string
	nonce    []byte
	n        uint32
	framed   bool   // messages follow each other without bounds
	left     []byte // what was read after the last one
}

// dial connects a device over UDP.
func dial(t testing.TB, to net.Addr, user, password string) *device {
	t.Helper()
	c, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &device{t: t, conn: c, user: user, password: password}
}

func (d *device) client() netip.AddrPort { return d.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// id returns a transaction id that the device has not used.
func (d *device) id() (id [12]byte) {
	d.n++
	binary.BigEndian.PutUint32(id[8:], d.n)
	return id
}

// build makes a request; add appends its attributes. With a nonce it has credentials.
func (d *device) build(typ msgType, id [12]byte, add func(b []byte, id *[12]byte) []byte) []byte {
	b := begin(nil, typ, &id)
	if add != nil {
		b = add(b, &id)
	}
	if d.nonce == nil {
		return b
	}
	b = attr(b, attrUsername, []byte(d.user)...)
	b = attr(b, attrRealm, []byte(d.realm)...)
	b = attr(b, attrNonce, d.nonce...)
	return seal(b, longTermKey(d.user, d.realm, d.password))
}

// send sends bytes as they are.
func (d *device) send(p []byte) {
	d.t.Helper()
	if _, err := d.conn.Write(p); err != nil {
		d.t.Fatal(err)
	}
}

// receive returns the next packet.
func (d *device) receive() []byte {
	d.t.Helper()
	p := make([]byte, 2048)
	d.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		if n, err := frame(d.left); err != nil {
			d.t.Fatal(err)
		} else if n > 0 {
			first := d.left[:n]
			d.left = d.left[n:]
			return first
		}
		n, err := d.conn.Read(p)
		if err != nil {
			d.t.Fatalf("no packet came: %v", err)
		}
		if !d.framed {
			return p[:n]
		}
		d.left = append(d.left[:len(d.left):len(d.left)], p[:n]...)
	}
}

// ask sends a packet and returns the message that answers it.
func (d *device) ask(p []byte) *message {
	d.t.Helper()
	d.send(p)
	answer := d.receive()
	m := &message{}
	if !m.parse(answer) {
		d.t.Fatalf("the answer is no message: %x", answer)
	}
	return m
}

// greet learns realm and nonce.
func (d *device) greet() {
	d.t.Helper()
	d.nonce = nil
	m := d.ask(d.build(allocateRequest, d.id(), wantUDP))
	if m.errorCode != codeUnauthorized || m.nonce == nil || m.realm == nil {
		d.t.Fatalf("the first answer has code %d, nonce %q, realm %q", m.errorCode, m.nonce, m.realm)
	}
	d.nonce, d.realm = m.nonce, string(m.realm)
}

// request sends a request with credentials and returns the answer's code, 0 for success.
func (d *device) request(typ msgType, add func(b []byte, id *[12]byte) []byte) int {
	d.t.Helper()
	m := d.ask(d.build(typ, d.id(), add))
	if m.typ != typ.success() && m.typ != typ.failure() {
		d.t.Fatalf("the answer has type %#x", m.typ)
	}
	if m.typ == typ.failure() && m.errorCode == 0 {
		d.t.Fatal("a refusal without an error code")
	}
	return m.errorCode
}

// allocate gets an allocation and returns its address.
func (d *device) allocate() netip.AddrPort {
	d.t.Helper()
	if d.nonce == nil {
		d.greet()
	}
	m := d.ask(d.build(allocateRequest, d.id(), wantUDP))
	if m.typ != allocateRequest.success() {
		d.t.Fatalf("Allocate: type %#x, code %d", m.typ, m.errorCode)
	}
	return m.relayed
}

func wantUDP(b []byte, _ *[12]byte) []byte { return attr(b, attrTransport, protocolUDP, 0, 0, 0) }

// wantPeers returns attributes that name peers.
func wantPeers(peers ...netip.AddrPort) func([]byte, *[12]byte) []byte {
	return func(b []byte, id *[12]byte) []byte {
		for _, p := range peers {
			b = attrAddr(b, attrPeer, p, id)
		}
		return b
	}
}

// wantChannel returns attributes that bind a channel.
func wantChannel(number uint16, peer netip.AddrPort) func([]byte, *[12]byte) []byte {
	return func(b []byte, id *[12]byte) []byte {
		return attrAddr(attr(b, attrChannel, byte(number>>8), byte(number), 0, 0), attrPeer, peer, id)
	}
}

// wantLifetime returns an attribute with seconds.
func wantLifetime(seconds uint32) func([]byte, *[12]byte) []byte {
	return func(b []byte, _ *[12]byte) []byte {
		return attr(b, attrLifetime, binary.BigEndian.AppendUint32(nil, seconds)...)
	}
}

// channelData makes a ChannelData message.
func channelData(number uint16, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(b, payload...)
}

// peer is a socket that packets are relayed to.
type peer struct {
	t    testing.TB
	conn *net.UDPConn
}

func newPeer(t testing.TB) *peer {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &peer{t: t, conn: c}
}

func (p *peer) addr() netip.AddrPort { return p.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// receive returns the next packet and where it came from.
func (p *peer) receive() (string, netip.AddrPort) {
	p.t.Helper()
	b := make([]byte, 2048)
	p.conn.SetReadDeadline(time.Now().Add(patience))
	n, from, err := p.conn.ReadFromUDPAddrPort(b)
	if err != nil {
		p.t.Fatalf("no packet came to the peer: %v", err)
	}
	return string(b[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

func (p *peer) send(payload string, to netip.AddrPort) {
	p.t.Helper()
	if _, err := p.conn.WriteToUDPAddrPort([]byte(payload), to); err != nil {
		p.t.Fatal(err)
	}
}

// indication makes a Send indication.
func (d *device) indication(peer netip.AddrPort, payload string) []byte {
	id := d.id()
	return attr(attrAddr(begin(nil, sendIndication, &id), attrPeer, peer, &id), attrData, []byte(payload)...)
}
