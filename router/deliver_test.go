package router

import (
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// pair is two accounts of the test's shard, ann with two devices, and a queue's leader.
func pair(t *testing.T, change func(*Config)) (h *harness, s, q *fakeStream, ann, bob client) {
	h = newHarness(t, change)
	q = h.offline(1)
	s = h.gateway(1, 1)
	ann = h.register(s, handleIn("ann"), 1, 5)
	bob = h.register(s, handleIn("bob"), 2, 6)
	h.link(s, ann, 3)
	q.got = nil
	return h, s, q, ann, bob
}

func TestForward(t *testing.T) {
	h, s, q, ann, bob := pair(t, nil)
	sent := messageEnv(bob, 10, ann.account, 2, 1, 2)
	h.send(s, sent)
	e := q.take(t, link.KindStore)
	if e.Group != h.m.queue || e.Gateway != (link.GatewayID{Node: 1, Incarnation: 1}) || e.Slot != 6 || e.Gen != 1 || e.ID != 10 ||
		e.Account != bob.account || e.Device != 1 || e.Charge != 77 || string(e.Payload) != string(sent.Payload) {
		t.Errorf("stored %+v", e)
	}
	h.send(s, messageEnv(ann, 11, ann.account, 2, 2)) // the copy for her other device
	q.take(t, link.KindStore)
	read := stanza.ReadUp{ID: 12, Account: ann.account, Device: 2, IDs: stanza.AppendPacked(nil, []uint64{1, 5})}
	e = messageEnv(bob, 12, ann.account, 2)
	e.Payload = read.Append(nil)
	h.send(s, e)
	q.take(t, link.KindStore)
	s.nothing(t)
}

func TestRefusals(t *testing.T) {
	h, s, q, ann, bob := pair(t, nil)
	readTo := func(a stanza.Account, d stanza.Device) link.Envelope {
		r := stanza.ReadUp{ID: 12, Account: a, Device: d, IDs: stanza.AppendPacked(nil, []uint64{1})}
		e := messageEnv(bob, 12, a, 1)
		e.Payload = r.Append(nil)
		return e
	}
	raw := func(payload []byte) link.Envelope {
		e := messageEnv(bob, 12, ann.account, 2, 1, 2)
		e.Payload = payload
		return e
	}
	backwards := messageEnv(bob, 12, ann.account, 2, 2, 1)
	for _, test := range []struct {
		name   string
		e      link.Envelope
		reason stanza.Reason
	}{
		{"old version", messageEnv(bob, 12, ann.account, 1, 1, 2), stanza.ReasonStaleDevices},
		{"device missing", messageEnv(bob, 12, ann.account, 2, 1), stanza.ReasonStaleDevices},
		{"device too many", messageEnv(bob, 12, ann.account, 2, 1, 2, 3), stanza.ReasonStaleDevices},
		{"other device", messageEnv(bob, 12, ann.account, 2, 1, 3), stanza.ReasonStaleDevices},
		{"no body", messageEnv(bob, 12, ann.account, 2), stanza.ReasonInternal},
		{"own account, sender included", messageEnv(ann, 12, ann.account, 2, 1, 2), stanza.ReasonStaleDevices},
		{"own account, no other device", messageEnv(bob, 12, bob.account, 1, 1), stanza.ReasonForbidden},
		{"devices not ascending", backwards, stanza.ReasonForbidden},
		{"unknown account", messageEnv(bob, 12, ann.account+testShards*9, 1, 1), stanza.ReasonUnknownAccount},
		{"other shard", messageEnv(bob, 12, ann.account+1, 1, 1), stanza.ReasonInternal},
		{"read of an unknown device", readTo(ann.account, 3), stanza.ReasonForbidden},
		{"read of an unknown account", readTo(ann.account+testShards*9, 1), stanza.ReasonUnknownAccount},
		{"no stanza", raw([]byte{1}), stanza.ReasonInternal},
		{"another stanza", raw(stanza.Ping{}.Append(nil)), stanza.ReasonForbidden},
	} {
		r := h.refused(s, test.e)
		if r.Reason != test.reason {
			t.Errorf("%s: %v, want %v", test.name, r.Reason, test.reason)
		}
		if test.reason != stanza.ReasonStaleDevices {
			continue
		}
		keys, err := r.Devices.Keys(nil)
		if err != nil || r.Version != 2 || len(keys) != 2 || keys[0] != (stanza.DeviceKey{Device: 1, Key: key(1)}) || keys[1] != (stanza.DeviceKey{Device: 2, Key: key(3)}) {
			t.Errorf("%s: version %d, devices %v, %v", test.name, r.Version, keys, err)
		}
	}
	q.nothing(t)

	// No such account, says a leader that was replaced: that is not to be believed.
	h.g.stale = true
	if r := h.refused(s, messageEnv(bob, 12, ann.account+testShards*9, 1, 1)); r.Reason != stanza.ReasonUnavailable {
		t.Errorf("a stale leader refused %v", r.Reason)
	}
	h.g.stale = false

	q.err = link.ErrNoCredit
	if r := h.refused(s, messageEnv(bob, 13, ann.account, 2, 1, 2)); r.Reason != stanza.ReasonBusy || r.RetryAfter != 1000 {
		t.Errorf("without credit: %v after %d", r.Reason, r.RetryAfter)
	}
	q.err = link.ErrDown
	if r := h.refused(s, messageEnv(bob, 13, ann.account, 2, 1, 2)); r.Reason != stanza.ReasonUnavailable {
		t.Errorf("stream down: %v", r.Reason)
	}
	h.m.down(q)
	if r := h.refused(s, messageEnv(bob, 13, ann.account, 2, 1, 2)); r.Reason != stanza.ReasonUnavailable || r.RetryAfter != 1000 {
		t.Errorf("no queue: %v after %d", r.Reason, r.RetryAfter)
	}
}

func TestQueueNotLed(t *testing.T) {
	h, s, q, ann, bob := pair(t, nil)
	h.send(s, messageEnv(bob, 10, ann.account, 2, 1, 2))
	e := q.take(t, link.KindStore)
	h.send(q, link.Envelope{Kind: link.KindNotLeader, Group: h.m.queue, Gateway: e.Gateway, Slot: e.Slot, Gen: e.Gen, ID: e.ID, Charge: e.Charge})
	if r := s.take(t, link.KindRefused); r.Reason != stanza.ReasonUnavailable || r.Slot != 6 || r.Charge != 77 {
		t.Errorf("%+v", r)
	}
	if r := h.refused(s, messageEnv(bob, 11, ann.account, 2, 1, 2)); r.Reason != stanza.ReasonUnavailable {
		t.Errorf("%v", r.Reason)
	}
	h.send(q, link.Envelope{Kind: link.KindHello, Group: h.m.queue, Term: 2})
	q.got = nil
	h.send(s, messageEnv(bob, 11, ann.account, 2, 1, 2))
	q.take(t, link.KindStore)
}

func TestStrangers(t *testing.T) {
	h, s, q, ann, bob := pair(t, func(c *Config) { c.StrangerBurst, c.StrangerRate = 3, 2 })
	for i := range 3 {
		h.send(s, messageEnv(bob, uint64(10+i), ann.account, 2, 1, 2))
		q.take(t, link.KindStore)
	}
	r := h.refused(s, messageEnv(bob, 13, ann.account, 2, 1, 2))
	if r.Reason != stanza.ReasonBusy || r.RetryAfter != 500 {
		t.Fatalf("%v after %d", r.Reason, r.RetryAfter)
	}
	h.tick(500 * time.Millisecond)
	h.send(s, messageEnv(bob, 13, ann.account, 2, 1, 2))
	q.take(t, link.KindStore)
	// The other direction has its own, and after ann has written bob is no stranger.
	h.send(s, messageEnv(ann, 1, bob.account, 1, 1))
	q.take(t, link.KindStore)
	h.send(s, link.Envelope{Kind: link.KindContact, Account: ann.account, ID: uint64(bob.account)})
	for i := range 10 {
		h.send(s, messageEnv(bob, uint64(14+i), ann.account, 2, 1, 2))
		q.take(t, link.KindStore)
	}
	h.send(s, messageEnv(ann, 2, ann.account, 2, 2)) // her own devices have no limit
	q.take(t, link.KindStore)
	s.nothing(t)
}

func TestManyDevicesCompressed(t *testing.T) {
	h, s, _, ann, bob := pair(t, nil)
	for i := range stanza.MaxDevices - 2 {
		h.link(s, ann, byte(10+i))
	}
	r := h.refused(s, messageEnv(bob, 13, ann.account, 2, 1, 2))
	keys, err := r.Devices.Keys(nil)
	if err != nil || len(keys) != stanza.MaxDevices || keys[31].Key != key(39) || r.Version != 32 {
		t.Errorf("%d devices, version %d: %v", len(keys), r.Version, err)
	}
}

type countStream struct{ n int }

func (s *countStream) Send(*link.Envelope) error      { s.n++; return nil }
func (s *countStream) SendSpare(*link.Envelope) error { s.n++; return nil }
func (s *countStream) IssuedFor(string) bool          { return true }

func TestMessageAllocatesNothing(t *testing.T) {
	h, s, _, ann, bob := pair(t, func(c *Config) { c.StrangerBurst = 1e9 })
	q := &countStream{}
	h.m.route.to = q
	message := messageEnv(bob, 10, ann.account, 2, 1, 2)
	if n := testing.AllocsPerRun(1000, func() { h.m.receive(s, &message) }); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
	if q.n < 1000 {
		t.Fatalf("%d stored", q.n)
	}
	// Refusals under attack cost none either.
	h.m.peers[s].gw.to = &countStream{}
	stale := messageEnv(bob, 10, ann.account, 1, 1, 2)
	if n := testing.AllocsPerRun(1000, func() { h.m.receive(s, &stale) }); n != 0 {
		t.Errorf("%v allocations a stale message", n)
	}
	h.m.strangers = newBucketTable(256, 1, 0.001, 1)
	if n := testing.AllocsPerRun(1000, func() { h.m.receive(s, &message) }); n != 0 {
		t.Errorf("%v allocations a limited message", n)
	}
}

func BenchmarkMessage(b *testing.B) {
	h, s, _, ann, bob := pair(&testing.T{}, func(c *Config) { c.StrangerBurst = 1e9 })
	h.m.route.to = &countStream{}
	message := messageEnv(bob, 10, ann.account, 2, 1, 2)
	b.ReportAllocs()
	for b.Loop() {
		h.m.receive(s, &message)
	}
}
