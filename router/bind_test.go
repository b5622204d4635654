package router

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

func TestRegisterAndBind(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	handle := handleIn("ann")
	h.send(s, h.registerEnv(handle, key(1), 5))
	e := s.take(t, link.KindBound)
	hash := wire.StaticHash(key(1))
	if !bytes.HasPrefix(e.Payload, hash[:]) {
		t.Errorf("bound carries % x, want the key's hash % x first", e.Payload, hash)
	}
	v, _, _ := stanza.Decode(e.Payload[wire.HashSize:])
	b, err := stanza.ParseBound(v)
	if err != nil {
		t.Fatal(err)
	}
	want := stanza.Bound{Account: 1*testShards + testShard, Device: 1, Version: 1, Time: h.g.stamp, WindowIDs: 32, WindowBytes: 256 << 10}
	if !reflect.DeepEqual(b, want) {
		t.Errorf("bound %+v, want %+v", b, want)
	}
	if e.Account != b.Account || e.Device != 1 || e.Serial != link.MakeFence(1, 1) {
		t.Errorf("envelope %+v", e)
	}
	c := client{account: b.Account, device: 1, key: key(1)}

	// The id noted before this bind is what bound carries; the new one is durable by then.
	h.send(s, h.bindEnv(c, 5, 5000))
	if e := s.take(t, link.KindBound); e.ID != 0 {
		t.Errorf("noted %d before the first bind", e.ID)
	}
	h.send(s, link.Envelope{Kind: link.KindNote, Account: c.account, Device: 1, ID: 6000})
	h.send(s, h.bindEnv(c, 5, 100))
	if e := s.take(t, link.KindBound); e.ID != 6000 {
		t.Errorf("noted %d, want 6000", e.ID)
	}
	s.nothing(t)
}

func TestBoundOnlyAfterCommit(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	c := h.register(s, handleIn("ann"), 1, 5)
	h.g.hold = true
	h.send(s, h.bindEnv(c, 6, 9000))
	s.nothing(t)
	h.g.outcome = shard.Unknown
	h.g.hold = false
	h.settle()
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonUnavailable || e.RetryAfter == 0 {
		t.Errorf("close %v after %d", e.Reason, e.RetryAfter)
	}
	h.g.outcome, h.g.stale = shard.Committed, true
	h.send(s, h.bindEnv(c, 6, 0))
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonUnavailable {
		t.Errorf("a stale leader closed with %v", e.Reason)
	}
	s.nothing(t)
}

func TestBindRefusals(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	handle := handleIn("ann")
	c := h.register(s, handle, 1, 5)
	wrongKey, wrongDevice, wrongAccount, elsewhere := c, c, c, c
	wrongKey.key = key(2)
	wrongDevice.device = 9
	wrongAccount.account += testShards
	elsewhere.account++
	upper := h.registerEnv(handle, key(2), 9)
	half := resumed(h.bindEnv(c, 9, 1<<40))
	half.Payload = half.Payload[:wire.HashSize-1]
	for _, test := range []struct {
		name   string
		e      link.Envelope
		reason stanza.Reason
	}{
		{"key", h.bindEnv(wrongKey, 9, 1<<40), stanza.ReasonBadKey},
		{"device", h.bindEnv(wrongDevice, 9, 1<<40), stanza.ReasonUnlinked},
		{"account", h.bindEnv(wrongAccount, 9, 1<<40), stanza.ReasonUnknownAccount},
		{"shard", h.bindEnv(elsewhere, 9, 0), stanza.ReasonInternal},
		{"handle taken", upper, stanza.ReasonHandleTaken},
		{"bad handle", h.registerEnv("no spaces", key(2), 9), stanza.ReasonBadHandle},
		{"no key", link.Envelope{Kind: link.KindBind, Slot: 9, Gen: 1, Account: c.account, Device: 1}, stanza.ReasonInternal},
		{"key, resumed", resumed(h.bindEnv(wrongKey, 9, 1<<40)), stanza.ReasonBadKey},
		{"device, resumed", resumed(h.bindEnv(wrongDevice, 9, 1<<40)), stanza.ReasonUnlinked},
		{"account, resumed", resumed(h.bindEnv(wrongAccount, 9, 1<<40)), stanza.ReasonUnknownAccount},
		{"half a hash", half, stanza.ReasonInternal},
		{"the hash as a key", link.Envelope{Kind: link.KindBind, Slot: 9, Gen: 1, Account: c.account, Device: 1, Payload: resumed(h.bindEnv(c, 9, 0)).Payload}, stanza.ReasonInternal},
		{"no stanza", link.Envelope{Kind: link.KindRegister, Slot: 9, Gen: 1, Payload: make([]byte, 40)}, stanza.ReasonBadStanza},
	} {
		h.send(s, test.e)
		e := s.take(t, link.KindClose)
		if e.Reason != test.reason || e.Slot != 9 || e.Gen != 1 {
			t.Errorf("%s: close %v of slot %d", test.name, e.Reason, e.Slot)
		}
	}
	s.nothing(t)
	if a, _ := h.m.directory.account(c.account); a.devices[0].noted != 0 {
		t.Errorf("a refused bind noted %d", a.devices[0].noted)
	}
	// The owner's key gets the same account and device again, whatever the case of the letters.
	again := h.register(s, "A"+handle[1:], 1, 6)
	if again.account != c.account || again.device != c.device {
		t.Errorf("registered again as %d.%d", again.account, again.device)
	}
}

func TestRegistrationInvite(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Registration = RegistrationInvite })
	s := h.gateway(1, 1)
	handle := handleIn("ann")
	h.send(s, h.registerEnv(handle, key(1), 5))
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonRegistrationClosed {
		t.Fatalf("close %v", e.Reason)
	}
	reply := make(chan error, 1)
	h.m.invite("code1", time.Hour, reply)
	h.settle()
	if err := <-reply; err != nil {
		t.Fatal(err)
	}
	redeem := func(k byte, code string) stanza.Reason {
		h.send(s, link.Envelope{Kind: link.KindRedeem, Slot: 5, Gen: 1, Payload: redeemPayload(k, handle, code)})
		return s.take(t, link.KindRedeemed).Reason
	}
	if r := redeem(1, "other"); r != stanza.ReasonBadInvite {
		t.Errorf("unknown code: %v", r)
	}
	if r := redeem(1, "code1"); r != 0 {
		t.Errorf("good code: %v", r)
	}
	if r := redeem(2, "code1"); r != stanza.ReasonBadInvite {
		t.Errorf("second key: %v", r)
	}
	h.tick(2 * time.Hour)
	if r := redeem(1, "code1"); r != 0 {
		t.Errorf("same key again, late: %v", r)
	}
	h.m.invite("code2", time.Hour, reply)
	h.settle()
	<-reply
	h.tick(time.Hour)
	if r := redeem(3, "code2"); r != stanza.ReasonBadInvite {
		t.Errorf("expired code: %v", r)
	}
	e := h.registerEnv(handle, key(1), 5)
	e.Flags = link.FlagInvited
	h.send(s, e)
	s.take(t, link.KindBound)
	h.register(s, handle, 1, 6) // the owner needs no invite
	s.got = nil

	h.tick(inviteMemory + 2*time.Hour)
	if some, _ := h.m.directory.hasInvites(); some {
		t.Error("old invites are remembered")
	}
}

func TestDisplacement(t *testing.T) {
	h := newHarness(t, nil)
	one, two := h.gateway(1, 1), h.gateway(2, 1)
	q := h.offline(3)
	c := h.register(one, handleIn("ann"), 1, 5)
	first := q.take(t, link.KindAttach)
	if first.Gateway != (link.GatewayID{Node: 1, Incarnation: 1}) || first.Slot != 5 || first.Account != c.account || first.Group != h.m.queue {
		t.Fatalf("attach %+v", first)
	}
	h.send(two, h.bindEnv(c, 8, 0))
	if e := two.take(t, link.KindBound); e.Serial <= first.Serial {
		t.Errorf("serial %d after %d", e.Serial, first.Serial)
	}
	if e := one.take(t, link.KindClose); e.Reason != stanza.ReasonDisplaced || e.Slot != 5 || e.Gen != 1 {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
	if e := q.take(t, link.KindAttach); e.Gateway.Node != 2 || e.Slot != 8 {
		t.Errorf("attach %+v", e)
	}
	// The displaced session's end, or word that it is gone, counts no more.
	h.send(one, link.Envelope{Kind: link.KindUnbind, Slot: 5, Gen: 1, Account: c.account, Device: c.device})
	h.send(one, link.Envelope{Kind: link.KindGone, Slot: 5, Gen: 1, Account: c.account, Device: c.device})
	h.send(two, link.Envelope{Kind: link.KindUnbind, Slot: 8, Gen: 2, Account: c.account, Device: c.device})
	q.nothing(t)
	if h.m.bindings.len() != 1 {
		t.Fatal("the binding went")
	}
	// The same session again: nobody is closed.
	h.send(two, h.bindEnv(c, 8, 0))
	two.take(t, link.KindBound)
	q.take(t, link.KindAttach)
	two.nothing(t)
	h.send(two, link.Envelope{Kind: link.KindGone, Slot: 8, Gen: 1, Account: c.account, Device: c.device})
	if e := q.take(t, link.KindDetach); e.Gateway.Node != 2 || e.Slot != 8 {
		t.Errorf("detach %+v", e)
	}
	if h.m.bindings.len() != 0 {
		t.Error("a session that is gone stays bound")
	}
}

// TestLaterBindWins: the first bind waits for a commit and the second, of the same device, for a verification that ends earlier.
// The session that came last must win all the same.
func TestLaterBindWins(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	c := h.register(s, handleIn("ann"), 1, 5)
	h.g.hold = true
	h.send(s, h.bindEnv(c, 6, 100)) // proposes a note
	h.send(s, h.bindEnv(c, 7, 0))   // verifies
	for _, f := range h.g.verifies {
		f(true)
	}
	h.g.verifies = nil
	if e := s.take(t, link.KindBound); e.Slot != 7 {
		t.Fatalf("bound slot %d", e.Slot)
	}
	if e := s.take(t, link.KindClose); e.Slot != 5 || e.Reason != stanza.ReasonDisplaced {
		t.Fatalf("closed slot %d with %v", e.Slot, e.Reason)
	}
	h.g.hold = false
	h.settle()
	if e := s.take(t, link.KindClose); e.Slot != 6 || e.Reason != stanza.ReasonDisplaced {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
	s.nothing(t)
}

func TestDisplacedCloseWaitsForCredit(t *testing.T) {
	h := newHarness(t, nil)
	one, two := h.gateway(1, 1), h.gateway(2, 1)
	c := h.register(one, handleIn("ann"), 1, 5)
	one.err = link.ErrNoCredit
	h.send(two, h.bindEnv(c, 8, 0))
	two.take(t, link.KindBound)
	h.tick(50 * time.Millisecond)
	one.nothing(t)
	one.err = nil
	h.tick(50 * time.Millisecond)
	if e := one.take(t, link.KindClose); e.Reason != stanza.ReasonDisplaced || e.Slot != 5 {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
	h.tick(50 * time.Millisecond)
	one.nothing(t)
}

func (h *harness) rebindEnv(c client, slot uint32, serial link.Fence) link.Envelope {
	return link.Envelope{Kind: link.KindRebind, Slot: slot, Gen: 1, Account: c.account, Device: c.device, Serial: serial}
}

func TestRebindAfterRestart(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	h.send(s, h.registerEnv(handleIn("ann"), key(1), 5))
	bound := s.take(t, link.KindBound)
	c := client{account: bound.Account, device: 1, key: key(1)}
	gone := client{account: bound.Account, device: 4, key: key(1)}

	h.restart()
	one, two := h.gateway(1, 1), h.gateway(2, 1)
	q := h.offline(9)
	if len(q.got) != 0 {
		t.Fatal("attachments are called complete before the gateways have re-bound")
	}
	old := bound.Serial
	h.send(two, h.rebindEnv(c, 3, old-1)) // a loser that comes first
	q.take(t, link.KindAttach)
	h.send(one, h.rebindEnv(c, 5, old))
	if e := two.take(t, link.KindClose); e.Reason != stanza.ReasonDisplaced || e.Slot != 3 {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
	if e := q.take(t, link.KindAttach); e.Serial <= old || e.Gateway.Node != 1 {
		t.Errorf("attach %+v must win over what an earlier leader left", e)
	}
	if b, _ := h.m.bindings.get(keyOf(c.account, 1)); b.serial != old {
		t.Errorf("re-bound with serial %v, want %v kept", b.serial, old)
	}
	h.send(two, h.rebindEnv(c, 4, old-1)) // and one that comes second
	if e := two.take(t, link.KindClose); e.Reason != stanza.ReasonDisplaced || e.Slot != 4 {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
	h.send(two, h.rebindEnv(gone, 6, old))
	if e := two.take(t, link.KindClose); e.Reason != stanza.ReasonUnlinked || e.Slot != 6 {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
	h.send(one, link.Envelope{Kind: link.KindRebindDone, Term: h.m.term})
	q.nothing(t)
	h.send(two, link.Envelope{Kind: link.KindRebindDone, Term: h.m.term})
	if e := q.take(t, link.KindAttachDone); e.Term != 9 {
		t.Errorf("done for term %d", e.Term)
	}
	// A bind of this term is newer than everything re-bound.
	h.send(two, h.bindEnv(c, 8, 0))
	if e := two.take(t, link.KindBound); e.Serial <= old {
		t.Errorf("serial %v after %v", e.Serial, old)
	}
	if e := one.take(t, link.KindClose); e.Reason != stanza.ReasonDisplaced {
		t.Errorf("close %v", e.Reason)
	}
}

func TestStreamDown(t *testing.T) {
	h := newHarness(t, nil)
	q := h.offline(1)
	s := h.gateway(1, 1)
	c := h.register(s, handleIn("ann"), 1, 5)
	d := h.register(s, handleIn("bob"), 2, 6)
	q.got = nil

	// A short cut keeps the bindings; what the gateway does not repeat before it is done has ended meanwhile.
	h.m.down(s)
	h.tick(9 * time.Second)
	q.got = nil
	if h.m.bindings.len() != 2 {
		t.Fatal("dropped within the grace time")
	}
	s = h.gateway(1, 1)
	was, _ := h.m.bindings.get(keyOf(c.account, 1))
	serial := was.serial
	h.send(s, h.rebindEnv(c, 5, serial))
	q.take(t, link.KindAttach)
	h.send(s, link.Envelope{Kind: link.KindRebindDone, Term: h.m.term})
	if e := q.take(t, link.KindDetach); e.Account != d.account || e.Slot != 6 {
		t.Errorf("detach %+v", e)
	}
	q.take(t, link.KindAttachDone)
	s.nothing(t)

	h.m.down(s)
	h.tick(9990 * time.Millisecond)
	q.nothing(t)
	h.tick(10 * time.Millisecond)
	if e := q.take(t, link.KindDetach); e.Account != c.account || e.Gateway.Node != 1 {
		t.Errorf("detach %+v", e)
	}
	if h.m.bindings.len() != 0 || len(h.m.gateways.byID) != 0 {
		t.Errorf("%d bindings, %d gateways after the grace time", h.m.bindings.len(), len(h.m.gateways.byID))
	}
	next := h.gateway(7, 1)
	h.register(next, handleIn("cat"), 3, 1)
	if len(h.m.gateways.slots) != 1 {
		t.Error("the gateway's number is not used again")
	}
}

func TestNewIncarnation(t *testing.T) {
	h := newHarness(t, nil)
	q := h.offline(1)
	s := h.gateway(1, 1)
	h.register(s, handleIn("ann"), 1, 5)
	q.got = nil
	next := h.gateway(1, 2)
	h.settle()
	if e := q.take(t, link.KindDetach); e.Gateway.Incarnation != 1 {
		t.Errorf("detach %+v", e)
	}
	h.m.down(s)
	h.register(next, handleIn("bob"), 2, 5)
	if h.m.bindings.len() != 1 || len(h.m.gateways.byID) != 1 {
		t.Errorf("%d bindings, %d gateways", h.m.bindings.len(), len(h.m.gateways.byID))
	}
}

// TestWorkers: workers of one node stand beside each other, and a new run replaces only its own earlier one.
func TestWorkers(t *testing.T) {
	h := newHarness(t, nil)
	q := h.offline(1)
	first := h.gateway(1, link.NewIncarnation(1, 5))
	second := h.gateway(1, link.NewIncarnation(2, 5))
	h.register(first, handleIn("ann"), 1, 5)
	h.register(second, handleIn("bob"), 2, 5)
	if h.m.bindings.len() != 2 || len(h.m.gateways.byID) != 2 {
		t.Fatalf("%d bindings, %d gateways", h.m.bindings.len(), len(h.m.gateways.byID))
	}
	q.got = nil
	h.gateway(1, link.NewIncarnation(2, 6))
	h.settle()
	if e := q.take(t, link.KindDetach); e.Gateway.Incarnation != link.NewIncarnation(2, 5) || len(q.got) != 0 {
		t.Errorf("detach %+v, %d more", e, len(q.got))
	}
	if h.m.bindings.len() != 1 || len(h.m.gateways.byID) != 2 {
		t.Errorf("%d bindings, %d gateways", h.m.bindings.len(), len(h.m.gateways.byID))
	}
}

func TestFollow(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	c := h.register(s, handleIn("ann"), 1, 5)
	h.g.hold = true
	h.send(s, h.bindEnv(c, 6, 0))
	h.m.Follow()
	h.g.hold, h.g.stale = false, true
	h.settle()
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonUnavailable {
		t.Errorf("close %v", e.Reason)
	}
	h.send(s, h.bindEnv(c, 6, 3))
	if e := s.take(t, link.KindNotLeader); e.Slot != 6 || e.Gen != 1 || e.ID != 3 {
		t.Errorf("%+v", e)
	}
	h.send(s, link.Envelope{Kind: link.KindUnbind, Slot: 5, Gen: 1, Account: c.account, Device: 1})
	h.send(s, link.Envelope{Kind: link.KindNote, Account: c.account, Device: 1, ID: 50})
	s.nothing(t)
	h.g.stale = false
	h.m.Lead(4)
	if e := s.take(t, link.KindHello); e.Term != 4 {
		t.Errorf("hello of term %d", e.Term)
	}
	if h.m.bindings.len() != 0 {
		t.Error("bindings outlive a leadership")
	}
}

func TestMaxPending(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.MaxPending = 16 })
	s := h.gateway(1, 1)
	c := h.register(s, handleIn("ann"), 1, 5)
	h.g.hold = true
	for i := range 17 {
		h.send(s, h.bindEnv(c, uint32(10+i), 0))
	}
	if e := s.take(t, link.KindClose); e.Slot != 26 || e.Reason != stanza.ReasonBusy || e.RetryAfter == 0 {
		t.Errorf("closed slot %d with %v", e.Slot, e.Reason)
	}
	s.nothing(t)
	h.g.hold = false
	h.settle()
	if h.m.waiting != 0 {
		t.Errorf("%d still waiting", h.m.waiting)
	}
}

// What a worker's earlier run left on its stream does not touch the sessions of the run that replaced it.
func TestStreamOfAnEarlierRun(t *testing.T) {
	h := newHarness(t, nil)
	old := h.gateway(1, 1)
	c := h.register(old, handleIn("ann"), 1, 5)
	s := h.gateway(1, 2)
	h.send(s, h.bindEnv(c, 5, 0))
	s.take(t, link.KindBound)
	for _, kind := range []link.Kind{link.KindUnbind, link.KindGone} {
		h.send(old, link.Envelope{Kind: kind, Slot: 5, Gen: 1, Account: c.account, Device: c.device})
	}
	h.m.down(old)
	if h.m.bindings.len() != 1 {
		t.Error("unbound by an earlier run")
	}
}

// The end of a re-send on a stream that was replaced does not drop what the new stream is about to repeat.
func TestRebindDoneOfAReplacedStream(t *testing.T) {
	h := newHarness(t, nil)
	old := h.gateway(1, 1)
	c := h.register(old, handleIn("ann"), 1, 5)
	s := h.gateway(1, 1)
	h.send(old, link.Envelope{Kind: link.KindRebindDone, Term: h.m.term})
	if h.m.bindings.len() != 1 {
		t.Fatal("dropped by the old stream")
	}
	h.send(s, link.Envelope{Kind: link.KindRebind, Slot: 5, Gen: 1, Account: c.account, Device: c.device})
	h.send(s, link.Envelope{Kind: link.KindRebindDone, Term: h.m.term})
	if h.m.bindings.len() != 1 {
		t.Error("dropped though it was repeated")
	}
}
