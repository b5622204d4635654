package gateway

import (
	"testing"
	"time"

	promtest "github.com/prometheus/client_golang/prometheus/testutil"

	"linecard.example/internal/config"
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// wantRefusal reads a refused stanza.
func (c *raw) wantRefusal(id uint64, reason stanza.Reason) stanza.Refused {
	c.t.Helper()
	v, err := c.next()
	for err == nil && v.Tag == stanza.TagRetry { // word of a leader that came or went, to who was refused for want of one
		v, err = c.next()
	}
	if err != nil || v.Tag != stanza.TagRefused {
		c.t.Fatalf("got %v (%v), want refused", v.Tag, err)
	}
	r, err := stanza.ParseRefused(v)
	if err != nil || r.ID != id || r.Reason != reason {
		c.t.Fatalf("refused %d %v (%v), want %d %v", r.ID, r.Reason, err, id, reason)
	}
	return r
}

func TestWindow(t *testing.T) {
	h := start(t, func(c *Config) { c.WindowIDs = 2 })
	c := h.bind(5)
	for id := uint64(1); id <= 4; id++ {
		c.send(message(id, 9, "x"))
	}
	var first link.Envelope
	for id := uint64(1); id <= 4; id++ {
		if e := h.router.skipTo(link.KindMessage); id == 1 {
			first = e
		}
	}
	c.send(message(5, 9, "x"))
	if r := c.wantRefusal(5, stanza.ReasonWindow); r.RetryAfter == 0 {
		t.Error("no retry-after")
	}
	// Answers make room, and forgive the first time.
	for id := uint64(1); id <= 2; id++ {
		h.offline.send(link.Envelope{Kind: link.KindAck, Group: stanza.QueueGroup(1), Slot: first.Slot, Gen: first.Gen, ID: id, Charge: first.Charge})
	}
	c.ids(2)
	c.send(message(5, 9, "x"), message(6, 9, "x"), message(7, 9, "x"))
	c.wantRefusal(7, stanza.ReasonWindow)
	c.send(message(8, 9, "x"))
	c.wantClose(stanza.ReasonWindow)
	h.router.skipTo(link.KindUnbind)
}

func TestWindowBytes(t *testing.T) {
	h := start(t, func(c *Config) { c.WindowIDs, c.WindowBytes = 16, 64<<10 })
	c := h.bind(5)
	big := string(make([]byte, 40<<10))
	for id := uint64(1); id <= 3; id++ {
		c.send(message(id, 9, big)) // 11 units of 4 KiB each, of 32
	}
	c.wantRefusal(3, stanza.ReasonWindow)
	h.router.want(link.KindMessage)
}

func TestSendRate(t *testing.T) {
	h := start(t, func(c *Config) { c.SendBurst, c.SendRate = 2, 10 })
	c := h.bind(5)
	c.send(message(1, 9, "x"), message(2, 9, "x"), message(3, 9, "x"))
	c.wantRefusal(3, stanza.ReasonBusy)
	h.advance(100 * time.Millisecond)
	c.send(message(3, 9, "x"), message(4, 9, "x"))
	c.wantRefusal(4, stanza.ReasonBusy)
	for range 3 {
		h.router.skipTo(link.KindMessage)
	}
}

func TestTooLarge(t *testing.T) {
	h := start(t, func(c *Config) { c.MaxMessage = 2 << 10 })
	c := h.bind(5)
	c.send(message(1, 9, string(make([]byte, 3000))))
	c.wantRefusal(1, stanza.ReasonTooLarge)
}

// TestForbidden: only the gateway says whom a stanza is from.
func TestForbidden(t *testing.T) {
	h := start(t, nil)
	c := h.bind(5)
	b := stanza.Begin(nil, stanza.TagMessage)
	b.Uint(stanza.AttrID, 1)
	b.Uint(stanza.AttrAccount, 9)
	b.Uint(stanza.AttrFrom, 3)
	b.Uint(stanza.AttrVersion, 1)
	c.send(b.End(stanza.AppendCipher(nil, 1, []byte("x"))))
	c.wantClose(stanza.ReasonForbidden)
}

func TestBadFrames(t *testing.T) {
	h := start(t, nil)
	for name, test := range map[string]struct {
		send   func(c *raw)
		reason stanza.Reason
	}{
		"not canonical": {func(c *raw) { c.send([]byte{byte(stanza.TagPing), 0x80, 0}) }, stanza.ReasonBadStanza},
		"empty":         {func(c *raw) { c.send() }, stanza.ReasonBadStanza},
		"bind again":    {func(c *raw) { c.send((&stanza.Bind{Account: 1, Device: 1}).Append(nil)) }, stanza.ReasonBadStanza},
		"message to nobody": {func(c *raw) {
			b := stanza.Begin(nil, stanza.TagMessage)
			b.Uint(stanza.AttrID, 1)
			c.send(b.End([]byte{1}))
		}, stanza.ReasonBadStanza},
		"acks of nothing": {func(c *raw) { c.send((&stanza.DeliveryAck{Count: 1}).Append(nil)) }, stanza.ReasonBadStanza},
		"changed": {func(c *raw) {
			f := c.seal(stanza.Ping{}.Append(nil))
			f[3] ^= 1
			c.write(f)
		}, stanza.ReasonDecryptFailed},
		"repeated": {func(c *raw) {
			f := c.seal(stanza.Ping{}.Append(nil))
			c.write(f)
			c.wantTag(stanza.TagPong)
			c.write(f)
		}, stanza.ReasonDecryptFailed},
		"short": {func(c *raw) { c.write([]byte{0, 3, 1, 2, 3}) }, stanza.ReasonDecryptFailed},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.bind(5)
			c.t = t
			test.send(c)
			c.wantClose(test.reason)
		})
	}
}

// TestUnavailable: without a leader the answer comes at once, and the window is not charged.
func TestUnavailable(t *testing.T) {
	h := start(t, nil)
	c := h.bind(5)
	h.cut[h.router]()
	for id := uint64(1); id <= 80; id++ {
		c.send(message(id, 9, "x"))
		if r := c.wantRefusal(id, stanza.ReasonUnavailable); r.RetryAfter == 0 {
			t.Fatal("no retry-after")
		}
	}
	if ok, why := h.g.Ready(); ok || why != "no leader known for dir/0" {
		t.Errorf("ready %v %q", ok, why)
	}
}

func TestNoCredit(t *testing.T) {
	h := start(t, nil)
	h.cut[h.router]()
	slow := newPeer(t, link.RoleRouter, 1500)
	slow.auto = bindAll()
	h.connect(slow)
	h.until("ready", func() bool { ok, _ := h.g.Ready(); return ok })
	c := h.bind(5)
	slow.mu.Lock()
	slow.hold = true
	slow.mu.Unlock()
	id := uint64(1)
	for ; id < 20; id++ {
		c.send(message(id, 9, string(make([]byte, 100))))
	}
	r, err := stanza.ParseRefused(c.wantTag(stanza.TagRefused))
	if err != nil || r.Reason != stanza.ReasonBusy {
		t.Fatalf("%+v %v", r, err)
	}
}

func TestRetryOnLinkLoss(t *testing.T) {
	h := start(t, nil)
	c, quiet := h.bind(5), h.bind(6)
	c.send(message(1, 9, "x"))
	h.router.want(link.KindMessage)
	h.cut[h.offline]()
	c.wantTag(stanza.TagRetry)
	quiet.send(stanza.Ping{}.Append(nil))
	quiet.wantTag(stanza.TagPong) // nothing to send again there
}

// TestRetryWhenQueueIsBack: what was sent while the queue's leader could not be reached was stored through the router, and its answer
// went nowhere.
func TestRetryWhenQueueIsBack(t *testing.T) {
	h := start(t, nil)
	c := h.bind(5)
	h.cut[h.offline]()
	c.send(message(1, 9, "x"))
	h.router.want(link.KindMessage)
	h.connect(h.offline)
	c.wantTag(stanza.TagRetry)
}

func TestRetryOnNewLeader(t *testing.T) {
	h := start(t, nil)
	c := h.bind(5)
	c.send(message(1, 9, "x"))
	h.router.want(link.KindMessage)
	h.offline.hello(1) // the same leader again
	c.send(stanza.Ping{}.Append(nil))
	c.wantTag(stanza.TagPong)
	h.offline.hello(2)
	c.wantTag(stanza.TagRetry)
}

// TestTermsBeginAgain: a queue that lost its disk has lower terms than before. It is believed when nobody else leads, not beside a
// leader.
func TestTermsBeginAgain(t *testing.T) {
	h := start(t, nil)
	term := func() uint64 {
		h.g.routeMu.Lock()
		defer h.g.routeMu.Unlock()
		return h.g.queues[1].term
	}
	h.offline.hello(7)
	h.until("the new leader", func() bool { return term() == 7 })
	other := newPeer(t, link.RoleOffline, 0)
	other.term = 3
	h.connect(other)
	h.cut[other]() // everything that it sent has been received
	if term() != 7 {
		t.Fatalf("term %d", term())
	}
	h.cut[h.offline]()
	fresh := newPeer(t, link.RoleOffline, 0)
	fresh.term = 2
	h.connect(fresh)
	h.until("ready", func() bool { ok, _ := h.g.Ready(); return ok })
	if term() != 2 {
		t.Errorf("term %d", term())
	}
}

// TestRetryWithoutAnswer: 10 s without any answer give up what is unanswered.
func TestRetryWithoutAnswer(t *testing.T) {
	h := start(t, func(c *Config) { c.AnswerTimeout = config.Duration(10 * time.Second) })
	c := h.bind(5)
	c.send(message(1, 9, "x"))
	h.router.want(link.KindMessage)
	h.advance(9 * time.Second)
	c.send(stanza.Ping{}.Append(nil))
	c.wantTag(stanza.TagPong)
	h.advance(6 * time.Second)
	c.wantTag(stanza.TagRetry)
	// The window is free again, and the answer that was late does no harm.
	c.send(message(1, 9, "x"))
	e := h.router.skipTo(link.KindMessage)
	for range 3 {
		h.offline.send(link.Envelope{Kind: link.KindAck, Group: stanza.QueueGroup(1), Slot: e.Slot, Gen: e.Gen, ID: 1, Charge: e.Charge})
	}
	c.ids(1)
}

// TestLostAnswers: answers that are lost while others come do not add up until an honest client is taken for one that ignores its
// window. It has one message unanswered at any time, and sends each a second time.
func TestLostAnswers(t *testing.T) {
	h := start(t, func(c *Config) { c.WindowIDs, c.AnswerTimeout = 2, config.Duration(10*time.Second) })
	c := h.bind(5)
	for id := uint64(1); id <= 10; id++ {
		c.send(message(id, 9, "x"))
		h.router.skipTo(link.KindMessage)
		h.advance(5 * time.Second)
		c.send(message(id, 9, "x"))
		e := h.router.skipTo(link.KindMessage)
		h.offline.send(link.Envelope{Kind: link.KindAck, Group: stanza.QueueGroup(1), Slot: e.Slot, Gen: e.Gen, ID: id, Charge: e.Charge})
		v, err := c.next()
		for err == nil && v.Tag == stanza.TagRetry {
			v, err = c.next()
		}
		if err != nil || v.Tag != stanza.TagAck {
			t.Fatalf("message %d: %v %v", id, v.Tag, err)
		}
	}
	c.conn.Close()
	h.until("nothing counted as unanswered", func() bool {
		h.advance(time.Second)
		return promtest.ToFloat64(h.g.metrics.unanswered) == 0 && promtest.ToFloat64(h.g.metrics.sessions) == 0
	})
}

// TestHungAnswers: a client that resends while nothing is answered, by itself and because it was told to, keeps its session.
func TestHungAnswers(t *testing.T) {
	h := start(t, func(c *Config) { c.WindowIDs = 2 })
	c := h.bind(5)
	both := func() {
		c.send(message(1, 9, "x"), message(2, 9, "x"))
		h.router.skipTo(link.KindMessage)
		h.router.skipTo(link.KindMessage)
	}
	both()
	both()
	h.advance(4 * time.Second) // the keepalive has not looked yet
	both()
	c.send(message(3, 9, "x"), message(4, 9, "x"))
	c.send(message(5, 9, "x"))
	c.wantRefusal(5, stanza.ReasonWindow) // more than twice the window at once is too much all the same
}

func TestMessageNotLeader(t *testing.T) {
	h := start(t, nil)
	c := h.bind(5)
	c.send(message(1, 9, "x"))
	e := h.router.want(link.KindMessage)
	h.router.send(link.Envelope{Kind: link.KindNotLeader, Group: e.Group, Slot: e.Slot, Gen: e.Gen, ID: 1, Charge: e.Charge})
	c.wantRefusal(1, stanza.ReasonUnavailable)
	c.send(message(1, 9, "x")) // the route is forgotten
	c.wantRefusal(1, stanza.ReasonUnavailable)
}

func TestRefusedPassesThrough(t *testing.T) {
	h := start(t, nil)
	c := h.bind(5)
	c.send(message(1, 9, "x"))
	e := h.router.want(link.KindMessage)
	r := stanza.Refused{ID: 1, Reason: stanza.ReasonGap, Last: 0, HasLast: true}
	h.offline.send(link.Envelope{
		Kind: link.KindRefused, Group: stanza.QueueGroup(1), Slot: e.Slot, Gen: e.Gen, ID: 1, Charge: e.Charge, Reason: r.Reason, Payload: r.Append(nil),
	})
	c.wantRefusal(1, stanza.ReasonGap)
}
