package turnd

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/transport/v5/deadline"
)

// listenDTLS opens a UDP socket whose packets are DTLS. pion's own listener has no
// limits and no deadline for who begins a handshake: it is left aside. Flows are told apart by address here, are counted like any
// connection, and do their handshake each on its own.
func (s *Server) listenDTLS(addr string) error {
	if errOffset != nil {
		return errOffset
	}
	sock, err := openSocket(s.count, "udp", addr, false, socketBuffer)
	if err != nil {
		return err
	}
	d := &dtlsListener{server: s, sock: sock, flows: map[netip.AddrPort]*flow{}}
	d.front = s.addFront("dtls", sock.conn.LocalAddr(), true)
	s.closers = append(s.closers, sock.close)
	s.loops = append(s.loops, func() error { return sock.serve(0, d.packet) })
	return nil
}

// dtlsListener tells the flows of one socket apart.
type dtlsListener struct {
	server *Server
	front  *front
	sock   *socket

	mu    sync.Mutex
	flows map[netip.AddrPort]*flow
}

// flowPackets is how many packets may wait for one flow.
const flowPackets = 32

// packet gives a packet to its flow; a ClientHello of another handshake than the flow's may begin one. It is called on one goroutine.
func (d *dtlsListener) packet(p []byte, from netip.AddrPort) {
	d.mu.Lock()
	x := d.flows[from]
	d.mu.Unlock()
	var h hello
	switch {
	case h.parse(p) && (x == nil || string(h.random) != string(x.random)):
		d.hello(&h, from, x)
	case x == nil:
		d.server.count.drop(NotTURN)
	default:
		select {
		case x.in <- slices.Clone(p):
		default:
			d.server.count.drop(Busy)
		}
	}
}

// hello asks a client for a cookie, and begins a flow when it has shown one. Who began anew from an address that has a flow has nothing of
// what that one was for (RFC 6347 4.2.8).
func (d *dtlsListener) hello(h *hello, from netip.AddrPort, former *flow) {
	s := d.server
	if !s.cookies.valid(h.cookie, from) {
		_ = d.sock.send(h.verify(s.cookies.append(nil, from)), from)
		return
	}
	if h.number != 1 || h.record == 0 { // it never had a first one
		s.count.drop(NotTURN)
		return
	}
	if former != nil {
		_ = former.Close()
	}
	x := &flow{
		listener: d, client: from, in: make(chan []byte, flowPackets), over: make(chan struct{}), until: deadline.New(),
		random: slices.Clone(h.random), cookie: slices.Clone(h.cookie), records: h.record - 1,
	}
	x.in <- h.first()
	x.in <- slices.Clone(h.raw)
	d.mu.Lock()
	d.flows[from] = x
	d.mu.Unlock()
	s.admitConn(d.front, x, d.shake, false)
}

// shake does the handshake.
func (d *dtlsListener) shake(c net.Conn) (net.Conn, error) {
	s, x := d.server, c.(*flow)
	conn, err := dtls.ServerWithOptions(x, x.RemoteAddr(),
		dtls.WithLoggerFactory(silence{}),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithGetCertificate(func(*dtls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Current(), nil }),
	)
	if err != nil {
		return nil, err
	}
	x.conn = conn
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.HandshakeTimeout.D())
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// flow is what comes from one address: a net.PacketConn for pion's DTLS, and a net.Conn for what counts connections.
type flow struct {
	listener *dtlsListener
	client   netip.AddrPort
	random   []byte // of the handshake that it began with
	cookie   []byte
	records  uint64     // that the client had and pion does not know of
	conn     *dtls.Conn // set before its handshake
	in       chan []byte
	until    *deadline.Deadline // of reading
	once     sync.Once
	over     chan struct{}
}

var (
	_ net.PacketConn = (*flow)(nil)
	_ net.Conn       = (*flow)(nil)
)

// Read reads one packet.
func (x *flow) Read(p []byte) (int, error) {
	select {
	case b := <-x.in:
		return copy(p, b), nil
	case <-x.until.Done():
		return 0, os.ErrDeadlineExceeded
	case <-x.over:
		return 0, net.ErrClosed
	}
}

// ReadFrom reads one packet.
func (x *flow) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := x.Read(p)
	return n, x.RemoteAddr(), err
}

// Write sends one packet of pion's, but the one that asks for a cookie.
func (x *flow) Write(p []byte) (int, error) {
	if handshakeOf(p, verifyRequest) {
		expect(x.conn, x.cookie)
		return len(p), nil
	}
	select {
	case <-x.over: // its address may have another one
		return 0, net.ErrClosed
	default:
	}
	if x.records > 0 {
		p = renumbered(p, x.records)
	}
	return len(p), x.listener.sock.send(p, x.client)
}

// WriteTo sends one packet.
func (x *flow) WriteTo(p []byte, _ net.Addr) (int, error) { return x.Write(p) }

// Close forgets the flow. It may be called twice.
func (x *flow) Close() error {
	d := x.listener
	d.mu.Lock()
	if d.flows[x.client] == x {
		delete(d.flows, x.client)
	}
	d.mu.Unlock()
	x.once.Do(func() { close(x.over) })
	return nil
}

// LocalAddr returns the listener's address.
func (x *flow) LocalAddr() net.Addr { return x.listener.sock.conn.LocalAddr() }

// RemoteAddr returns the client's.
func (x *flow) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(x.client) }

// SetDeadline bounds reading; writing waits for nothing.
func (x *flow) SetDeadline(t time.Time) error { return x.SetReadDeadline(t) }

// SetReadDeadline bounds reading.
func (x *flow) SetReadDeadline(t time.Time) error {
	x.until.Set(t)
	return nil
}

// SetWriteDeadline does nothing.
func (x *flow) SetWriteDeadline(time.Time) error { return nil }
