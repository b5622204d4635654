package gateway

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// bench is one loop without an engine: the test is its event loop.
type bench struct {
	g    *Gateway
	l    *loop
	conn *stubConn
	s    *session
	gen  uint32
	seal *wire.Sealer
	tx   uint64

	clock *fakeClock
}

// stubLoop is an event loop that never runs anything by itself.
type stubLoop struct {
	gnet.EventLoop
	ev *events
}

func (stubLoop) Execute(context.Context, gnet.Runnable) error { return nil }

func (s stubLoop) Close(c gnet.Conn) error {
	s.ev.OnClose(c, nil)
	return nil
}

// stubConn is a connection that reads what the test puts in and swallows what is written.
type stubConn struct {
	gnet.Conn
	in      []byte
	context any
	written int
	remote  net.Addr
	loop    gnet.EventLoop
}

func (c *stubConn) EventLoop() gnet.EventLoop { return c.loop }

func (c *stubConn) RemoteAddr() net.Addr { return c.remote }

func (c *stubConn) Peek(n int) ([]byte, error) {
	if n <= 0 {
		n = len(c.in)
	}
	return c.in[:n], nil
}

func (c *stubConn) Discard(n int) (int, error) {
	if n <= 0 || n > len(c.in) {
		n = len(c.in)
	}
	c.in = c.in[n:]
	return n, nil
}

func (c *stubConn) Write(b []byte) (int, error) {
	c.written += len(b)
	return len(b), nil
}

func (c *stubConn) InboundBuffered() int  { return len(c.in) }
func (c *stubConn) OutboundBuffered() int { return 0 }
func (c *stubConn) Fd() int               { return -1 }
func (c *stubConn) Context() any          { return c.context }
func (c *stubConn) SetContext(x any)      { c.context = x }

// sink is a peer that takes everything and gives the credits back.
type sink struct{ leads func(*link.Stream) }

func (s sink) Up(st *link.Stream)     { s.leads(st) }
func (sink) Down(*link.Stream, error) {}
func (sink) Receive(s *link.Stream, batch []link.Envelope) {
	for i := range batch {
		s.Done(batch[i].Group, batch[i].Size())
	}
}

func newBench(tb testing.TB) *bench {
	tb.Helper()
	return newLoggingBench(tb, nil)
}

func newLoggingBench(tb testing.TB, log *slog.Logger) *bench {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.Loops, cfg.SendRate, cfg.SendBurst = 1, 60000, 65535
	static, _ := wire.GenerateKeypair(nil)
	clock := &fakeClock{now: time.Unix(1_800_000_000, 0)}
	g, err := New(cfg, Deps{Shards: testShards, Cluster: "test", Static: static, Clock: clock.Now, Logger: log})
	if err != nil {
		tb.Fatal(err)
	}
	for _, role := range []link.Role{link.RoleRouter, link.RoleOffline} {
		info := link.Info{Role: role, Node: 1, Shards: testShards, Cluster: "test"}
		peer := link.NewEndpoint(info, sink{func(s *link.Stream) {
			for shard := range testShards {
				group := stanza.DirGroup(shard)
				if role == link.RoleOffline {
					group = stanza.QueueGroup(shard)
				}
				_ = s.Send(&link.Envelope{Kind: link.KindHello, Group: group, Term: 1})
			}
		}}, link.Options{})
		tb.Cleanup(link.Connect(g.Endpoint(), peer))
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // until the streams' goroutines have brought every hello
		if _, missing := g.leaderless(); !missing {
			break
		}
		if time.Now().After(end) {
			tb.Fatal("no hello")
		}
	}
	b := &bench{g: g, l: g.loops[0], conn: &stubConn{}, seal: wire.NewSealer(), clock: clock}
	x := executor(stubLoop{ev: &events{g: g}})
	b.l.el.Store(&x)
	var f wire.Finish
	h := &handshake{conn: b.conn}
	b.s, b.gen = b.l.newSession(h, &f, &request{account: 5, device: 1})
	bound := stanza.Bound{Account: 5, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18}
	b.l.bound(b.s, &link.Envelope{Account: 5, Device: 1, Serial: 1, Gen: b.gen, Payload: boundPayload(&bound)})
	b.l.turn()
	return b
}

// feed has the session read frames, each of them plain.
func (b *bench) feed(buf []byte, plain []byte, frames int) []byte {
	buf = buf[:0]
	for range frames {
		buf = b.seal.AppendSealedFrame(buf, &b.s.rx, b.tx, plain)
		b.tx++
	}
	b.conn.in = buf
	b.l.onSession(b.s, b.conn)
	return buf
}

// TestInboundAllocates nothing: opening, decoding, forwarding and settling messages. What the link allocates for its batches, which
// its receivers may keep, is counted with them and bounded here by one in eight messages.
func TestInboundAllocates(t *testing.T) {
	b := newBench(t)
	buf := make([]byte, 0, 1<<16)
	plain := []byte{0}
	const n = 32
	for id := uint64(1); id <= n; id++ {
		plain = append(plain, message(id, 6, "sixty-four bytes are what such a message usually has, more or less")...)
	}
	acks := make([]link.Envelope, n)
	got := testing.AllocsPerRun(200, func() {
		buf = b.feed(buf, plain, 1)
		for i := range acks {
			acks[i] = link.Envelope{Kind: link.KindAck, Slot: b.s.self, Gen: b.gen, ID: uint64(i + 1), Charge: 90}
			b.l.receive(nil, &acks[i])
		}
		b.l.flush()
	})
	if b.s.state != stateBound || b.s.inflight != 0 {
		t.Fatalf("state %d, %d unanswered", b.s.state, b.s.inflight)
	}
	t.Logf("%v allocations for %d messages and acks", got, n)
	if got > n/8 {
		t.Errorf("%v allocations for %d messages and acks", got, n)
	}
}

// TestQuietInboundAllocates: what stays in the gateway allocates nothing at all.
func TestQuietInboundAllocates(t *testing.T) {
	b := newBench(t)
	buf := make([]byte, 0, 1<<16)
	ping := append([]byte{0}, stanza.Ping{}.Append(nil)...)
	if got := testing.AllocsPerRun(200, func() {
		buf = b.feed(buf, ping, 8)
		b.l.flush()
	}); got != 0 {
		t.Errorf("%v allocations for 8 pings", got)
	}
	tooLarge := append([]byte{0}, message(1, 6, "x")...)
	b.g.maxMessage = 3
	if got := testing.AllocsPerRun(200, func() {
		buf = b.feed(buf, tooLarge, 8)
		b.l.flush()
	}); got != 0 {
		t.Errorf("%v allocations for 8 refusals", got)
	}
	if b.s.state != stateBound {
		t.Fatal("closed")
	}
}

// TestDownlinkAllocates nothing: from an envelope to the sealed bytes, cut into several frames.
func TestDownlinkAllocates(t *testing.T) {
	b := newBench(t)
	const n = 32
	payload := delivery(1, string(make([]byte, 4000)))
	envs := make([]link.Envelope, n)
	number := uint64(0)
	got := testing.AllocsPerRun(200, func() {
		for i := range envs {
			number++
			envs[i] = link.Envelope{
				Kind: link.KindDeliver, Group: stanza.QueueGroup(1), Slot: b.s.self, Gen: b.gen, Epoch: 7, ID: number, Payload: payload,
			}
			b.l.receive(nil, &envs[i])
		}
		b.s.unacked = 0 // the client's acks have a test of their own
		b.l.flush()
	})
	if b.s.state != stateBound || b.s.written != uint32(number) || b.conn.written < 200*n*4000 {
		t.Fatalf("state %d, written %d of %d, %d bytes", b.s.state, b.s.written, number, b.conn.written)
	}
	if got != 0 {
		t.Errorf("%v allocations for %d deliveries", got, n)
	}
}

// BenchmarkUp is a message of 64 bytes up and its ack down, eight to a frame, without sockets.
func BenchmarkUp(b *testing.B) {
	x := newBench(b)
	buf := make([]byte, 0, 1<<16)
	plain := []byte{0}
	for id := uint64(1); id <= 8; id++ {
		plain = append(plain, message(id, 6, string(make([]byte, 64)))...)
	}
	b.ReportAllocs()
	for b.Loop() {
		buf = x.feed(buf, plain, 1)
		for id := uint64(1); id <= 8; id++ {
			x.l.receive(nil, &link.Envelope{Kind: link.KindAck, Slot: x.s.self, Gen: x.gen, ID: id, Charge: 90})
		}
		x.s.send = 60000
		x.l.flush()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/8, "ns/message")
}

// BenchmarkDown is deliveries of 64 bytes, eight to a turn, without sockets.
func BenchmarkDown(b *testing.B) {
	x := newBench(b)
	payload := delivery(1, string(make([]byte, 64)))
	e := link.Envelope{Kind: link.KindDeliver, Group: stanza.QueueGroup(1), Slot: x.s.self, Gen: x.gen, Epoch: 7, Payload: payload}
	b.ReportAllocs()
	for b.Loop() {
		for range 8 {
			e.ID++
			x.l.receive(nil, &e)
		}
		x.s.unacked = 0
		x.l.flush()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/8, "ns/message")
}

// TestFullTurn: a turn with more outboxes than there are numbers writes in between, and what is pushed then stays what it is.
func TestFullTurn(t *testing.T) {
	b := newBench(t)
	other, _ := b.l.newSession(&handshake{conn: &stubConn{}}, &wire.Finish{}, &request{account: 6, device: 1})
	b.l.pushAck(other, 1<<40)
	b.l.boxes = append(b.l.boxes, make([]outbox, maxBoxes-len(b.l.boxes))...)
	b.l.dirty = maxBoxes
	b.l.refuse(b.s, 9, stanza.ReasonBusy, 1)
	err := stanza.DecodeFrame(b.l.box(b.s).plain, func(v stanza.View) error {
		r, err := stanza.ParseRefused(v)
		if err == nil && r.ID != 9 {
			t.Errorf("refused %d", r.ID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
