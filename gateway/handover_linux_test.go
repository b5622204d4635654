package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// heir starts the process that is to replace h's, with peers of its own, and waits until it has everything.
func (h *harness) heir(socket string) *harness {
	h.t.Helper()
	t, err := DialTakeover(TakeoverOptions{Socket: socket, Node: 7, Shards: testShards, Cluster: "test"})
	if err != nil {
		h.t.Fatal(err)
	}
	n := startAs(h.t, nil, func(d *Deps) { d.Takeover, d.Incarnation, d.HandoverSocket = t, t.Incarnation(), socket })
	return n
}

func testSocket(t *testing.T) string { return filepath.Join(t.TempDir(), "g.sock") }

// mover is a client in the midst of everything when its session moves.
type mover struct {
	*raw
	at   link.Envelope // its last delivery in the old process
	rest []byte        // of the frame whose first half was sent there
}

// TestHandOver moves sessions that are in the midst of everything: half a frame has come, deliveries are unacknowledged, a message is
// unanswered. Each goes on in the new process as if nothing had happened, but for the retry.
func TestHandOver(t *testing.T) {
	socket := testSocket(t)
	h := startAs(t, nil, func(d *Deps) { d.HandoverSocket = socket })
	const sessions = 2*pageSessions + 40
	epoch := link.MakeFence(3, 9)
	var movers []*mover
	halves := 0
	for i := range sessions {
		c := &mover{raw: h.bind(stanza.Account(i + 1))}
		movers = append(movers, c)
		c.send(message(1, 9, "unanswered"))
		c.at = h.router.skipTo(link.KindMessage)
		for n := uint64(1); n <= 2; n++ {
			h.offline.send(link.Envelope{Kind: link.KindDeliver, Group: stanza.QueueGroup((i + 1) % testShards), Slot: c.at.Slot, Gen: c.at.Gen,
				Epoch: epoch, ID: n, Account: c.at.Account, Device: 1, Payload: delivery(n, "down")})
			c.wantTag(stanza.TagMessage)
		}
		frame := c.seal(message(2, 9, fmt.Sprintf("half of %d", i)))
		c.write(frame[:len(frame)/2])
		halves += len(frame) / 2
		c.rest = frame[len(frame)/2:]
	}
	h.until("halves", func() bool { return h.partials() == halves })
	n := h.heir(socket)
	if err := <-h.ended; !errors.Is(err, ErrHandedOver) {
		t.Fatalf("the old process: %v", err)
	}
	h.ended <- ErrHandedOver
	names := map[stanza.Account]link.Envelope{}
	for len(names) < sessions { // the answer to the router's hello may repeat some
		e := n.router.want(link.KindRebind)
		if e.Epoch != epoch || e.ID != 3 || e.Serial == 0 || e.Device != 1 {
			t.Fatalf("rebind %+v", e)
		}
		names[e.Account] = e
		if n.probed(e.Slot) {
			t.Fatal("the kernel probes a session that was moved")
		}
	}
	for i, c := range movers {
		c.wantTag(stanza.TagRetry)
		c.write(c.rest)
		e := n.router.skipTo(link.KindMessage)
		name := names[c.at.Account]
		if e.ID != 2 || e.Account != c.at.Account || e.Slot != name.Slot || e.Gen != name.Gen {
			t.Fatalf("session %d sent %+v", i, e)
		}
		down := link.Envelope{Kind: link.KindDeliver, Group: stanza.QueueGroup((i + 1) % testShards), Slot: e.Slot, Gen: e.Gen, Epoch: epoch,
			Account: e.Account, Device: 1}
		for id := uint64(2); id <= 3; id++ { // the second was written in the old process
			down.ID, down.Payload = id, delivery(id, "down")
			n.offline.send(down)
		}
		m, err := stanza.ParseMessageDown(c.wantTag(stanza.TagMessage))
		if err != nil || m.ID != 3 {
			t.Fatalf("session %d got %d: %v", i, m.ID, err)
		}
		ack := stanza.DeliveryAck{Count: 3}
		c.send(ack.Append(nil))
		if e := n.offline.want(link.KindDeliveryAck); e.ID != 3 || e.Epoch != epoch {
			t.Fatalf("session %d acked %+v", i, e)
		}
	}
	if got := n.g.open.Load(); got != sessions {
		t.Errorf("%d connections", got)
	}
	// The old process told nobody that they had ended.
	for len(h.router.got) > 0 {
		if e := <-h.router.got; e.Kind == link.KindUnbind {
			t.Fatalf("unbound: %+v", e)
		}
	}
	c := n.bind(5000)
	c.send(message(1, 9, "new"))
	n.router.skipTo(link.KindMessage)
	c.conn.Close()
	for _, c := range movers {
		c.conn.Close()
	}
	n.until("the end of all", func() bool { return n.g.open.Load() == 0 })
}

// TestHandOverSlowReader moves a session with bytes that its client's socket had no room for: they are sealed already, and come in order
// before anything else.
func TestHandOverSlowReader(t *testing.T) {
	socket := testSocket(t)
	h := startAs(t, nil, func(d *Deps) { d.HandoverSocket = socket })
	c := h.bind(1)
	c.send(message(1, 9, "where am I"))
	at := h.router.skipTo(link.KindMessage)
	epoch := link.MakeFence(1, 1)
	down := func(h *harness, at *link.Envelope, id uint64) {
		h.offline.send(link.Envelope{Kind: link.KindDeliver, Group: stanza.QueueGroup(1), Slot: at.Slot, Gen: at.Gen, Epoch: epoch, ID: id,
			Account: 1, Device: 1, Payload: delivery(id, strings.Repeat("x", 32<<10))})
	}
	sent := uint64(0)
	h.until("bytes that wait", func() bool {
		sent++
		down(h, &at, sent)
		return h.buffered(at.Slot) > 0
	})
	n := h.heir(socket)
	e := n.router.want(link.KindRebind)
	if e.ID > sent+1 {
		t.Fatalf("expects %d after %d", e.ID, sent)
	}
	sent = e.ID // what came behind it was held back
	for id := uint64(1); id <= sent; {
		if id == sent {
			n.until("the socket took all of it", func() bool { return n.buffered(e.Slot) == 0 })
			down(n, &e, sent)
		}
		v, err := c.next()
		must(t, err)
		if v.Tag == stanza.TagRetry {
			continue
		}
		if m, err := stanza.ParseMessageDown(v); err != nil || m.ID != id {
			t.Fatalf("got %v %d, want %d: %v", v.Tag, m.ID, id, err)
		}
		id++
	}
	c.conn.Close()
}

// probed reports whether the kernel asks by itself whether the client of a session is there.
func (h *harness) probed(self uint32) bool {
	on := make(chan int, 1)
	l := h.g.loops[self>>slotBits]
	h.onLoop(l, func() {
		v, err := unix.GetsockoptInt(l.conn(self&slotMask).Fd(), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		if err != nil {
			h.t.Error(err)
		}
		on <- v
	})
	return <-on != 0
}

// TestPageGivenUp: a loop does not take sessions off for a hand-over that has been given up meanwhile: nobody would have them.
func TestPageGivenUp(t *testing.T) {
	h := start(t, nil)
	c := h.bind(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, l := range h.g.loops {
		busy, free := make(chan struct{}), make(chan struct{})
		h.onLoop(l, func() { close(busy); <-free })
		<-busy
		if err := l.takePage(ctx, &page{}); err == nil {
			t.Error("a page of a busy loop")
		}
		close(free)
	}
	c.send(message(1, 9, "still here"))
	h.router.skipTo(link.KindMessage)
	c.conn.Close()
}

// taker plays the new process by hand.
func taker(t *testing.T, socket string) *Takeover {
	t.Helper()
	o, err := DialTakeover(TakeoverOptions{Socket: socket, Node: 7, Shards: testShards, Cluster: "test"})
	must(t, err)
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// TestHandOverFails: a new process that dies while it holds sessions which are not its own yet, or that says nonsense, costs nobody
// anything: they are taken back and connections are accepted again.
func TestHandOverFails(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(o *Takeover) error
	}{
		{"before it takes", func(*Takeover) error { return nil }},
		{"with sessions in hand", func(o *Takeover) error { return o.hold() }},
		{"with other words", func(o *Takeover) error { return errors.Join(o.hold(), o.conn.send(msgTake, nil)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := testSocket(t)
			h := startAs(t, nil, func(d *Deps) { d.HandoverSocket = socket })
			a := h.bind(1)
			half := a.seal(message(1, 9, "half"))
			a.write(half[:7])
			h.until("half", func() bool { return h.partials() == 7 })
			o := taker(t, socket)
			must(t, c.fail(o))
			must(t, o.Close())
			next := taker(t, socket) // answered when the failed one is done with
			failed, heir := link.GatewayID{Node: 7, Incarnation: o.Incarnation()}, link.GatewayID{Node: 7, Incarnation: next.Incarnation()}
			if old := (link.GatewayID{Node: 7, Incarnation: 8}); !heir.Succeeds(failed) || !failed.Succeeds(old) {
				t.Errorf("%x after %x after %x: what the failed one has left is taken for the next one's", heir.Incarnation, failed.Incarnation, old.Incarnation)
			}
			a.write(half[7:])
			if e := h.router.skipTo(link.KindMessage); e.ID != 1 || e.Account != 1 {
				t.Errorf("message %+v", e)
			}
			b := h.bind(2)
			b.send(message(1, 9, "new"))
			h.router.skipTo(link.KindMessage)
			a.conn.Close()
			b.conn.Close()
		})
	}
}

// hold takes what comes first and leaves it at that.
func (t *Takeover) hold() error {
	if err := t.conn.send(msgTake, nil); err != nil {
		return err
	}
	kind, _, fds, err := t.conn.receive(patience)
	closeAll(fds)
	if err == nil && (kind != msgSessions || len(fds) != 1) {
		err = fmt.Errorf("message %d with %d sockets", kind, len(fds))
	}
	return err
}

// TestHandOverRefused: who must not have the sessions is told, and nothing changes.
func TestHandOverRefused(t *testing.T) {
	socket := testSocket(t)
	h := startAs(t, nil, func(d *Deps) { d.HandoverSocket = socket })
	for _, o := range []TakeoverOptions{
		{Socket: socket, Node: 8, Shards: testShards, Cluster: "test"},
		{Socket: socket, Node: 7, Shards: testShards + 1, Cluster: "test"},
		{Socket: socket, Node: 7, Shards: testShards, Cluster: "other"},
	} {
		var refused *refusedError
		if _, err := DialTakeover(o); !errors.As(err, &refused) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	// More sessions than the other one holds.
	c := h.bind(1)
	o := taker(t, socket)
	must(t, o.Close())
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	must(t, err)
	defer conn.Close()
	hc := handoverConn{conn}
	full := handoverHello{version: recordVersion, node: 7, shards: testShards, cluster: "test"}
	must(t, hc.send(msgHello, full.append(nil)))
	_, err = hc.want(msgHello, patience)
	must(t, err)
	must(t, hc.send(msgTake, nil))
	if _, err := hc.want(msgSessions, patience); err == nil || !strings.Contains(err.Error(), "holds 0") {
		t.Errorf("a process without room: %v", err)
	}
	h.until("doors open", func() bool { ok, _ := h.g.Ready(); return ok })
	c.send(message(1, 9, "still here"))
	h.router.skipTo(link.KindMessage)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info.Mode(), err)
	}
	c.conn.Close()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines is a log that a test reads as it is written.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// TestAcceptGoesOn: a system that is out of files for a moment does not end upgrades for good.
func TestAcceptGoesOn(t *testing.T) {
	socket := testSocket(t)
	ln, err := listenHandover(socket)
	must(t, err)
	defer ln.Close()
	must(t, ln.SetDeadline(time.Unix(1, 0))) // any error will do
	log, accepted := make(lines, 16), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	accept := func() {
		c, err := acceptNext(ctx, ln, slog.New(slog.NewTextHandler(log, nil)))
		if err == nil {
			err = c.Close()
		}
		accepted <- err
	}
	go accept()
	select {
	case line := <-log:
		if !strings.Contains(line, "level=WARN") {
			t.Error(line)
		}
	case err := <-accepted:
		t.Fatal("it does not go on: ", err)
	}
	must(t, ln.SetDeadline(time.Time{}))
	c, err := net.Dial("unix", socket)
	must(t, err)
	defer c.Close()
	must(t, <-accepted)
	must(t, ln.SetDeadline(time.Unix(1, 0)))
	go accept()
	<-log
	cancel()
	if err := <-accepted; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
