package gateway

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"linecard.example/internal/config"
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

func TestEarlyBytes(t *testing.T) {
	h := start(t, nil)
	for name, test := range map[string]struct {
		send   func(c *raw)
		reason stanza.Reason
	}{
		"another protocol": {func(c *raw) { c.write([]byte("GET / HTTP/1.1\r\n\r\n")) }, stanza.ReasonBadPreamble},
		"another version":  {func(c *raw) { c.write([]byte{'L', 'C', 9, 0}) }, stanza.ReasonVersion},
		"long header":      {func(c *raw) { c.preamble(); c.write([]byte{4, 1}) }, stanza.ReasonEarlyData},
		"no kind":          {func(c *raw) { c.preamble(); c.write([]byte{0, 0}) }, stanza.ReasonBadFrame},
		"unknown kind":     {func(c *raw) { c.preamble(); c.write([]byte{0, 1, 77}) }, stanza.ReasonBadFrame},
		"refused upwards":  {func(c *raw) { c.preamble(); c.write(wire.AppendRefused(nil, stanza.ReasonBusy, 0)) }, stanza.ReasonBadFrame},
		"short message 1":  {func(c *raw) { c.preamble(); c.write([]byte{0, 4, 1, 2, 3, 4}) }, stanza.ReasonBadFrame},
		"low-order point":  {func(c *raw) { c.preamble(); c.write(append([]byte{0, 33, 1}, make([]byte, 32)...)) }, stanza.ReasonHandshakeFailed},
		"flood behind message 1": {func(c *raw) {
			c.preamble()
			hello, _ := wire.NewInitiator(c.identity, nil).AppendHello(nil, c.early)
			c.write(append(hello, make([]byte, 3000)...))
		}, stanza.ReasonEarlyData},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.dial()
			c.t = t
			test.send(c)
			c.wantRefused(test.reason)
		})
	}
	h.until("all connections to end", func() bool { return h.g.open.Load() == 0 })
}

func TestBadMessage3(t *testing.T) {
	h := start(t, nil)
	two := (&stanza.Bind{Account: 5, Device: 1}).Append(nil)
	two = append(two, two...)
	for name, test := range map[string]struct {
		payload []byte
		reason  stanza.Reason
	}{
		"empty":       {nil, stanza.ReasonBadStanza},
		"two stanzas": {two, stanza.ReasonBadStanza},
		"ping":        {stanza.Ping{}.Append(nil), stanza.ReasonBadStanza},
		"bad handle":  {(&stanza.Register{Handle: []byte("a b")}).Append(nil), stanza.ReasonBadHandle},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.dial()
			c.t = t
			c.preamble()
			c.handshake(test.payload)
			c.wantClose(test.reason)
		})
	}
}

// TestSilenceUntilBound: nothing may be sent between message 3 and bound.
func TestSilenceUntilBound(t *testing.T) {
	h := start(t, nil)
	h.router.mu.Lock()
	h.router.auto = nil
	h.router.mu.Unlock()
	c := h.dial()
	c.preamble()
	c.handshake((&stanza.Bind{Account: 5, Device: 1}).Append(nil))
	e := h.router.skipTo(link.KindBind)
	c.send(stanza.Ping{}.Append(nil))
	c.wantClose(stanza.ReasonEarlyData)
	h.router.send(link.Envelope{Kind: link.KindBound, Group: e.Group, Slot: e.Slot, Gen: e.Gen, Account: 5, Device: 1, Serial: 1})
	if gone := h.router.skipTo(link.KindGone); gone.Account != 5 || gone.Device != 1 || gone.Slot != e.Slot || gone.Gen != e.Gen {
		t.Fatalf("gone %+v", gone)
	}
}

func TestHandshakeDeadlines(t *testing.T) {
	h := start(t, nil)
	h.router.mu.Lock()
	h.router.auto = nil
	h.router.mu.Unlock()
	silent, half := h.dial(), h.dial()
	half.preamble()
	half.write([]byte{0, 33, 1})
	waiting := h.dial()
	waiting.preamble()
	waiting.handshake((&stanza.Bind{Account: 5, Device: 1}).Append(nil))
	h.router.skipTo(link.KindBind)
	h.until("all connections", func() bool { return h.g.open.Load() == 3 })
	h.advance(9 * time.Second)
	h.advance(2 * time.Second)
	silent.wantRefused(stanza.ReasonHandshakeTimeout)
	half.wantRefused(stanza.ReasonHandshakeTimeout)
	if cl := waiting.wantClose(stanza.ReasonUnavailable); cl.RetryAfter == 0 {
		t.Error("no retry-after")
	}
}

func TestNoLeader(t *testing.T) {
	h := start(t, nil)
	h.cut[h.router]()
	c := h.dial()
	c.preamble()
	c.handshake((&stanza.Bind{Account: 5, Device: 1}).Append(nil))
	c.wantClose(stanza.ReasonUnavailable)
}

// TestBindingOnLinkLoss: a session whose router went away before it answered does not wait for the deadline.
func TestBindingOnLinkLoss(t *testing.T) {
	h := start(t, nil)
	h.router.mu.Lock()
	h.router.auto = nil
	h.router.mu.Unlock()
	c := h.dial()
	c.preamble()
	c.handshake((&stanza.Bind{Account: 5, Device: 1}).Append(nil))
	h.router.skipTo(link.KindBind)
	h.cut[h.router]()
	c.wantClose(stanza.ReasonUnavailable)
}

func TestSessionCap(t *testing.T) {
	h := start(t, func(c *Config) { c.MaxSessions = 2 })
	a := h.bind(5)
	h.bind(6)
	h.dial().wantRefused(stanza.ReasonWorkerFull)
	a.conn.Close()
	h.until("room", func() bool { return h.g.open.Load() == 1 })
	h.bind(7)
}

func TestSourceLimit(t *testing.T) {
	h := start(t, func(c *Config) { c.HandshakeBurst, c.HandshakeRate = 2, 1 })
	h.bind(5)
	h.bind(6)
	c := h.dial()
	c.preamble()
	hello, _ := wire.NewInitiator(c.identity, nil).AppendHello(nil, c.early)
	c.write(hello)
	if c.wantRefused(stanza.ReasonBusy) == 0 {
		t.Error("no retry-after")
	}
	h.advance(time.Second)
	h.bind(7)
}

func TestRegistrationLimit(t *testing.T) {
	h := start(t, func(c *Config) { c.RegisterBurst, c.RegisterRate = 1, 0.1 })
	for i, name := range []string{"a", "b"} {
		c := h.dial()
		c.preamble()
		c.handshake((&stanza.Register{Handle: []byte(name)}).Append(nil))
		if i == 0 {
			c.wantTag(stanza.TagBound)
		} else {
			c.wantClose(stanza.ReasonBusy)
		}
	}
	h.bind(5) // who is registered already comes in
}

func TestInvites(t *testing.T) {
	h := start(t, nil)
	auto := h.router.auto
	h.router.mu.Lock()
	h.router.auto = nil
	h.router.mu.Unlock()
	register := func() (*raw, link.Envelope) {
		c := h.dial()
		c.preamble()
		c.handshake((&stanza.Register{Handle: []byte("Bob"), Invite: []byte("s3cret"), ID: 4}).Append(nil))
		e := h.router.skipTo(link.KindRegister)
		if e.Flags != 0 {
			t.Fatalf("register %+v", e)
		}
		return c, e
	}
	refuse := func(e link.Envelope, reason stanza.Reason) {
		h.router.send(link.Envelope{Kind: link.KindClose, Group: e.Group, Slot: e.Slot, Gen: e.Gen, Reason: reason})
	}
	redeem := func() (*raw, link.Envelope) {
		c, e := register()
		refuse(e, stanza.ReasonRegistrationClosed)
		e = h.router.want(link.KindRedeem)
		if e.Group != stanza.DirGroup(stanza.HandleShard("s3cret", testShards)) || string(e.Payload) != string(c.identity.Public)+"\x03bobs3cret" {
			t.Fatalf("redeem %+v", e)
		}
		return c, e
	}
	// The invite is asked for only where the registration would fail without it.
	c, e := register()
	refuse(e, stanza.ReasonHandleTaken)
	c.wantClose(stanza.ReasonHandleTaken)
	c, e = register()
	h.router.mu.Lock()
	up := h.router.stream
	h.router.mu.Unlock()
	auto(up, &e)
	c.wantTag(stanza.TagBound)

	c, e = redeem()
	h.router.send(link.Envelope{Kind: link.KindRedeemed, Group: e.Group, Slot: e.Slot, Gen: e.Gen, Reason: stanza.ReasonBadInvite})
	c.wantClose(stanza.ReasonBadInvite)

	c, e = redeem()
	h.router.send(link.Envelope{Kind: link.KindRedeemed, Group: e.Group, Slot: e.Slot, Gen: e.Gen})
	r := h.router.want(link.KindRegister)
	want := (&stanza.Register{Handle: []byte("Bob"), Invite: []byte("s3cret"), ID: 4}).Append(append([]byte(nil), c.identity.Public...))
	if r.Flags&link.FlagInvited == 0 || r.ID != 4 || string(r.Payload) != string(want) {
		t.Fatalf("register %+v", r)
	}
	auto(up, &r)
	c.wantTag(stanza.TagBound)

	// A directory that would not have it with the invite either is not asked for ever.
	c, e = redeem()
	h.router.send(link.Envelope{Kind: link.KindRedeemed, Group: e.Group, Slot: e.Slot, Gen: e.Gen})
	refuse(h.router.want(link.KindRegister), stanza.ReasonRegistrationClosed)
	c.wantClose(stanza.ReasonRegistrationClosed)
	for _, l := range h.g.loops {
		n := make(chan int, 1)
		h.onLoop(l, func() { n <- len(l.claims) })
		if left := <-n; left != 0 {
			t.Errorf("%d claims left", left)
		}
	}
}

func TestPartialFrames(t *testing.T) {
	h := start(t, func(c *Config) { c.PartialTimeout = config.Duration(5 * time.Second) })
	c := h.bind(5)
	f := c.seal(stanza.Ping{}.Append(nil))
	c.write(f[:3])
	h.until("the bytes", func() bool { return h.partials() == 3 })
	h.advance(4 * time.Second)
	c.write(f[3:])
	c.wantTag(stanza.TagPong)
	// A frame, and the start of the next: the time counts from there.
	f = append(c.seal(stanza.Ping{}.Append(nil)), 0, 50, 1)
	c.write(f)
	c.wantTag(stanza.TagPong)
	h.until("the bytes", func() bool { return h.partials() == 3 })
	h.advance(4 * time.Second)
	c.write([]byte{2})
	h.until("the bytes", func() bool { return h.partials() == 4 })
	h.advance(time.Second)
	c.wantClose(stanza.ReasonPartialTimeout)
	h.until("nothing left", func() bool { return h.partials() == 0 })
}

// partials asks each loop for the bytes of unfinished frames.
func (h *harness) partials() int {
	sum := 0
	for _, l := range h.g.loops {
		n := make(chan int, 1)
		h.onLoop(l, func() { n <- l.partials.bytes })
		sum += <-n
	}
	return sum
}

// onLoop runs f on a loop, as a test's only way to look at a loop's state.
func (h *harness) onLoop(l *loop, f func()) {
	h.t.Helper()
	if err := (*l.el.Load()).Execute(h.t.Context(), onLoop(f)); err != nil {
		h.t.Fatal(err)
	}
}

func TestPartialBudget(t *testing.T) {
	h := start(t, func(c *Config) { c.Loops, c.PartialBytes = 1, 1<<20 })
	h.onLoop(h.g.loops[0], func() { h.g.partialBytes = 100 })
	first, second := h.bind(5), h.bind(6)
	first.write(append([]byte{1, 0}, make([]byte, 58)...))
	h.until("the bytes", func() bool { return h.partials() == 60 })
	second.write(append([]byte{1, 0}, make([]byte, 58)...))
	first.wantClose(stanza.ReasonPartialTimeout)
	h.until("the bytes", func() bool { return h.partials() == 60 })
	second.write(make([]byte, 60))
	second.wantClose(stanza.ReasonPartialTimeout) // alone above the budget
}

// TestPartialBudgetStrangersFirst: who has no session yet cannot push out one that has, however long its frame has been unfinished.
func TestPartialBudgetStrangersFirst(t *testing.T) {
	h := start(t, func(c *Config) { c.Loops, c.PartialBytes = 1, 1<<20 })
	h.onLoop(h.g.loops[0], func() { h.g.partialBytes = 100 })
	member := h.bind(5)
	frame := member.seal(stanza.Ping{}.Append(nil))
	member.write(frame[:5])
	h.until("the bytes", func() bool { return h.partials() == 5 })
	for range 3 {
		stranger := h.dial()
		stranger.preamble()
		stranger.write(append([]byte{1, 0}, make([]byte, 98)...))
		stranger.wantRefused(stanza.ReasonPartialTimeout)
	}
	h.until("the stranger's", func() bool { return h.partials() == 5 })
	member.write(frame[5:])
	member.wantTag(stanza.TagPong)

	// Nor can they keep a session from sending.
	stranger := h.dial()
	stranger.preamble()
	stranger.write(append([]byte{1, 0}, make([]byte, 88)...))
	h.until("the bytes", func() bool { return h.partials() == 90 })
	frame = member.seal(message(1, 6, "a longer frame"))
	member.write(frame[:20])
	stranger.wantRefused(stanza.ReasonPartialTimeout)
	h.until("the session's", func() bool { return h.partials() == 20 })
}

func TestSources(t *testing.T) {
	at := func(ip string) source {
		return sourceOf(remoteOf(&stubConn{remote: &net.TCPAddr{IP: net.ParseIP(ip)}}))
	}
	same := func(a, b string, host, network bool) {
		t.Helper()
		x, y := at(a), at(b)
		if (x.host == y.host) != host || (x.network == y.network) != network {
			t.Errorf("%s and %s: host %v, network %v", a, b, x.host == y.host, x.network == y.network)
		}
	}
	same("192.0.2.1", "192.0.2.2", false, true)
	same("192.0.2.1", "192.0.3.1", false, false)
	same("192.0.2.1", "::ffff:192.0.2.1", true, true)
	same("2001:db8:1:200::1", "2001:db8:1:2ff::9", true, true)
	same("2001:db8:1:200::1", "2001:db8:1:300::1", false, true)
	same("2001:db8:1::1", "2001:db8:2::1", false, false)

	table := newSourceTable(256, 1, 2)
	a, b := at("192.0.2.1"), at("192.0.2.2")
	for i, want := range []bool{true, true, false} {
		if table.allow(a, 0) != want {
			t.Errorf("host, try %d: want %v", i, want)
		}
	}
	for range 2 {
		if !table.allow(b, 0) {
			t.Error("another host of the network")
		}
	}
	for i, ip := range []string{"192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"} {
		if table.allow(at(ip), 0) != (i < 4) {
			t.Errorf("the network's burst is four hosts', try %d", i)
		}
	}
	for _, ip := range []string{"192.0.2.7", "192.0.2.7", "192.0.2.8"} {
		table.allow(at(ip), 0)
	}
	if table.allow(at("192.0.2.9"), 0) {
		t.Error("a network has no bound")
	}
	if !table.allow(a, 10) || table.allow(a, 10) {
		t.Error("one token a second comes back")
	}
	if table.allow(a, 9) {
		t.Error("a loop whose clock is behind brought a burst back")
	}
}

// TestOverload: a full queue refuses what would begin, at the door and at message 1.
func TestOverload(t *testing.T) {
	b := newBench(t) // its loop does no steps by itself
	b.l.steps.limit = 1
	hello, err := wire.NewInitiator(b.g.deps.Static, nil).AppendHello(nil, wire.Preamble[:])
	if err != nil {
		t.Fatal(err)
	}
	b.l.steps.add(&handshake{stage: stageResumeStep})
	for i, want := range []stage{stageHelloStep, stageHello} {
		conn := &stubConn{in: append(append([]byte(nil), wire.Preamble[:]...), hello...)}
		h := &handshake{conn: conn, source: sourceOf(netip.Addr{})}
		b.l.early.add(h)
		b.l.onHandshake(h, conn)
		if h.stage != want || h.gone != (i == 1) || (conn.written > 0) != (i == 1) {
			t.Errorf("connection %d: stage %d, gone %v, %d bytes written", i, h.stage, h.gone, conn.written)
		}
	}
	if reason, wait := b.l.unwelcome(); reason != stanza.ReasonOverload || wait == 0 {
		t.Errorf("the next one is answered %v, %d ms", reason, wait)
	}
}

// TestDrainingBehindTheHandshake: whoever finishes a handshake while the gateway drains is told to stay away for as long as the others.
func TestDrainingBehindTheHandshake(t *testing.T) {
	b := newBench(t)
	b.g.cfg.DrainRetryAfter = config.Duration(10 * time.Minute)
	b.g.draining.Store(true)
	conn := &keptConn{}
	bind := stanza.Bind{Account: 6, Device: 1}
	r, _ := b.g.parseRequest(bind.Append(nil))
	b.l.admit(&handshake{conn: conn}, &wire.Finish{}, &r, 0)
	plain, err := wire.NewSealer().Open(nil, new([wire.KeySize]byte), 0, conn.out[wire.LenSize:])
	if err != nil {
		t.Fatal(err)
	}
	err = stanza.DecodeFrame(plain, func(v stanza.View) error {
		c, err := stanza.ParseClose(v)
		if wait := time.Duration(c.RetryAfter) * time.Millisecond; c.Reason != stanza.ReasonDraining || wait < 5*time.Minute || wait > 15*time.Minute {
			t.Errorf("%v, retry after %v", c.Reason, wait)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// keptConn keeps what is written.
type keptConn struct {
	stubConn
	out []byte
}

func (c *keptConn) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return len(b), nil
}

// TestWindowsThatCannotBeKept: messages are counted in units, so that a client within a narrow window of bytes and a wide one of ids
// would be refused.
func TestWindowsThatCannotBeKept(t *testing.T) {
	for _, c := range []struct {
		ids  int
		size config.Size
		ok   bool
	}{{16, 64 << 10, true}, {17, 64 << 10, false}, {32, 256 << 10, true}, {100, 400 << 10, true}, {100, 399 << 10, false}} {
		cfg := DefaultConfig()
		cfg.WindowIDs, cfg.WindowBytes = c.ids, c.size
		if faults := cfg.Validate(); (len(faults) == 0) != c.ok {
			t.Errorf("%d ids, %v: %v", c.ids, c.size, faults)
		}
	}
}
