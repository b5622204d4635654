package swarm

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linecard.example/internal/testkit"
	"linecard.example/internal/wire"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testkit.RemoveBinary()
	os.Exit(code)
}

// limit bounds every wait of these tests. Nothing is asserted about how long anything takes.
const limit = 2 * time.Minute

// lifted takes the limits of one source address out of the way.
const lifted = "handshake_rate = 1e9\nhandshake_burst = 1000000\nregister_rate = 1e9\nregister_burst = 1000000\n"

// configOf returns a configuration for n sessions on a system.
func configOf(t testing.TB, sys *testkit.System, n int) Config {
	t.Helper()
	root, err := os.ReadFile(sys.Root)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Servers: []netip.AddrPort{netip.MustParseAddrPort(sys.Server)}, Root: strings.TrimSpace(string(root)),
		Sessions: n, Prefix: "s-", Seed: t.Name(), Tickets: true,
	}
}

func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func waitFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// until polls for a condition of an engine's counters.
func until(t testing.TB, e *Engine, what string, ok func(Counters) bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(e.Counters()); time.Sleep(5 * time.Millisecond) { // an engine counts and tells nobody
		if time.Now().After(end) {
			t.Fatalf("%s: %+v", what, e.Counters())
		}
	}
}

func openAll(t testing.TB, e *Engine, n int) Opened {
	t.Helper()
	o, err := e.Open(waitFor(t), Open{Range: Range{Count: n}})
	if err != nil || o.Bound != n || o.Attempts != uint64(n) || o.Setup.Count() != int64(n) {
		t.Fatalf("%d of %d sessions are bound: %v; %+v", o.Bound, n, err, e.Counters())
	}
	return o
}

// wantWhole fails unless all of n messages were acked and arrived once, in order.
func wantWhole(t testing.TB, tr Traffic, err error, n uint64) {
	t.Helper()
	if err != nil || tr.Sent != n || tr.Acked != n || tr.Delivered != n ||
		tr.Lost+tr.Unacked+tr.Unsent+tr.Rejected+tr.Doubled+tr.Disordered+tr.Corrupt+tr.Redelivered != 0 || tr.Ack.Count() != int64(n) {
		t.Fatalf("of %d messages: %+v, %v", n, tr, err)
	}
}

func TestEngine(t *testing.T) {
	const sessions = 200
	all := Range{Count: sessions}
	e := newEngine(t, configOf(t, testkit.Start(t, testkit.Inside, testkit.Settings{Gateway: lifted}), sessions))
	openAll(t, e, sessions)

	tr, err := e.Pairs(waitFor(t), Pairs{Range: all, Size: 64, Messages: 50})
	wantWhole(t, tr, err, 50*sessions/2)
	if tr.Receipts != tr.Sent || tr.Deliver.Count() != int64(tr.Sent) {
		t.Errorf("receipts for %d, delivery of %d measured, of %d", tr.Receipts, tr.Deliver.Count(), tr.Sent)
	}
	tr, err = e.Pairs(waitFor(t), Pairs{Range: all, Size: 500, Messages: 20, InFlight: 32, AckEvery: 8, AckWait: 20 * time.Millisecond, Reads: true})
	wantWhole(t, tr, err, 20*sessions/2)
	if tr.Reads == 0 {
		t.Error("no read receipts")
	}
	tr, err = e.Pairs(waitFor(t), Pairs{Range: Range{From: 10, Count: 40}, Size: MinSize, Rate: 2000, Duration: 300 * time.Millisecond})
	wantWhole(t, tr, err, 600)

	p, err := e.Ping(waitFor(t), Ping{Range: all})
	if err != nil || p.Asked != sessions || p.Pongs != sessions || p.RTT.Count() != sessions {
		t.Errorf("pings: %+v, %v", p, err)
	}
	if c := e.Counters(); c.Bound != sessions || len(c.Lost) != 0 || len(c.Failed) != 0 {
		t.Errorf("after traffic: %+v", c)
	}
}

// TestCutAndResume cuts sessions with messages under way: they come back by ticket, and everything arrives.
func TestCutAndResume(t *testing.T) {
	const sessions, messages = 60, 400
	all := Range{Count: sessions}
	e := newEngine(t, configOf(t, testkit.Start(t, testkit.Inside, testkit.Settings{Gateway: lifted}), sessions))
	openAll(t, e, sessions)
	type end struct {
		Traffic
		err error
	}
	over := make(chan end, 1)
	go func() {
		tr, err := e.Pairs(waitFor(t), Pairs{Range: all, Size: 64, Messages: messages})
		over <- end{tr, err}
	}()
	until(t, e, "messages on their way", func(c Counters) bool { return c.Acked > sessions })
	s, err := e.Cut(waitFor(t), Cut{Range: all, Reset: true})
	if err != nil || s.Lost != sessions || s.Bound != sessions || s.Resumed == 0 || s.Back.Count() != sessions {
		t.Fatalf("the cut: %+v, %v, %+v", s, err, e.Counters())
	}
	tr := <-over
	tr.Redelivered = 0 // the cut's
	wantWhole(t, tr.Traffic, tr.err, messages*sessions/2)

	// With tickets that nobody sealed: XX on the same connection.
	_ = e.call(func() error {
		for n := range uint32(sessions) {
			e.loop.tickets.put(n, bytes.Repeat([]byte{1}, wire.KeySize+wire.TicketSize))
		}
		return nil
	})
	s, err = e.Cut(waitFor(t), Cut{Range: all, Reset: true})
	if c := e.Counters(); err != nil || s.Bound != sessions || s.Resumed != 0 || s.Attempts != sessions || c.UseXX != sessions {
		t.Fatalf("with bad tickets: %+v, %v, %+v", s, err, c)
	}
	// Without their tickets, and by FIN.
	if s, err = e.Cut(waitFor(t), Cut{Range: Range{Count: sessions, Step: 3}, Mode: Bind}); err != nil || s.Bound != sessions/3 || s.Resumed != 0 {
		t.Fatalf("the second cut: %+v, %v, %+v", s, err, e.Counters())
	}
	// Hung up and opened again, they are the same accounts: messages for them waited.
	away := Range{From: 1, Count: sessions - 1, Step: 2}
	if err := e.Hangup(waitFor(t), away); err != nil {
		t.Fatal(err)
	}
	blind, err := e.Pairs(waitFor(t), Pairs{Range: all, Size: 64, Messages: 10, Blind: true})
	if err != nil || blind.Acked != 10*sessions/2 || blind.Delivered != 0 {
		t.Fatalf("to who is away: %+v, %v", blind, err)
	}
	if o, err := e.Open(waitFor(t), Open{Range: away, Mode: Resume}); err != nil || o.Bound != sessions/2 {
		t.Fatalf("opened again: %+v, %v", o, err)
	}
	for end := time.Now().Add(limit); blind.Delivered < blind.Acked; time.Sleep(5 * time.Millisecond) { // an engine counts and tells nobody
		if blind, err = e.Report(); err != nil || time.Now().After(end) {
			t.Fatalf("what waited: %+v, %v", blind, err)
		}
	}
	if blind.Doubled+blind.Disordered+blind.Corrupt != 0 {
		t.Errorf("what waited: %+v", blind)
	}
}

// TestSlow: who does not read gets nothing, costs nobody his messages, and has them when he reads again.
func TestSlow(t *testing.T) {
	const sessions = 20
	all := Range{Count: sessions}
	e := newEngine(t, configOf(t, testkit.Start(t, testkit.Inside, testkit.Settings{Gateway: lifted}), sessions))
	openAll(t, e, sessions)
	deaf := Range{From: 1, Count: sessions - 1, Step: 2}
	if err := e.Hangup(waitFor(t), deaf); err != nil {
		t.Fatal(err)
	}
	if o, err := e.Open(waitFor(t), Open{Range: deaf, Mode: Bind, Far: true}); err != nil || o.Bound != sessions/2 {
		t.Fatalf("far away: %+v, %v", o, err)
	}
	wantFar(t, e, 1, true)
	wantFar(t, e, 2, false)
	if err := e.Slow(waitFor(t), Slow{Range: deaf}); err != nil {
		t.Fatal(err)
	}
	tr, err := e.Pairs(waitFor(t), Pairs{Range: all, Size: 1000, Messages: 20, Blind: true})
	if err != nil || tr.Acked != 20*sessions/2 || tr.Delivered != 0 {
		t.Fatalf("%+v, %v", tr, err)
	}
	if err := e.Slow(waitFor(t), Slow{Range: deaf, Off: true}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(limit); tr.Delivered < tr.Acked; time.Sleep(5 * time.Millisecond) { // an engine counts and tells nobody
		if tr, err = e.Report(); err != nil || time.Now().After(end) {
			t.Fatalf("reading again: %+v, %v, %+v", tr, err, e.Counters())
		}
	}
}

// wantFar checks a session's socket.
func wantFar(t *testing.T, e *Engine, n uint32, want bool) {
	t.Helper()
	var buffer int
	if err := e.call(func() (err error) {
		buffer, err = unix.GetsockoptInt(int(e.loop.slots.At(n).fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		return err
	}); err != nil || (buffer <= 2*farBuffer) != want { // Linux doubles what is asked for
		t.Errorf("session %d: a receive buffer of %d, %v", n, buffer, err)
	}
}

// TestFinish: an order without an end in sight ends when it is told to, with nothing lost.
func TestFinish(t *testing.T) {
	e := newEngine(t, configOf(t, testkit.Start(t, testkit.Inside, testkit.Settings{Gateway: lifted}), 8))
	openAll(t, e, 8)
	for _, p := range []Pairs{{Rate: 1000}, {Messages: 1 << 20}} {
		p.Range, p.Size, p.Duration = Range{Count: 8}, MinSize, limit
		before := e.Counters().Acked
		go func() {
			until(t, e, "messages on their way", func(c Counters) bool { return c.Acked > before+20 })
			if err := e.Finish(); err != nil {
				t.Error(err)
			}
		}()
		tr, err := e.Pairs(waitFor(t), p)
		if tr.Sent <= 20 {
			t.Errorf("%+v", tr)
		}
		wantWhole(t, tr, err, tr.Sent)
	}
}

// TestRefusals: a server that is full or drains is obeyed, and counted by reason.
func TestRefusals(t *testing.T) {
	sys := testkit.Start(t, testkit.Inside, testkit.Settings{Gateway: lifted + "max_sessions = 10\n"})
	e := newEngine(t, configOf(t, sys, 12))
	ctx, cancel := context.WithCancel(waitFor(t))
	go func() {
		defer cancel()
		until(t, e, "a full worker", func(c Counters) bool { return c.Bound == 10 && c.Failed["worker_full"] >= 2*quickNow })
	}()
	o, err := e.Open(ctx, Open{Range: Range{Count: 12}})
	if err == nil || o.Bound != 10 || o.Asked != 12 {
		t.Errorf("12 sessions in a server for 10: %+v, %v", o, err)
	}
	// A handle that another key owns is an end, not something to try again.
	cfg := configOf(t, sys, 1)
	cfg.Seed = "another"
	if err := e.Hangup(waitFor(t), Range{From: 1, Count: 11}); err != nil {
		t.Fatal(err)
	}
	o, err = newEngine(t, cfg).Open(waitFor(t), Open{Range: Range{Count: 1}})
	if err != nil || o.Stopped != 1 || o.Bound != 0 {
		t.Errorf("a handle that is taken: %+v, %v", o, err)
	}
}

func TestConfigFaults(t *testing.T) {
	err := Config{Servers: []netip.AddrPort{{}}, Prefix: "", Sessions: -1, Ping: time.Second, First: -1}.Validate()
	for _, part := range []string{"server", "root", "sessions", "prefix", "ping", "first"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("no fault about %s in: %v", part, err)
		}
	}
}
