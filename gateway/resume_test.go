package gateway

import (
	"bytes"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// ticketKey is the key with that id in all tests.
func ticketKey(id uint32) wire.TicketKey {
	return wire.TicketKey{ID: id, Key: [wire.KeySize]byte(bytes.Repeat([]byte{byte(id)}, wire.KeySize))}
}

// keys has the router tell the gateway ticket keys, newest first.
func (h *harness) keys(term uint64, ids ...uint32) {
	h.t.Helper()
	var all []wire.TicketKey
	for _, id := range ids {
		all = append(all, ticketKey(id))
	}
	h.router.send(link.Envelope{Kind: link.KindTicketKeys, Group: stanza.DirGroup(0), Term: term, Payload: wire.AppendTicketKeys(nil, all)})
}

func (h *harness) untilKey(id uint32) {
	h.t.Helper()
	h.until("ticket keys", func() bool { have := h.g.tickets.Load(); return have != nil && have.keys[0].ID == id })
}

// bindTicket is bind, and returns what the session may resume with: nil when it was given nothing.
func (h *harness) bindTicket(account stanza.Account) []byte {
	h.t.Helper()
	c := h.dial()
	c.preamble()
	c.handshake((&stanza.Bind{Account: account, Device: 1}).Append(nil))
	value := c.wantBound()
	c.conn.Close()
	h.until("the end of it", func() bool { return h.g.open.Load() == 0 })
	return value
}

// wantBound reads bound and returns the ticket in it.
func (c *raw) wantBound() []byte {
	c.t.Helper()
	bound, err := stanza.ParseBound(c.wantTag(stanza.TagBound))
	if err != nil {
		c.t.Fatal(err)
	}
	c.account = bound.Account
	return bytes.Clone(bound.Ticket)
}

// resume sends the preamble and a resume frame and returns what comes back.
func (c *raw) resume(value []byte) (*wire.Resumer, []byte) {
	c.t.Helper()
	psk, ticket, ok := wire.SplitTicketValue(value)
	if !ok {
		c.t.Fatalf("no ticket in %d bytes", len(value))
	}
	r := wire.NewResumer(nil)
	var err error
	if c.early, err = r.AppendResume(wire.Preamble[:4:4], wire.Preamble[:], ticket, &psk); err != nil {
		c.t.Fatal(err)
	}
	c.write(c.early)
	body, err := c.frame()
	if err != nil {
		c.t.Fatalf("waiting for the answer to a resume: %v", err)
	}
	return r, body
}

// resumed is resume of a ticket that is taken: c has the keys of the session.
func (c *raw) resumed(value []byte) {
	c.t.Helper()
	r, body := c.resume(value)
	var err error
	if c.keys, err = r.ReadAnswer(body); err != nil {
		c.t.Fatal(err)
	}
}

// wantUseXX reads that answer, and goes on with XX.
func (c *raw) wantUseXX(body []byte) {
	c.t.Helper()
	if err := wire.ParseUseXX(body); err != nil {
		c.t.Fatalf("%x: %v", body, err)
	}
	c.early = wire.AppendUseXX(c.early)
	c.handshake((&stanza.Bind{Account: 5, Device: 1}).Append(nil))
	c.wantBound()
}

func bindOf(a stanza.Account, d stanza.Device) []byte {
	return (&stanza.Bind{Account: a, Device: d}).Append(nil)
}

func TestResume(t *testing.T) {
	h := start(t, nil)
	if h.bindTicket(5) != nil {
		t.Fatal("a ticket without a key to seal it")
	}
	h.keys(1, 9)
	h.untilKey(9)
	value := h.bindTicket(5)
	if again := h.bindTicket(5); len(again) != wire.KeySize+wire.TicketSize || bytes.Equal(again[:wire.KeySize], value[:wire.KeySize]) {
		t.Fatalf("two tickets, %x and %x", value, again)
	}
	asked := make(chan link.Envelope, 1)
	h.router.tap(func(e *link.Envelope) {
		if e.Kind == link.KindBind {
			asked <- *e
		}
	})
	c := h.dial()
	c.resumed(value)
	c.send((&stanza.Bind{Account: 5, Device: 1, ID: 77}).Append(nil))
	next := c.wantBound()
	e := <-asked
	if e.Flags != link.FlagResumed || e.Account != 5 || e.Device != 1 || e.ID != 77 || !bytes.Equal(e.Payload, make([]byte, wire.HashSize)) {
		t.Errorf("the router was asked %+v", e)
	}
	c.send(stanza.Ping{}.Append(nil))
	c.wantTag(stanza.TagPong)
	if n := h.count("linecard_gateway_handshakes_total", "resumed"); n != 1 {
		t.Errorf("%v resumed", n)
	}
	c.conn.Close()
	d := h.dial()
	d.resumed(next) // each bound brings the next
	d.send(bindOf(5, 1))
	d.wantBound()
}

// TestTicketsSentBack: a ticket that is not taken goes back to XX on the same connection, each with its cause.
func TestTicketsSentBack(t *testing.T) {
	h := start(t, func(c *Config) { c.ResumeBurst, c.ResumeRate = 1, 1 })
	sealed := func(id uint32, expiry int64, account stanza.Account) []byte {
		k := ticketKey(id)
		return wire.AppendTicketValue(nil, &k, &wire.Ticket{Account: account, Device: 1, Proved: h.clock.Now().Unix(), Expiry: expiry}, new([wire.TicketRandom]byte))
	}
	now := h.clock.Now().Unix()
	try := func(cause string, value []byte) {
		t.Helper()
		before := h.count("linecard_gateway_use_xx_total", cause)
		c := h.dial()
		_, body := c.resume(value)
		c.wantUseXX(body)
		c.conn.Close()
		if n := h.count("linecard_gateway_use_xx_total", cause); n != before+1 {
			t.Errorf("%s: counted %v, before %v", cause, n, before)
		}
	}
	h.advance(keysGrace)
	now += int64(keysGrace / time.Second)
	try("no_keys", sealed(9, now+9, 5))
	h.keys(3, 9, 8)
	h.untilKey(9)
	try("unknown_key", sealed(7, now+9, 5))
	try("expired", sealed(9, now, 5))
	try("malformed", append(sealed(9, now+9, 5), 0))
	try("malformed", make([]byte, wire.KeySize+1))
	value := h.bindTicket(5)
	c := h.dial()
	c.resumed(value)
	try("limit", value)
	d := h.dial()
	d.resumed(sealed(8, now+9, 6)) // another account's is taken, sealed with the key before
	h.advance(time.Second)
	c = h.dial()
	c.resumed(value)
	c.conn.Close()
	d.conn.Close()
	h.advance(ticketLife)
	try("expired", value)

	h.keys(2, 6) // of a leader that was replaced
	h.keys(3, 10, 9)
	h.untilKey(10)
	h.keys(4, 12)
	h.untilKey(12)
	try("unknown_key", sealed(9, now+int64(2*ticketLife/time.Second), 5))
}

// TestResumeBeforeKeys: a gateway that has just started has tickets come again, but not for long.
func TestResumeBeforeKeys(t *testing.T) {
	h := start(t, nil)
	h.keys(1, 9)
	h.untilKey(9)
	value := h.bindTicket(5)
	h.g.tickets.Store(nil)
	c := h.dial()
	_, body := c.resume(value)
	if reason, wait, err := wire.ParseRefused(body); err != nil || reason != stanza.ReasonUnavailable || wait == 0 {
		t.Fatalf("%x: %v, %v, %v", body, reason, wait, err)
	}
	h.advance(keysGrace)
	c = h.dial()
	_, body = c.resume(value)
	c.wantUseXX(body)
}

// TestReplayedResume: who has recorded a resume gets the server's answer to it and no further. Nothing is bound or displaced.
func TestReplayedResume(t *testing.T) {
	h := start(t, nil)
	h.keys(1, 9)
	h.untilKey(9)
	value := h.bindTicket(5)
	c := h.dial()
	c.resumed(value)
	bind := c.seal(bindOf(5, 1))
	c.write(bind)
	c.wantBound()
	h.router.tap(func(e *link.Envelope) {
		if e.Kind == link.KindBind {
			t.Errorf("the router was asked to bind %+v", e)
		}
	})
	silent, replay := h.dial(), h.dial()
	for _, r := range []*raw{silent, replay} {
		r.write(c.early)
		if body, err := r.frame(); err != nil || wire.Kind(body[0]) != wire.KindResume {
			t.Fatalf("%x, %v", body, err)
		}
	}
	replay.write(bind)
	if body, err := replay.frame(); err != nil || len(body) < wire.TagSize {
		t.Fatalf("%x, %v: want a close that only the client could read", body, err)
	}
	h.until("its end", func() bool { return h.count("linecard_gateway_handshakes_total", "decrypt_failed") == 1 })
	h.advance(11 * time.Second)
	silent.wantRefused(stanza.ReasonHandshakeTimeout)
	c.send(stanza.Ping{}.Append(nil))
	c.wantTag(stanza.TagPong)
}

// TestBadResume: what a client with a good ticket can do wrong.
func TestBadResume(t *testing.T) {
	h := start(t, nil)
	h.keys(1, 9)
	h.untilKey(9)
	bind := bindOf(5, 1)
	ping := stanza.Ping{}.Append(nil)
	for name, test := range map[string]struct {
		frame  func(c *raw) []byte // the first behind message 2
		reason stanza.Reason
	}{
		"a ping":              {func(c *raw) []byte { return c.seal(ping) }, stanza.ReasonEarlyData},
		"a registration":      {func(c *raw) []byte { return c.seal((&stanza.Register{Handle: []byte("x")}).Append(nil)) }, stanza.ReasonEarlyData},
		"two binds":           {func(c *raw) []byte { return c.seal(bind, bind) }, stanza.ReasonEarlyData},
		"a ping behind":       {func(c *raw) []byte { return c.seal(bind, ping) }, stanza.ReasonEarlyData},
		"a frame behind":      {func(c *raw) []byte { return append(c.seal(bind), c.seal(ping)...) }, stanza.ReasonEarlyData},
		"nothing":             {func(c *raw) []byte { return c.seal() }, stanza.ReasonBadStanza},
		"garbage":             {func(c *raw) []byte { return c.seal([]byte{1, 2, 3}) }, stanza.ReasonBadStanza},
		"a bind without more": {func(c *raw) []byte { return c.seal([]byte{1, 0}) }, stanza.ReasonBadStanza},
		"another account":     {func(c *raw) []byte { return c.seal(bindOf(6, 1)) }, stanza.ReasonForbidden},
		"another device":      {func(c *raw) []byte { return c.seal(bindOf(5, 2)) }, stanza.ReasonForbidden},
		"another nonce":       {func(c *raw) []byte { c.tx = 1; return c.seal(bind) }, stanza.ReasonDecryptFailed},
	} {
		t.Run(name, func(t *testing.T) {
			value := h.bindTicket(5)
			c := h.dial()
			c.t = t
			c.resumed(value)
			c.write(test.frame(c))
			c.wantClose(test.reason)
			h.until("its end", func() bool { return h.g.open.Load() == 0 })
		})
	}
	wrong := h.bindTicket(5)
	wrong[0] ^= 1
	c := h.dial()
	_, body := c.resume(wrong)
	if reason, _, err := wire.ParseRefused(body); err != nil || reason != stanza.ReasonHandshakeFailed {
		t.Errorf("another psk: %x", body)
	}
	value := h.bindTicket(5)
	c = h.dial()
	c.resumed(value)
	c.write([]byte{4, 1})
	c.wantRefused(stanza.ReasonEarlyData)
	value = h.bindTicket(5)
	flood := h.dial()
	psk, ticket, _ := wire.SplitTicketValue(value)
	frame, _ := wire.NewResumer(nil).AppendResume(wire.Preamble[:4:4], wire.Preamble[:], ticket, &psk)
	flood.write(append(frame, 0)) // before the answer, there is nothing to say
	flood.wantRefused(stanza.ReasonEarlyData)
}

// TestResumeWhenDraining: told to stay away inside the session, which keeps its ticket.
func TestResumeWhenDraining(t *testing.T) {
	h := start(t, nil)
	h.keys(1, 9)
	h.untilKey(9)
	value := h.bindTicket(5)
	c := h.dial()
	h.until("it to be open", func() bool { return h.g.open.Load() == 1 })
	h.g.draining.Store(true)
	defer h.g.draining.Store(false)
	c.resumed(value)
	c.send(bindOf(5, 1))
	if cl := c.wantClose(stanza.ReasonDraining); cl.RetryAfter == 0 {
		t.Error("no retry-after")
	}
}

// TestResumePastSourceLimits: who has a ticket is a client, however many strangers share its address.
func TestResumePastSourceLimits(t *testing.T) {
	h := start(t, func(c *Config) { c.HandshakeBurst, c.HandshakeRate = 1, 0.001 })
	h.keys(1, 9)
	h.untilKey(9)
	value := h.bindTicket(5) // all that this address may have
	c := h.dial()
	c.resumed(value)
	c.send(bindOf(5, 1))
	value = c.wantBound()
	value[len(value)-1] ^= 1
	d := h.dial()
	_, body := d.resume(value) // sent back to XX, which is limited
	if wire.ParseUseXX(body) != nil {
		t.Fatalf("%x", body)
	}
	hello, err := wire.NewInitiator(d.identity, nil).AppendHello(nil, wire.AppendUseXX(d.early))
	if err != nil {
		t.Fatal(err)
	}
	d.write(hello)
	if d.wantRefused(stanza.ReasonBusy) == 0 {
		t.Error("no retry-after")
	}
}

// TestOverloadCostsNoTicket: an account that is turned away for want of room has its burst left.
func TestOverloadCostsNoTicket(t *testing.T) {
	b := newBench(t) // its loop does no steps by itself
	b.l.steps.limit = 1
	b.l.steps.add(&handshake{stage: stageResumeStep})
	key, ticket := ticketKey(9), wire.Ticket{Account: 5, Device: 1, Proved: b.clock.Now().Unix(), Expiry: 1 << 40}
	b.g.tickets.Store(&ticketKeys{keys: []wire.TicketKey{key}})
	sealed := wire.AppendTicket(nil, &key, &ticket, new([wire.TicketRandom]byte))
	for range 2 * b.g.cfg.ResumeBurst {
		h, conn := b.dial(false)
		conn.in, _ = wire.NewResumer(nil).AppendResume(wire.Preamble[:4:4], wire.Preamble[:], sealed, &ticket.PSK)
		b.l.onHandshake(h, conn)
		if reason := wantRefusal(conn.out); reason != stanza.ReasonOverload {
			t.Fatalf("answered %x: %v", conn.out, reason)
		}
	}
}

// TestProofOfTheKey: tickets beget tickets for proofLife behind the last XX, and no longer.
func TestProofOfTheKey(t *testing.T) {
	h := start(t, nil)
	h.keys(1, 9)
	h.untilKey(9)
	value := h.bindTicket(5)
	const day = 24 * time.Hour
	const step = ticketLife - day
	for age := step; age < proofLife; age += step {
		h.advance(step)
		c := h.dial()
		c.resumed(value)
		c.send(bindOf(5, 1))
		value = c.wantBound()
		c.conn.Close()
		h.until("the end of it", func() bool { return h.g.open.Load() == 0 })
	}
	h.advance(step)
	c := h.dial()
	_, body := c.resume(value)
	c.wantUseXX(body)
	if n := h.count("linecard_gateway_use_xx_total", "expired"); n != 1 {
		t.Errorf("%v expired", n)
	}
	k, now := ticketKey(9), h.clock.Now().Unix()
	future := wire.Ticket{Account: 5, Device: 1, Proved: now + int64(2*proofSkew/time.Second), Expiry: now + 100}
	d := h.dial()
	_, body = d.resume(wire.AppendTicketValue(nil, &k, &future, new([wire.TicketRandom]byte)))
	d.wantUseXX(body)
}

// TestKeysOfALostDisk: when dir/0 begins anew, so do its terms, and its keys count.
func TestKeysOfALostDisk(t *testing.T) {
	h := start(t, nil)
	h.router.hello(7)
	h.keys(7, 9)
	h.untilKey(9)
	h.keys(6, 5) // of a leader that was replaced
	h.keys(7, 10, 9)
	h.untilKey(10)
	h.cut[h.router]()
	h.until("its end", func() bool { return h.g.routeOf(stanza.DirGroup(0)).stream.Load() == nil })
	h.router.term = 1
	h.connect(h.router)
	h.until("the new leader", func() bool { return h.g.routeOf(stanza.DirGroup(0)).stream.Load() != nil })
	h.keys(1, 2)
	h.untilKey(2)
}

// TestResumeWithoutRouter: while nobody can bind an account, its tickets are not worked on, and stay as good.
func TestResumeWithoutRouter(t *testing.T) {
	h := start(t, func(c *Config) { c.ResumeBurst = 1 })
	h.keys(1, 9)
	h.untilKey(9)
	value := h.bindTicket(5)
	route := h.g.routeOf(h.g.dirOf(5))
	h.cut[h.router]()
	h.until("its end", func() bool { return route.stream.Load() == nil })
	for range 3 {
		c := h.dial()
		_, body := c.resume(value)
		if reason, wait, err := wire.ParseRefused(body); err != nil || reason != stanza.ReasonUnavailable || wait == 0 {
			t.Fatalf("%x: %v, %v, %v", body, reason, wait, err)
		}
	}
	h.connect(h.router)
	h.until("a router", func() bool { return route.stream.Load() != nil })
	c := h.dial()
	c.resumed(value)
	c.send(bindOf(5, 1))
	c.wantBound()
}
