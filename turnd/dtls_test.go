package turnd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/dtls/v3/pkg/protocol/recordlayer"
)

// greeter begins DTLS handshakes, record by record.
type greeter struct {
	t      *testing.T
	conn   net.Conn
	random [32]byte
}

func newGreeter(t *testing.T, to net.Addr) *greeter {
	t.Helper()
	c, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	g := &greeter{t: t, conn: c}
	_, _ = rand.Read(g.random[:])
	return g
}

// hello makes a ClientHello that a server can go on with.
func (g *greeter) hello(record uint64, number uint16, cookie []byte) []byte {
	body := append([]byte{0xfe, 0xfd}, g.random[:]...)
	body = append(append(body, 0, byte(len(cookie))), cookie...)
	body = append(body, 0, 2, 0xc0, 0x2b, 1, 0) // one suite, no compression
	extensions := []byte{0, 0x17, 0, 0, 0, 0x0a, 0, 4, 0, 2, 0, 0x17, 0, 0x0d, 0, 4, 0, 2, 4, 3}
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(extensions))), extensions...)
	p := append([]byte{contentHandshake, 0xfe, 0xfd}, make([]byte, 10)...)
	putRecordNumber(p, record)
	binary.BigEndian.PutUint16(p[11:], uint16(handshakeHeader+len(body)))
	p = append(p, clientHello, 0, 0, byte(len(body)), byte(number>>8), byte(number), 0, 0, 0, 0, 0, byte(len(body)))
	return append(p, body...)
}

func (g *greeter) send(p []byte) {
	g.t.Helper()
	if _, err := g.conn.Write(p); err != nil {
		g.t.Fatal(err)
	}
}

// receive returns the next packet, which must be of a handshake.
func (g *greeter) receive(typ byte) []byte {
	g.t.Helper()
	p := make([]byte, 2048)
	g.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := g.conn.Read(p)
	if err != nil {
		g.t.Fatalf("no packet came: %v", err)
	}
	if !handshakeOf(p[:n], typ) {
		g.t.Fatalf("want a handshake message %d, got %x", typ, p[:n])
	}
	return p[:n]
}

// cookie asks for one with a record.
func (g *greeter) cookie(record uint64) []byte {
	g.t.Helper()
	first := g.hello(record, 0, nil)
	g.send(first)
	p := g.receive(verifyRequest)
	if len(p) > len(first) {
		g.t.Errorf("%d bytes are answered with %d", len(first), len(p))
	}
	if n := recordNumber(p); n != record {
		g.t.Errorf("record %d is answered with record %d", record, n)
	}
	return p[recordHeader+handshakeHeader+3:]
}

// half has n clients begin handshakes and never go on.
func half(t *testing.T, to net.Addr, n int) {
	t.Helper()
	for range n {
		g := newGreeter(t, to)
		g.send(g.hello(1, 1, g.cookie(0)))
		g.receive(2) // ServerHello
	}
}

// TestDTLSHandshakeError: a handshake that fails, and ones that do not go on, end and hold up nothing, as they would with an Accept that does
// handshakes.
func TestDTLSHandshakeError(t *testing.T) {
	s := start(t, allConfig(t), Deps{})
	addr := s.Addrs("dtls")[0]
	half(t, addr, 8)
	bad := newGreeter(t, addr)
	p := bad.hello(1, 1, bad.cookie(0))
	p[recordHeader+handshakeHeader+1] = 3 // no version of DTLS
	bad.send(p)
	eventually(t, "it fails", func() bool { return value(s.count.turnedAway[Handshake]) == 1 })
	c, err := dialDTLS(addr)
	if err != nil {
		t.Fatalf("after a handshake that failed: %v", err)
	}
	defer c.Close()
	if !answered(t, c, patience) {
		t.Error("no answer after a handshake that failed")
	}
}

// TestHelloFlood: who begins handshakes in the name of others takes nothing from those who begin in their own.
func TestHelloFlood(t *testing.T) {
	cfg := allConfig(t)
	cfg.Handshakes, cfg.SourceConnections, cfg.Connections = 1, 2, 2
	s := start(t, cfg, Deps{})
	addr := s.Addrs("dtls")[0]
	for range 50 {
		forged := newGreeter(t, addr)
		forged.send(forged.hello(0, 0, nil))
		forged.send(forged.hello(1, 1, make([]byte, nonceSize)))
		forged.receive(verifyRequest)
		forged.receive(verifyRequest)
	}
	if n := s.doors.count(); n != 0 {
		t.Errorf("%d connections for strangers", n)
	}
	c, err := dialDTLS(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !answered(t, c, patience) {
		t.Error("no answer")
	}
}

// TestCookies: a cookie is good for the address that asked for it, in the second message of a handshake.
func TestCookies(t *testing.T) {
	s := start(t, allConfig(t), Deps{})
	addr := s.Addrs("dtls")[0]
	one, two := newGreeter(t, addr), newGreeter(t, addr)
	cookie := one.cookie(0)
	two.send(two.hello(1, 1, cookie))
	two.receive(verifyRequest)
	for i, p := range [][]byte{one.hello(1, 0, cookie), one.hello(1, 2, cookie), one.hello(0, 1, cookie)} {
		one.send(p)
		eventually(t, "it is dropped", func() bool { return value(s.count.drops[NotTURN]) == float64(i+1) })
	}
	if n := s.doors.count(); n != 0 {
		t.Errorf("%d connections", n)
	}
	one.send(one.hello(1, 1, cookie))
	one.receive(2)
}

// TestHelloLost: after answers that were lost the server goes on from the record that the client is at (RFC 6347 4.2.1): one that the client has seen
// before it would drop.
func TestHelloLost(t *testing.T) {
	s := start(t, allConfig(t), Deps{})
	g := newGreeter(t, s.Addrs("dtls")[0])
	g.cookie(0)
	g.cookie(1)
	g.send(g.hello(3, 1, g.cookie(2)))
	next := uint64(3)
	for p := g.receive(2); len(p) >= recordHeader; next++ {
		if n := recordNumber(p); n != next {
			t.Errorf("record %d, want %d", n, next)
		}
		p = p[recordHeader+int(binary.BigEndian.Uint16(p[11:])):]
	}
}

// TestDTLSAnew: a client that was started anew begins from its former address; what it had is ended.
func TestDTLSAnew(t *testing.T) {
	s := start(t, allConfig(t), Deps{})
	to := s.Addrs("dtls")[0].(*net.UDPAddr)
	var from *net.UDPAddr
	for range 3 {
		raw, err := net.DialUDP("udp", from, to)
		if err != nil {
			t.Fatal(err)
		}
		from = raw.LocalAddr().(*net.UDPAddr)
		c, err := dtls.ClientWithOptions(dtlsPacketConn{raw}, to, dtls.WithInsecureSkipVerify(true), dtls.WithLoggerFactory(silence{}))
		if err == nil {
			err = c.Handshake()
		}
		if err != nil {
			t.Fatal(err)
		}
		d := &device{t: t, conn: c, user: "anna", password: "secret-a"}
		eventually(t, "the former allocation ends", func() bool { return s.Allocations() == 0 })
		d.allocate()
		raw.Close() // it says nothing to the server
	}
}

// TestDTLSCertificate: a certificate that was replaced is shown to those who come after it; who was there before goes on.
func TestDTLSCertificate(t *testing.T) {
	cfg := allConfig(t)
	s := start(t, cfg, Deps{})
	shown := func() (net.Conn, string) {
		c, err := dialDTLS(s.Addrs("dtls")[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		state, _ := c.(*dtls.Conn).ConnectionState()
		return c, string(state.PeerCertificates[0])
	}
	before, first := shown()
	cert, key := certificate(t)
	for from, to := range map[string]string{cert: cfg.TLSCert, key: cfg.TLSKey} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.cert.Watch(ctx, time.Millisecond)
	eventually(t, "it is shown", func() bool {
		_, now := shown()
		return now != first
	})
	if !answered(t, before, patience) {
		t.Error("a connection of before has no answer")
	}
}

// dtlsPacketConn is a connected socket as dtls wants it.
type dtlsPacketConn struct{ *net.UDPConn }

func (c dtlsPacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	return n, c.RemoteAddr(), err
}

func (c dtlsPacketConn) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

// FuzzHello: nothing that comes breaks the parser; what it takes is taken apart and put together as it was, and pion reads it alike.
func FuzzHello(f *testing.F) {
	g := &greeter{}
	f.Add(g.hello(0, 0, nil))
	f.Add(g.hello(1<<48-1, 1, []byte("cookie")))
	f.Fuzz(func(t *testing.T, p []byte) {
		if err := checkHello(p); err != nil {
			t.Fatal(err)
		}
	})
}

// helloOf is a ClientHello as pion reads it; nil: it does not, or there is more in the packet.
func helloOf(p []byte) (*handshake.MessageClientHello, handshake.Header) {
	records, err := recordlayer.UnpackDatagram(p)
	var r recordlayer.RecordLayer
	if err != nil || len(records) != 1 || r.Unmarshal(p) != nil || r.Header.Epoch != 0 {
		return nil, handshake.Header{}
	}
	h, ok := r.Content.(*handshake.Handshake)
	if !ok || h.Header.FragmentOffset != 0 { // pion lets a whole message begin in its own middle
		return nil, handshake.Header{}
	}
	m, _ := h.Message.(*handshake.MessageClientHello)
	return m, h.Header
}

func checkHello(p []byte) error {
	var h, first hello
	whole := h.parse(p)
	if pions, of := helloOf(p); pions != nil && (!whole || !bytes.Equal(h.cookie, pions.Cookie) || h.number != of.MessageSequence) {
		return fmt.Errorf("pion reads the cookie %x in message %d; read is %v, %x, %d", pions.Cookie, of.MessageSequence, whole, h.cookie, h.number)
	}
	if !whole {
		return nil
	}
	switch b := h.first(); {
	case !first.parse(b) || len(first.cookie) != 0 || string(first.random) != string(h.random) || first.number != 0 || len(b) != len(p)-len(h.cookie):
		return fmt.Errorf("the first ClientHello is %x", b)
	case len(h.verify(make([]byte, nonceSize))) > len(p):
		return errors.New("the answer is longer")
	}
	return nil
}
