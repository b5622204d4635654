package gateway

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/config"
	reasons "linecard.example/internal/metrics"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// proxyHeader is what a balancer puts before the connection of a client, LOCAL when the address is not valid.
func proxyHeader(client netip.Addr) []byte {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20, 0, 0, 0)
	if client.IsValid() {
		b[12], b[13] = 0x21, 0x11
		if client.Is6() {
			b[13] = 0x21
		}
		b = append(b, client.AsSlice()...)
		b = append(b, make([]byte, client.BitLen()/8)...)
		b = append(b, 0x82, 0x35, 0x1C, 0xE8)
	}
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	return b
}

// balancer forwards connections to a gateway, each with the header that header returns before it.
func (h *harness) balancer(header func() []byte) (addr string) {
	h.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", h.g.Addr().String())
			if err != nil {
				h.t.Error(err)
				_ = client.Close()
				return
			}
			if _, err := server.Write(header()); err != nil {
				h.t.Error(err)
			}
			wg.Go(func() { pipe(server, client) })
			wg.Go(func() { pipe(client, server) })
		}
	})
	h.t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// pipe copies until either side ends, and ends both.
func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

// dialAt is dial through a balancer.
func (h *harness) dialAt(addr string) *raw {
	h.t.Helper()
	c := h.dialOnly()
	c.conn.Close()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		h.t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	h.t.Cleanup(func() { conn.Close() })
	c.conn = conn
	return c
}

// TestBehindABalancer: limits go by the address that the balancer tells, whatever address it has itself.
func TestBehindABalancer(t *testing.T) {
	h := start(t, func(c *Config) {
		c.ProxySources = []string{"127.0.0.0/8"}
		c.HandshakeBurst, c.HandshakeRate = 2, 1
	})
	var mu sync.Mutex
	var client netip.Addr
	front := h.balancer(func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return proxyHeader(client)
	})
	account := stanza.Account(4)
	try := func(from string, welcome bool) {
		t.Helper()
		mu.Lock()
		client = netip.MustParseAddr(from)
		mu.Unlock()
		c := h.dialAt(front)
		c.t = t
		c.preamble()
		if !welcome {
			hello, _ := wire.NewInitiator(c.identity, nil).AppendHello(nil, c.early)
			c.write(hello)
			c.wantRefused(stanza.ReasonBusy)
			return
		}
		account++
		c.handshake((&stanza.Bind{Account: account, Device: 1}).Append(nil))
		c.wantTag(stanza.TagBound)
		c.send(stanza.Ping{}.Append(nil))
		c.wantTag(stanza.TagPong)
	}
	for _, step := range []struct {
		from    string
		welcome bool
	}{
		{"192.0.2.1", true}, {"192.0.2.1", true}, {"192.0.2.1", false},
		{"::ffff:192.0.2.1", false},                                                            // the same
		{"192.0.2.2", true},                                                                    // another host of the network
		{"2001:db8:1:200::1", true}, {"2001:db8:1:2ff::2", true}, {"2001:db8:1:211::3", false}, // one /56
		{"2001:db8:1:300::1", true},
		{"127.0.0.1", true}, // no client has used up the balancer's own
	} {
		try(step.from, step.welcome)
	}
}

// TestProxyHeaderRequired: a balancer that does not say for whom it comes is refused, with a reason and a line that names it.
func TestProxyHeaderRequired(t *testing.T) {
	good := proxyHeader(netip.MustParseAddr("192.0.2.1"))
	short := append([]byte(nil), good...)
	short[15] = 11
	for name, send := range map[string][]byte{
		"none":        wire.Preamble[:],
		"one byte":    {'L'},
		"text":        []byte("PROXY TCP4 192.0.2.1 198.51.100.1 33333 7400\r\nLC\x01\x00"),
		"no protocol": append(append([]byte(nil), good[:13]...), append([]byte{0x99}, good[14:]...)...),
		"short":       short,
		"long":        append(append([]byte(nil), good[:14]...), 0xFF, 0xFF),
	} {
		t.Run(name, func(t *testing.T) {
			lines := &bytes.Buffer{} // of this goroutine: what the links log is no warning
			log := slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelWarn}))
			b := newLoggingBench(t, log)
			b.g.lines = reasons.NewLines(log, reasons.Budget{Burst: 1, Every: time.Hour})
			for range 2 { // the second is beyond the budget of lines
				h, conn := b.dial(true)
				conn.in = send
				if b.l.onHandshake(h, conn); !h.gone || wantRefusal(conn.out) != stanza.ReasonBadProxyHeader {
					t.Fatalf("gone %v, answered %x", h.gone, conn.out)
				}
			}
			if s := lines.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "reason=bad_proxy_header from=10.0.0.7 err=") {
				t.Errorf("logged %q", s)
			}
		})
	}
}

// dial is a new connection of 10.0.0.7 on the bench's loop, which is a balancer's or not.
func (b *bench) dial(balancer bool) (*handshake, *keptConn) {
	conn := &keptConn{stubConn: stubConn{remote: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7)}}}
	h := &handshake{conn: conn, source: sourceOf(remoteOf(conn)), opened: b.l.tick}
	if balancer {
		h.stage, h.check = stageProxy, true
	}
	conn.context = h
	b.l.early.add(h)
	return h, conn
}

// wantRefusal returns the reason in the one refused frame that out is, 0 if it is something else.
func wantRefusal(out []byte) stanza.Reason {
	if n, ok := wire.FrameLen(out); !ok || len(out) != wire.LenSize+n {
		return 0
	}
	reason, _, _ := wire.ParseRefused(out[wire.LenSize:])
	return reason
}

// TestProxyHeaderInPieces: a header and what follows it may be cut anywhere, and the source is the client's before anything is asked of
// the limits.
func TestProxyHeaderInPieces(t *testing.T) {
	hello, err := wire.NewInitiator(newBench(t).g.deps.Static, nil).AppendHello(nil, wire.Preamble[:])
	if err != nil {
		t.Fatal(err)
	}
	client := netip.MustParseAddr("2001:db8::1")
	in := append(append(proxyHeader(client), wire.Preamble[:]...), hello...)
	b := newBench(t)
	for cut := range len(in) + 1 {
		h, conn := b.dial(true)
		for i, part := range [][]byte{in[:cut], in[cut:]} {
			conn.in = append(append([]byte(nil), conn.in...), part...)
			b.l.onHandshake(h, conn)
			if i == 0 && b.l.partials.bytes != len(conn.in) {
				t.Fatalf("cut at %d: %d bytes wait, %d are counted", cut, len(conn.in), b.l.partials.bytes)
			}
		}
		if h.stage != stageHelloStep || h.source != sourceOf(client) || !bytes.Equal(h.transcript, wire.Preamble[:]) || b.l.partials.bytes != 0 {
			t.Fatalf("cut at %d: stage %d, transcript %x, answered %x", cut, h.stage, h.transcript, conn.out)
		}
		b.l.handshakeClosed(h)
		b.l.steps.next()
	}
}

// TestProxyHeaderOfAStranger: whoever is not listed cannot claim an address.
func TestProxyHeaderOfAStranger(t *testing.T) {
	for name, sources := range map[string][]string{"off": nil, "another network": {"10.0.0.0/8", "::1"}} {
		t.Run(name, func(t *testing.T) {
			h := start(t, func(c *Config) { c.ProxySources = sources })
			c := h.dial()
			c.write(proxyHeader(netip.MustParseAddr("192.0.2.1")))
			c.wantRefused(stanza.ReasonBadPreamble)
			h.bind(5)
		})
	}
}

// TestHealthChecks: a check of a balancer is no failed handshake, and one that goes on is a client at the balancer's address.
func TestHealthChecks(t *testing.T) {
	h := start(t, func(c *Config) { c.ProxySources = []string{"127.0.0.1"} })
	local := proxyHeader(netip.Addr{})
	for i, send := range [][]byte{nil, local, nil, local} {
		c := h.dial()
		c.write(send)
		h.until("the connection", func() bool { return h.g.open.Load() == 1 })
		if i >= 2 { // with a reset, as HAProxy ends its checks
			_ = c.conn.(*net.TCPConn).SetLinger(0)
		}
		c.conn.Close()
		h.until("its end", func() bool { return h.g.open.Load() == 0 })
	}
	const results = "linecard_gateway_handshakes_total"
	if n := h.count(results, "check"); n != 4 {
		t.Errorf("%v checks, want 4", n)
	}
	for _, send := range [][]byte{local[:5], append(local[:16:16], 'L'), proxyHeader(netip.MustParseAddr("192.0.2.1"))} {
		c := h.dial()
		before := h.count(results, "peer_closed")
		c.write(send)
		h.until("the connection", func() bool { return h.g.open.Load() == 1 })
		_ = c.conn.(*net.TCPConn).CloseWrite()
		h.until("its end", func() bool { return h.count(results, "peer_closed") == before+1 })
	}
	if n, checks := h.count(results, "peer_closed"), h.count(results, "check"); n != 3 || checks != 4 {
		t.Errorf("%v gave up and %v checks, want 3 and 4", n, checks)
	}
	c := h.dial()
	c.write(local)
	c.preamble()
	c.handshake((&stanza.Bind{Account: 5, Device: 1}).Append(nil))
	c.wantTag(stanza.TagBound)
}

// TestProxyHeaderDeadline: half a header has the handshake's deadline, and counts as an unfinished frame until then.
func TestProxyHeaderDeadline(t *testing.T) {
	h := start(t, func(c *Config) {
		c.ProxySources = []string{"127.0.0.1"}
		c.Loops, c.PartialTimeout = 1, config.Duration(time.Minute)
	})
	half := proxyHeader(netip.MustParseAddr("192.0.2.1"))[:20]
	slow := h.dial()
	slow.write(half)
	h.until("the bytes", func() bool { return h.partials() == 20 })
	h.advance(9 * time.Second)
	h.advance(2 * time.Second)
	slow.wantRefused(stanza.ReasonHandshakeTimeout)
	h.until("nothing left", func() bool { return h.partials() == 0 })

	h.onLoopWait(h.g.loops[0], func() { h.g.partialBytes = 50 })
	first, second := h.dial(), h.dial()
	first.write(half)
	h.until("the bytes", func() bool { return h.partials() == 20 })
	second.write(half)
	h.until("the bytes", func() bool { return h.partials() == 40 })
	third := h.dial()
	third.write(half)
	first.wantRefused(stanza.ReasonPartialTimeout)
	h.until("room", func() bool { return h.partials() == 40 })
	third.conn.Close()
	h.until("the other's", func() bool { return h.partials() == 20 })
	h.onLoopWait(h.g.loops[0], func() { h.g.partialBytes = 19 })
	second.write(proxyHeader(netip.MustParseAddr("192.0.2.1"))[20:21])
	second.wantRefused(stanza.ReasonPartialTimeout) // alone above the budget
}

func TestProxySources(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ProxySources = []string{"10.0.0.7", "10.1.0.0/16", "2001:db8::/64", "::1"}
	if faults := cfg.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	g, err := New(cfg, Deps{Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	for ip, want := range map[string]bool{
		"10.0.0.7": true, "10.0.0.8": false, "10.1.255.255": true, "::ffff:10.0.0.7": true, "2001:db8::9": true, "2001:db8:0:1::9": false,
		"::1": true, "::": false,
	} {
		if got := g.forwards(remoteOf(&stubConn{remote: &net.TCPAddr{IP: net.ParseIP(ip)}})); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
	if g.forwards(remoteOf(&stubConn{remote: &net.UnixAddr{}})) {
		t.Error("a socket without an address")
	}
	cfg.ProxySources = []string{"", "balancer.example", "10.0.0.1/8", "10.0.0.0/33", "::ffff:10.0.0.0/104", "fe80::1%eth0", "10.0.0.0/8"}
	faults := cfg.Validate()
	if len(faults) != 6 || !strings.HasPrefix(faults[0].Error(), "gateway.proxy_sources: ") || !strings.Contains(faults[2].Error(), "want 10.0.0.0/8") {
		t.Errorf("%q", faults)
	}
	cfg.ProxySources = make([]string, maxProxySources+1)
	for i := range cfg.ProxySources {
		cfg.ProxySources[i] = "::1"
	}
	if faults := cfg.Validate(); len(faults) != 1 {
		t.Errorf("%q", faults)
	}
}
