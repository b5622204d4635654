package turnd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"go/parser"
	"go/token"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/turn/v3"

	"linecard.example/internal/config"
)

// certificate writes a self-signed certificate and returns its files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// allConfig has all transports.
func allConfig(t *testing.T) Config {
	c := testConfig()
	c.TCP, c.TLS, c.DTLS = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	c.TLSCert, c.TLSKey = certificate(t)
	return c
}

// connect connects a device over any transport.
func connect(t *testing.T, s *Server, transport, user, password string) *device {
	t.Helper()
	to := s.Addrs(transport)[0]
	var c net.Conn
	var err error
	switch transport {
	case "udp":
		return dial(t, to, user, password)
	case "tcp":
		c, err = net.Dial("tcp", to.String())
	case "tls":
		c, err = tls.Dial("tcp", to.String(), &tls.Config{InsecureSkipVerify: true})
	case "dtls":
		c, err = dialDTLS(to)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := &device{t: t, conn: c, user: user, password: password, framed: transport != "dtls"}
	return d
}

func dialDTLS(to net.Addr) (net.Conn, error) {
	c, err := dtls.DialWithOptions("udp", to.(*net.UDPAddr), dtls.WithInsecureSkipVerify(true), dtls.WithLoggerFactory(silence{}))
	if err != nil {
		return nil, err
	}
	return c, c.Handshake()
}

// TestTransports: the same over each of them, and the end of a connection is that of its allocation.
func TestTransports(t *testing.T) {
	s := start(t, allConfig(t), Deps{})
	for _, transport := range []string{"udp", "tcp", "tls", "dtls"} {
		t.Run(transport, func(t *testing.T) {
			d := connect(t, s, transport, "anna", "secret-a")
			p := newPeer(t)
			relayed := d.allocate()
			if code := d.request(channelRequest, wantChannel(oneChan, p.addr())); code != 0 {
				t.Fatalf("ChannelBind: %d", code)
			}
			for _, payload := range []string{"", "a", "abc", "abcd", strings.Repeat("x", 1200)} {
				d.send(pad(channelData(oneChan, payload)))
				if got, from := p.receive(); got != payload || from != relayed {
					t.Fatalf("the peer got %d bytes from %v, want %d from %v", len(got), from, len(payload), relayed)
				}
				p.send(payload, relayed)
				want := channelData(oneChan, payload)
				if d.framed {
					want = pad(want)
				}
				if got := d.receive(); string(got) != string(want) {
					t.Fatalf("the client got %x, want %x", got, want)
				}
			}
			if transport == "udp" {
				d.request(refreshRequest, wantLifetime(0))
			} else {
				d.conn.Close()
			}
			eventually(t, "the allocation ends", func() bool { return s.Allocations() == 0 })
		})
	}
}

// eventually waits for what other goroutines and the kernel bring about: they tell no test, so they are asked again.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// flaky is a listener whose first Accept fails, as one does whose client was gone again, or whose process has no descriptor left.
type flaky struct {
	net.Listener
	n atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.n.Add(1) == 1 {
		return nil, errors.New("accept: too many open files")
	}
	return f.Listener.Accept()
}

func newFlaky(t *testing.T) *flaky {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return &flaky{Listener: ln}
}

// answered reports whether a Binding request on a connection is answered before it is closed or patience ends.
func answered(t *testing.T, c net.Conn, patience time.Duration) bool {
	t.Helper()
	var id [12]byte
	c.Write(begin(nil, bindingRequest, &id))
	c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(make([]byte, 100))
	return err == nil && n > 0
}

// TestAcceptError: an error of Accept ends no listener. The bare library's goroutine is gone after it.
func TestAcceptError(t *testing.T) {
	cfg := testConfig()
	s, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ln := newFlaky(t)
	s.addListener("tcp", ln, func(c net.Conn) (net.Conn, error) { return c, nil })
	run(t, s)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !answered(t, c, patience) {
		t.Error("no answer after an error of Accept")
	}

	theirs := newFlaky(t)
	b := bareConfig()
	b.ListenerConfigs = []turn.ListenerConfig{{Listener: theirs, RelayAddressGenerator: bareRelays()}}
	p, err := turn.NewServer(b)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if c, err = net.Dial("tcp", theirs.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if answered(t, c, time.Second) {
		t.Error("the library does not have this hole any more")
	}
}

// TestHandshakeDeadline: who does not go on with a handshake is closed, and so is who does not make an allocation.
func TestHandshakeDeadline(t *testing.T) {
	cfg := allConfig(t)
	cfg.HandshakeTimeout = config.Duration(100 * time.Millisecond)
	s := start(t, cfg, Deps{})
	for _, transport := range []string{"tcp", "tls"} {
		c, err := net.Dial("tcp", s.Addrs(transport)[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: a silent connection stays", transport)
		}
	}
	half(t, s.Addrs("dtls")[0], 8)
	eventually(t, "all connections end", func() bool { return s.doors.count() == 0 && s.doors.handshakes.Load() == 0 })
}

// TestConnectionCaps: a source has as many connections as it may, and no more; it may again when one has ended.
func TestConnectionCaps(t *testing.T) {
	cfg := allConfig(t)
	cfg.SourceConnections = 3
	s := start(t, cfg, Deps{})
	var open []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", s.Addrs("tcp")[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if !answered(t, c, patience) {
			t.Fatal("a connection within the limit has no answer")
		}
		open = append(open, c)
	}
	c, err := net.Dial("tcp", s.Addrs("tcp")[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if answered(t, c, patience) {
		t.Error("a connection above the limit is served")
	}
	open[0].Close()
	eventually(t, "the connection is counted out", func() bool { return s.doors.count() == 2 })
	if c, err = net.Dial("tcp", s.Addrs("tcp")[0].String()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !answered(t, c, patience) {
		t.Error("a place that was free again is not given")
	}
}

// TestNetworkCaps: who has a network's addresses has not as many connections as all of them may have.
func TestNetworkCaps(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SourceConnections = 2
	d := newDoors(cfg)
	for i, c := range []struct {
		from string
		want bool
	}{
		{"192.0.2.1", true}, {"192.0.2.1", true}, {"192.0.2.1", false}, {"192.0.2.2", true}, {"192.0.2.2", true}, {"192.0.2.3", true}, {"192.0.2.3", true},
		{"192.0.2.4", true}, {"192.0.2.4", true}, {"192.0.2.5", false}, {"192.0.3.5", true},
		{"2001:db8:0:100::1", true}, {"2001:db8:0:1ff::1", true}, {"2001:db8:0:100::1", false}, {"2001:db8:0:200::1", true}, {"2001:db8:0:200::1", true},
		{"2001:db8:0:300::1", true}, {"2001:db8:0:300::1", true}, {"2001:db8:0:400::1", true}, {"2001:db8:0:400::1", true}, {"2001:db8:0:500::1", false},
		{"2001:db8:1:500::1", true},
	} {
		if got := d.enter(netip.MustParseAddr(c.from)); got != c.want {
			t.Errorf("step %d, %s: %v", i, c.from, got)
		}
	}
	for _, from := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3", "192.0.2.3", "192.0.2.4", "192.0.2.4", "192.0.3.5"} {
		d.leave(netip.MustParseAddr(from))
	}
	for from := range d.source {
		if from.Addr().Is4() {
			t.Errorf("%v is counted still", from)
		}
	}
}

// TestHandshakeRate: a source has as many handshakes as it may have requests, however soon it ends each.
func TestHandshakeRate(t *testing.T) {
	cfg := allConfig(t)
	cfg.SourceRate, cfg.SourceBurst = 1e-6, 3
	s := start(t, cfg, Deps{})
	for i := range 5 {
		c, err := tls.Dial("tcp", s.Addrs("tls")[0].String(), &tls.Config{InsecureSkipVerify: true})
		if ok := err == nil; ok != (i < 3) {
			t.Errorf("handshake %d: %v", i, err)
		}
		if err == nil {
			c.Close()
		}
	}
	eventually(t, "two were too many", func() bool {
		return value(s.count.turnedAway[TooFast]) == 2 && s.doors.count() == 0 && s.doors.handshakes.Load() == 0
	})
}

// TestNoOldDTLS: no source here has the DTLS v2 that turn/v3 links through stun's client, which may use a nonce twice and whose listener ends
// at the first handshake that fails; and what is linked is the last of v2.
func TestNoOldDTLS(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if strings.Contains(i.Path.Value, "pion/dtls/v2") {
				t.Errorf("%s imports %s", path, i.Path.Value)
			}
		}
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "github.com/pion/dtls/v2 v2.2.12") {
		t.Error("go.mod does not raise pion/dtls/v2")
	}
}
