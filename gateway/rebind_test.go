package gateway

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	enginerr "github.com/panjf2000/gnet/v2/pkg/errors"

	"linecard.example/internal/config"
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

type onLoop func()

func (f onLoop) Run(context.Context) error {
	f()
	return nil
}

// rebinds collects what a new leader of all shards is told, until done came for each. Whenever nothing comes for a moment it
// calls idle.
func rebinds(t *testing.T, p *peer, term uint64, idle func()) map[stanza.Account]link.Envelope {
	t.Helper()
	end := time.Now().Add(patience)
	got, done := map[stanza.Account]link.Envelope{}, map[stanza.Group]bool{}
	for len(done) < testShards {
		select {
		case e := <-p.got:
			switch e.Kind {
			case link.KindRebind:
				if done[e.Group] {
					t.Fatalf("%+v behind its done", e)
				}
				if _, twice := got[e.Account]; twice || e.Group != stanza.DirGroup(int(e.Account)%testShards) {
					t.Fatalf("twice, or to another shard: %+v", e)
				}
				got[e.Account] = e
			case link.KindRebindDone:
				if e.Term != term || done[e.Group] {
					t.Fatalf("done %+v", e)
				}
				done[e.Group] = true
			}
		case <-time.After(5 * time.Millisecond):
			idle()
			if time.Now().After(end) {
				t.Fatalf("waited; have %d, done %v", len(got), done)
			}
		}
	}
	return got
}

// TestRebind: a new leader gets every binding, in pages, and then done.
func TestRebind(t *testing.T) {
	h := start(t, func(c *Config) { c.RebindPage = 16 })
	const n = 60
	for a := stanza.Account(1); a <= n; a++ {
		h.bind(a)
	}
	h.router.mu.Lock()
	h.router.auto = nil
	h.router.mu.Unlock()
	h.router.hello(2)
	got := rebinds(t, h.router, 2, func() {})
	if len(got) != n {
		t.Fatalf("%d of %d", len(got), n)
	}
	for a, e := range got {
		if e.Serial == 0 || e.Device != 1 || e.Gen == 0 {
			t.Fatalf("%d: %+v", a, e)
		}
	}
	h.router.hello(1) // of a leader that was replaced
	h.router.hello(2) // the same again: it may have dropped them
	if got := rebinds(t, h.router, 2, func() {}); len(got) != n {
		t.Fatalf("%d of %d the second time", len(got), n)
	}
}

// TestRebindWithoutCredit: a page that the router has no room for goes on where it stopped.
func TestRebindWithoutCredit(t *testing.T) {
	h := start(t, func(c *Config) { c.RebindPage = 16 })
	const n = 60
	for a := stanza.Account(1); a <= n; a++ {
		h.bind(a)
	}
	h.cut[h.router]()
	slow := newPeer(t, link.RoleRouter, 600) // four envelopes of a group
	slow.hold = true
	h.connect(slow)
	h.until("the credit of a group to be spent", func() bool { return len(slow.got) >= 4 })
	h.until("the other groups' leader", func() bool { _, missing := h.g.leaderless(); return !missing }) // its hellos come one by one
	h.advance(100 * time.Millisecond)
	slow.mu.Lock()
	slow.hold = false
	held := len(slow.got)
	slow.mu.Unlock()
	t.Logf("held at %d envelopes", held)
	spent := make(chan link.Envelope, held)
	for range held { // give back what was held
		e := <-slow.got
		slow.stream.Done(e.Group, e.Size())
		spent <- e
	}
	for range held {
		slow.got <- <-spent
	}
	if got := rebinds(t, slow, 1, func() { h.advance(100 * time.Millisecond) }); len(got) != n {
		t.Fatalf("%d of %d", len(got), n)
	}
}

func TestIdleTimeout(t *testing.T) {
	h := start(t, nil)
	quiet := h.dial()
	quiet.preamble()
	quiet.handshake((&stanza.Bind{Account: 5, Device: 1, Interval: 60}).Append(nil))
	quiet.wantTag(stanza.TagBound)
	slow := h.dial()
	slow.preamble()
	slow.handshake((&stanza.Bind{Account: 6, Device: 1, Interval: 1 << 20}).Append(nil)) // clamped to 15 minutes
	slow.wantTag(stanza.TagBound)
	for range 11 {
		h.advance(10 * time.Second)
	}
	quiet.send(stanza.Ping{}.Append(nil))
	quiet.wantTag(stanza.TagPong)
	for range 13 {
		h.advance(10 * time.Second)
	}
	quiet.wantClose(stanza.ReasonIdleTimeout)
	for range 120 {
		h.advance(10 * time.Second)
	}
	slow.wantClose(stanza.ReasonIdleTimeout)
}

func TestDrain(t *testing.T) {
	h := start(t, nil)
	bound, early := h.bind(5), h.dial()
	early.preamble()
	h.until("both", func() bool { return h.g.open.Load() == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	if early.wantRefused(stanza.ReasonDraining) == 0 {
		t.Error("no retry-after before bound")
	}
	late, err := net.Dial("tcp", h.g.Addr().String())
	if err == nil {
		c := &raw{t: t, conn: late}
		_ = late.SetReadDeadline(time.Now().Add(patience))
		c.wantRefused(stanza.ReasonDraining)
		late.Close()
	}
	if ok, why := h.g.Ready(); ok || why != "draining" {
		t.Errorf("ready %v %q", ok, why)
	}
	if cl := bound.wantClose(stanza.ReasonDraining); cl.RetryAfter < 2500 || cl.RetryAfter > 7500 {
		t.Errorf("retry-after %d ms", cl.RetryAfter)
	}
	early.conn.Close()
	h.router.skipTo(link.KindUnbind)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

// TestLeave: a gateway whose siblings go on sends strangers to them at once, and sessions soon.
func TestLeave(t *testing.T) {
	h := start(t, func(c *Config) {
		c.DrainRetryAfter, c.RetryAfter = config.Duration(time.Minute), config.Duration(200*time.Millisecond)
	})
	bound, early := h.bind(5), h.dial()
	early.preamble()
	h.until("both", func() bool { return h.g.open.Load() == 2 })
	h.g.Leave()
	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	if wait := early.wantRefused(stanza.ReasonWorkerFull); wait != 0 {
		t.Errorf("a stranger is to wait %v", wait)
	}
	late, err := net.Dial("tcp", h.g.Addr().String())
	if err == nil {
		c := &raw{t: t, conn: late}
		_ = late.SetReadDeadline(time.Now().Add(patience))
		c.wantRefused(stanza.ReasonWorkerFull)
		late.Close()
	}
	if cl := bound.wantClose(stanza.ReasonDraining); cl.RetryAfter < 100 || cl.RetryAfter > 300 {
		t.Errorf("retry-after %d ms", cl.RetryAfter)
	}
	early.conn.Close()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

// TestPortTaken: a second gateway must not quietly share the port of the first.
func TestPortTaken(t *testing.T) {
	h := start(t, nil)
	cfg := DefaultConfig()
	cfg.Listen, cfg.SetProcs = h.g.Addr().String(), false
	g, err := New(cfg, Deps{Shards: testShards, Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("Run: %v", err)
	}
}

// TestEngineEnds: gnet returning by itself is fatal, not a quiet end.
func TestEngineEnds(t *testing.T) {
	h := start(t, nil)
	h.bind(5)
	err := (*h.g.loops[0].el.Load()).Execute(t.Context(), gnet.RunnableFunc(func(context.Context) error { return enginerr.ErrEngineShutdown }))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-h.ended; err == nil || !strings.Contains(err.Error(), "by itself") {
		t.Fatalf("Run: %v", err)
	}
	h.ended <- nil // for the clean-up
}

func TestIPv6(t *testing.T) {
	if ln, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skipf("this machine has no IPv6 loopback address to listen on: %v", err)
	} else {
		ln.Close()
	}
	h := start(t, func(c *Config) { c.Listen = "[::1]:0" })
	h.bind(5)
}

func TestBothFamilies(t *testing.T) {
	h := start(t, func(c *Config) { c.Listen = ":0" })
	h.bind(5)
}

// TestLeaderComes: who was refused because nobody led is told as soon as somebody does, and once more if that was too early for a router.
func TestLeaderComes(t *testing.T) {
	h := start(t, nil)
	c := h.bind(5)
	refused := func() {
		t.Helper()
		if r, err := stanza.ParseRefused(c.wantTag(stanza.TagRefused)); err != nil || r.Reason != stanza.ReasonUnavailable {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	c.send(message(1, 6, "to a router that leads no more"))
	m := h.router.skipTo(link.KindMessage)
	m.Kind, m.Payload = link.KindNotLeader, nil
	h.router.send(m)
	refused()
	h.router.send(link.Envelope{Kind: link.KindHello, Group: m.Group, Term: 2}) // of one group: of several, each may be word of a leader
	c.wantTag(stanza.TagRetry)

	c.send(message(1, 6, "to one that knows no leader of the queue"))
	m = h.router.skipTo(link.KindMessage)
	refusal := stanza.Refused{ID: 1, Reason: stanza.ReasonUnavailable, RetryAfter: 1000}
	m.Kind, m.Reason, m.Payload = link.KindRefused, refusal.Reason, refusal.Append(nil)
	h.router.send(m)
	refused()
	h.advance(tickLength)
	c.wantTag(stanza.TagRetry)
	h.advance(10 * tickLength)
	c.send(stanza.Ping{}.Append(nil))
	c.wantTag(stanza.TagPong) // and once only

	c.send(message(1, 6, "to one that sends it to a leader that is stopped"))
	h.router.skipTo(link.KindMessage)
	for range secondLooks { // one look in each turn; the last is for this one, too
		h.advance(tickLength)
	}
	c.wantTag(stanza.TagRetry)
}

// TestSweepsGoOn: a router that gives no credit for a group keeps nothing waiting but its own bindings.
func TestSweepsGoOn(t *testing.T) {
	h := start(t, func(c *Config) { c.Loops = 1 })
	var c *raw
	for i := range stanza.Account(20) {
		c = h.bind(1 + i*testShards)
	}
	h.cut[h.router]()
	slow := newPeer(t, link.RoleRouter, 600) // four envelopes of a group
	slow.hold = true
	h.connect(slow)
	h.until("the credit of a group to be spent", func() bool { return len(slow.got) >= 4 })
	c.send(message(1, 2, "to another group"))
	slow.skipTo(link.KindMessage)
	h.offline.hello(2)
	c.wantTag(stanza.TagRetry)
}
