package gateway

import (
	"reflect"
	"testing"
	"time"
	"unsafe"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

func TestSlotSize(t *testing.T) {
	if n := unsafe.Sizeof(session{}); n > 128 {
		t.Fatalf("a session takes %d bytes", n)
	}
	typ := reflect.TypeFor[session]()
	for i := range typ.NumField() {
		switch k := typ.Field(i).Type.Kind(); k {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.String, reflect.Func, reflect.Chan:
			t.Errorf("%s is a %v", typ.Field(i).Name, k)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	if faults := DefaultConfig().Validate(); faults != nil {
		t.Fatalf("defaults: %v", faults)
	}
	if n := len((Config{}).Validate()); n < 20 {
		t.Errorf("the zero config has %d faults, want all of them", n)
	}
}

// TestSession follows one session from registration to its end.
func TestSession(t *testing.T) {
	h := start(t, nil)
	c := h.dial()
	c.preamble()
	reg := stanza.Register{Handle: []byte("Alice"), ID: 5}
	c.handshake(reg.Append(nil))
	bound, err := stanza.ParseBound(c.wantTag(stanza.TagBound))
	if err != nil || bound.Account != 1 || bound.Device != 1 {
		t.Fatalf("bound %+v, %v", bound, err)
	}

	// Up: a message goes to the recipient's directory as it is, its ack comes back, coalesced and in order.
	msg := message(2, 6, "hello")
	c.send(msg, message(1, 6, "before"))
	e := h.router.want(link.KindMessage)
	if e.Group != stanza.DirGroup(6%testShards) || e.Account != 1 || e.Device != 1 || e.ID != 2 || int(e.Charge) != len(msg) || string(e.Payload) != string(msg) {
		t.Fatalf("forwarded as %+v", e)
	}
	if x := h.router.want(link.KindContact); x.Account != 1 || x.ID != 6 || x.Group != stanza.DirGroup(1) {
		t.Fatalf("contact %+v", x)
	}
	h.router.want(link.KindMessage) // the same pair is no news
	ack := link.Envelope{Kind: link.KindAck, Group: stanza.QueueGroup(2), Slot: e.Slot, Gen: e.Gen, ID: 2, Charge: e.Charge}
	h.offline.send(ack)
	ack.ID = 1
	h.offline.send(ack)
	if got := c.ids(2); got[0]+got[1] != 3 {
		t.Fatalf("acks %v", got)
	}

	// Down.
	h.offline.send(link.Envelope{Kind: link.KindDeliver, Group: stanza.QueueGroup(1), Slot: e.Slot, Gen: e.Gen, Epoch: 10, ID: 1, Payload: delivery(3, "x")})
	c.wantTag(stanza.TagMessage)
	c.send((&stanza.DeliveryAck{Count: 1}).Append(nil))
	if a := h.offline.want(link.KindDeliveryAck); a.ID != 1 || a.Epoch != 10 || a.Account != 1 || a.Device != 1 || a.Slot != e.Slot {
		t.Fatalf("delivery ack %+v", a)
	}

	// Ping, and the end.
	c.send(stanza.Ping{}.Append(nil))
	c.wantTag(stanza.TagPong)
	c.send((&stanza.Close{Reason: stanza.ReasonPeerClosed}).Append(nil))
	if u := h.router.want(link.KindUnbind); u.Account != 1 || u.Device != 1 || u.Slot != e.Slot || u.Gen != e.Gen || u.Serial == 0 {
		t.Fatalf("unbind %+v", u)
	}
	c.wantClose(stanza.ReasonPeerClosed)
	h.until("the connection to end", func() bool { return h.g.open.Load() == 0 })
}

func TestBindNotes(t *testing.T) {
	h := start(t, nil)
	c := h.bind(5)
	c.send(message(1023, 5, "a"))
	h.router.want(link.KindMessage) // to itself: no contact
	c.send(message(1024, 5, "b"))
	h.router.want(link.KindMessage)
	if n := h.router.want(link.KindNote); n.ID != 1024 || n.Account != 5 || n.Device != 1 || n.Group != stanza.DirGroup(1) {
		t.Fatalf("note %+v", n)
	}
}

func TestQueries(t *testing.T) {
	h := start(t, func(c *Config) { c.LookupBurst = 3 })
	c := h.bind(5)
	send := func(q stanza.Query) { c.send(q.Append(nil)) }
	wantError := func(reason stanza.Reason) {
		t.Helper()
		e, err := stanza.ParseQueryError(c.wantTag(stanza.TagError))
		if err != nil || e.Reason != reason {
			t.Fatalf("%+v %v, want %v", e, err, reason)
		}
	}
	send(stanza.Query{ID: 1, Op: stanza.OpLookup, Handle: []byte("BOB")})
	e := h.router.want(link.KindQuery)
	if e.Group != stanza.DirGroup(stanza.HandleShard("bob", testShards)) || e.ID != 1 || e.Account != 5 {
		t.Fatalf("query %+v", e)
	}
	r := stanza.Result{ID: 1, Account: 3}
	h.router.send(link.Envelope{Kind: link.KindResult, Group: e.Group, Slot: e.Slot, Gen: e.Gen, ID: 1, Payload: r.Append(nil)})
	c.wantTag(stanza.TagResult)
	send(stanza.Query{ID: 2, Op: stanza.OpLookup, Handle: []byte("b b")})
	wantError(stanza.ReasonUnknownAccount)
	send(stanza.Query{ID: 3, Op: 99})
	wantError(stanza.ReasonForbidden)
	send(stanza.Query{ID: 4, Op: stanza.OpUnlink, Device: 2})
	wantError(stanza.ReasonBusy)
	h.advance(time.Second)
	send(stanza.Query{ID: 5, Op: stanza.OpUnlink, Device: 2})
	if e := h.router.want(link.KindQuery); e.Group != stanza.DirGroup(1) || e.ID != 5 {
		t.Fatalf("query %+v", e)
	}
	h.router.send(link.Envelope{Kind: link.KindNotLeader, Group: e.Group, Slot: e.Slot, Gen: e.Gen, ID: 5})
	wantError(stanza.ReasonUnavailable)
}

// turned waits until every loop has had a turn at the present time of the clock.
func (h *harness) turned() {
	h.t.Helper()
	now := h.clock.Now().UnixNano()
	h.until("a turn of each loop", func() bool {
		for _, l := range h.g.loops {
			if l.turned.Load() < now {
				return false
			}
		}
		return true
	})
}

// advance moves the clock and waits until every loop has seen it.
func (h *harness) advance(d time.Duration) {
	h.t.Helper()
	h.clock.Advance(d)
	for _, l := range h.g.loops {
		l.wake()
	}
	h.turned()
}

func TestUnknownStanzasAreSkipped(t *testing.T) {
	h := start(t, nil)
	c := h.bind(5)
	b := stanza.Begin(nil, stanza.Tag(50))
	b.Uint(stanza.AttrID, 1)
	c.send(b.End(nil), stanza.Ping{}.Append(nil))
	c.wantTag(stanza.TagPong)
}

func TestUseXX(t *testing.T) {
	h := start(t, nil)
	h.advance(keysGrace)
	c := h.dial()
	c.preamble()
	resume := wire.AppendResume(nil, make([]byte, 40), make([]byte, 48))
	c.write(resume)
	c.early = append(c.early, resume...)
	body, err := c.frame()
	if err != nil || wire.ParseUseXX(body) != nil {
		t.Fatalf("answer to resume: %x, %v", body, err)
	}
	c.early = wire.AppendFrame(c.early, body)
	bind := stanza.Bind{Account: 5, Device: 1}
	c.handshake(bind.Append(nil))
	c.wantTag(stanza.TagBound)

	again := h.dial()
	again.preamble()
	again.write(resume)
	again.write(resume)
	if _, err := again.frame(); err != nil {
		t.Fatal(err)
	}
	again.wantRefused(stanza.ReasonBadFrame)
}

// TestPingAnnouncesAnInterval: it counts from then on, and a ping without one leaves it.
func TestPingAnnouncesAnInterval(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		ping stanza.Ping
		want int // idle limit, seconds
	}{
		{stanza.Ping{}, 60 + 30 + 30},
		{stanza.Ping{Interval: 240}, 240 + 120 + 30},
		{stanza.Ping{}, 240 + 120 + 30},
		{stanza.Ping{Interval: 1}, 60 + 30 + 30},
		{stanza.Ping{Interval: 5000}, 900 + 450 + 30},
	} {
		b.feed(nil, c.ping.Append([]byte{0}), 1)
		b.l.flush()
		if got := b.s.idleLimit(); got != c.want || b.s.state != stateBound {
			t.Errorf("after %+v %d s, want %d", c.ping, got, c.want)
		}
	}
}
