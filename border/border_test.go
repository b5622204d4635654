package border

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// fake is a stream that keeps what is sent on it.
type fake struct {
	got []link.Envelope
	err error
}

func (s *fake) Send(e *link.Envelope) error {
	if s.err != nil {
		return s.err
	}
	c := *e
	c.Payload = bytes.Clone(e.Payload)
	s.got = append(s.got, c)
	return nil
}

func (s *fake) SendSpare(e *link.Envelope) error { return s.Send(e) }

// take returns the next envelope, which must be of the kind.
func (s *fake) take(t testing.TB, kind link.Kind) link.Envelope {
	t.Helper()
	if len(s.got) == 0 {
		t.Fatalf("nothing sent, want %v", kind)
	}
	e := s.got[0]
	s.got = s.got[1:]
	if e.Kind != kind {
		t.Fatalf("sent %v (reason %v), want %v", e.Kind, e.Reason, kind)
	}
	return e
}

// Accounts of region 1, which the border is of, and of region 2, its peer.
const (
	here     = stanza.Account(1<<30 | 4)
	there    = stanza.Account(2<<30 | 5)
	elsewher = stanza.Account(3<<30 | 6)
	shards   = 4
)

type rig struct {
	t               testing.TB
	b               *Border
	now             time.Time
	router, offline *fake
	peer            *fake
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, now: time.Unix(1_700_000_000, 0), router: &fake{}, offline: &fake{}, peer: &fake{}}
	cfg := Config{Number: 1, Listen: "127.0.0.1:1", Peers: map[string]Peer{"2": {CA: "x"}}}
	var err error
	r.b, err = New(cfg, Deps{Node: 1, Shards: shards, Cluster: "one", Clock: func() time.Time { return r.now }})
	if err != nil {
		t.Fatal(err)
	}
	r.b.innerUp(r.router)
	r.b.innerUp(r.offline)
	for n := range shards {
		r.within(r.router, link.Envelope{Kind: link.KindHello, Group: stanza.DirGroup(n), Term: 3})
		r.within(r.offline, link.Envelope{Kind: link.KindHello, Group: stanza.QueueGroup(n), Term: 3})
	}
	r.b.outerUp(r.peer, 2)
	r.router.take(t, link.KindRegions)
	if e := r.offline.take(t, link.KindRegions); e.ID != 1<<2 {
		t.Fatalf("regions %b", e.ID)
	}
	return r
}

func (r *rig) within(s *fake, e link.Envelope) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.fromWithin(s, &e)
}

func (r *rig) abroad(e link.Envelope) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.fromAbroad(r.peer, 2, &e)
}

func message(from, to stanza.Account) link.Envelope {
	m := stanza.MessageUp{ID: 10, Account: to, Version: 1, Body: stanza.AppendCipher(nil, 1, []byte("c"))}
	return link.Envelope{Kind: link.KindForward, Group: stanza.QueueGroup(1), Slot: 8, Gen: 9, Epoch: 77, Account: from, Device: 2, ID: 10, Payload: m.Append(nil)}
}

func question(from stanza.Account, q stanza.Query) link.Envelope {
	q.ID = 6
	return link.Envelope{Kind: link.KindQuery, Group: stanza.DirGroup(2), Gateway: link.GatewayID{Node: 5, Incarnation: 6}, Slot: 8, Gen: 9,
		Account: from, Device: 2, ID: 6, Payload: q.Append(nil)}
}

// TestForwards follows a message out and one in, with their answers.
func TestForwards(t *testing.T) {
	r := newRig(t)
	r.within(r.offline, message(here, there))
	e := r.peer.take(t, link.KindForward)
	if e.Account != here || e.Device != 2 || e.ID != 10 || e.Group != askGroup {
		t.Errorf("out %+v", e)
	}
	r.abroad(link.Envelope{Kind: link.KindForwarded, Slot: e.Slot, Gen: e.Gen, Flags: link.FlagStale})
	if a := r.offline.take(t, link.KindForwarded); a.Slot != 8 || a.Gen != 9 || a.Epoch != 77 || a.Reason != 0 || a.Flags != link.FlagStale || a.Group != stanza.QueueGroup(1) {
		t.Errorf("answer %+v", a)
	}
	r.abroad(link.Envelope{Kind: link.KindForwarded, Slot: e.Slot, Gen: e.Gen}) // again: nobody waits
	if len(r.offline.got) != 0 {
		t.Error("a call was answered twice")
	}
	for _, c := range []struct {
		answer link.Envelope
		from   *fake
		reason stanza.Reason
	}{
		{link.Envelope{Kind: link.KindAck, ID: 10}, r.offline, 0},
		{link.Envelope{Kind: link.KindRefused, ID: 10, Reason: stanza.ReasonQueueFull, RetryAfter: 30000}, r.offline, stanza.ReasonQueueFull},
		{link.Envelope{Kind: link.KindNotLeader, ID: 10, Group: stanza.DirGroup(0)}, r.router, stanza.ReasonUnavailable},
	} {
		r.within(r.router, link.Envelope{Kind: link.KindHello, Group: stanza.DirGroup(0), Term: 4})
		r.abroad(message(there, here))
		e := r.router.take(t, link.KindForward)
		if e.Group != stanza.DirGroup(0) || e.Account != there || e.Gateway != (link.GatewayID{}) {
			t.Errorf("in %+v", e)
		}
		c.answer.Slot, c.answer.Gen = e.Slot, e.Gen
		r.within(c.from, c.answer)
		if a := r.peer.take(t, link.KindForwarded); a.Reason != c.reason || a.Slot != 8 || a.Gen != 9 || a.Epoch != 77 || a.Group != answerGroup {
			t.Errorf("%v: %+v", c.answer.Kind, a)
		}
	}
	if r.b.calls.busy != 0 {
		t.Errorf("%d calls are left", r.b.calls.busy)
	}
}

// TestPeerMayNot: a peer speaks for its own accounts, to accounts here, and asks nothing but who somebody is.
func TestPeerMayNot(t *testing.T) {
	r := newRig(t)
	noDevice := message(there, here)
	noDevice.Device = 0
	for name, e := range map[string]link.Envelope{
		"for an account here":           message(here, here),
		"for a third region":            message(elsewher, here),
		"to a third region":             message(there, elsewher),
		"to itself":                     message(there, there),
		"of no device":                  noDevice,
		"a question of an account here": question(here, stanza.Query{Op: stanza.OpDeviceList, Account: here}),
		"a question through here":       question(there, stanza.Query{Op: stanza.OpDeviceList, Account: elsewher}),
		"a name through here":           question(there, stanza.Query{Op: stanza.OpLookup, Handle: []byte("bob@3")}),
		"a name without region":         question(there, stanza.Query{Op: stanza.OpLookup, Handle: []byte("bob")}),
		"a device":                      question(there, stanza.Query{Op: stanza.OpLink, Key: make([]byte, 32)}),
		"an end of a device":            question(there, stanza.Query{Op: stanza.OpUnlink, Device: 1}),
	} {
		r.abroad(e)
		if len(r.router.got)+len(r.offline.got) != 0 {
			t.Errorf("%s was passed on", name)
		}
		if e.Kind == link.KindForward {
			if a := r.peer.take(t, link.KindForwarded); a.Reason != stanza.ReasonForbidden {
				t.Errorf("%s: %v", name, a.Reason)
			}
		} else {
			r.peer.take(t, link.KindResult)
		}
	}
	delivered := append([]byte{byte(stanza.TagDelivered)}, 1)
	undelivered := append([]byte{byte(stanza.TagUndelivered), 27}, 1)
	for name, e := range map[string]link.Envelope{
		"a receipt of a third":         {Kind: link.KindReceipt, Account: here, Device: 1, ID: uint64(elsewher), Payload: delivered},
		"a receipt of an account here": {Kind: link.KindReceipt, Account: here, Device: 1, ID: uint64(here), Payload: delivered},
		"a receipt for a third":        {Kind: link.KindReceipt, Account: elsewher, Device: 1, ID: uint64(there), Payload: delivered},
		"word of a failure":            {Kind: link.KindReceipt, Account: here, Device: 1, ID: uint64(there), Payload: undelivered},
		"a confirmation for a third":   {Kind: link.KindReceiptStored, Account: here, Payload: []byte{4, 1}},
		"what a gateway says":          {Kind: link.KindMessage, Account: there, Device: 1, ID: 10, Payload: message(there, here).Payload},
		"what a router says":           {Kind: link.KindStore, Account: there, Device: 1, ID: 10, Payload: message(there, here).Payload},
		"what an operator says":        {Kind: link.KindLeave},
		"hello":                        {Kind: link.KindHello, Group: stanza.DirGroup(0), Term: 99},
		"regions":                      {Kind: link.KindRegions, ID: 1},
		"a number out of range":        {Kind: link.KindForward, Account: 1 << 40, Device: 1, ID: 10, Payload: message(there, here).Payload},
	} {
		r.abroad(e)
		if len(r.router.got)+len(r.offline.got)+len(r.peer.got) != 0 {
			t.Errorf("%s was passed on or answered", name)
		}
	}
	r.abroad(link.Envelope{Kind: link.KindReceipt, Account: here, Device: 1, ID: uint64(there), Payload: delivered})
	if e := r.offline.take(t, link.KindReceipt); e.Group != stanza.QueueGroup(0) {
		t.Errorf("receipt to %v", e.Group)
	}
}

// TestCallsEnd: whoever waits is told when nobody will answer any more, or has not for long.
func TestCallsEnd(t *testing.T) {
	r := newRig(t)
	r.within(r.offline, message(here, there))
	r.within(r.router, question(here, stanza.Query{Op: stanza.OpLookup, Handle: []byte("bob@2")}))
	r.peer.take(t, link.KindForward)
	ask := r.peer.take(t, link.KindQuery)
	r.now = r.now.Add(queryTime + time.Second)
	r.b.sweep()
	if e := r.router.take(t, link.KindResult); e.Gateway.Node != 5 || e.Slot != 8 || e.ID != 6 {
		t.Errorf("a question in vain: %+v", e)
	}
	late := stanza.Result{ID: 6, Account: there, Version: 1}
	r.abroad(link.Envelope{Kind: link.KindResult, Slot: ask.Slot, Gen: ask.Gen, ID: 6, Payload: late.Append(nil)})
	if len(r.router.got) != 0 {
		t.Error("a late answer was passed on")
	}
	r.b.outerDown(r.peer, 2, link.ErrDown)
	if e := r.offline.take(t, link.KindRegions); e.ID != 0 {
		t.Errorf("regions %b", e.ID)
	}
	if e := r.offline.take(t, link.KindForwarded); e.Reason != stanza.ReasonUnavailable || e.Slot != 8 {
		t.Errorf("a message whose way ended: %+v", e)
	}
	r.within(r.offline, message(here, there))
	if e := r.offline.take(t, link.KindForwarded); e.Reason != stanza.ReasonUnavailable {
		t.Errorf("without a way: %v", e.Reason)
	}
	r.b.outerUp(r.peer, 2)
	r.abroad(message(there, here))
	r.router.got = nil
	r.b.innerDown(r.router)
	if e := r.peer.take(t, link.KindForwarded); e.Reason != stanza.ReasonUnavailable {
		t.Errorf("a router that ended: %v", e.Reason)
	}
	if ok, _ := r.b.Ready(); ok || r.b.calls.busy != 0 {
		t.Errorf("ready %v, %d calls", ok, r.b.calls.busy)
	}
}

// TestCallsBounded: a table that is full answers busy, and forgets nobody.
func TestCallsBounded(t *testing.T) {
	r := newRig(t)
	for range maxCalls {
		r.within(r.offline, message(here, there))
	}
	r.offline.got = nil
	r.abroad(message(there, here))
	if e := r.peer.got[len(r.peer.got)-1]; e.Reason != stanza.ReasonBusy {
		t.Errorf("one of the other region: %v", e.Reason)
	}
	r.within(r.offline, message(here, there))
	if e := r.offline.take(t, link.KindForwarded); e.Reason != stanza.ReasonBusy || r.b.calls.busy != maxCalls {
		t.Errorf("%v with %d calls", e.Reason, r.b.calls.busy)
	}
	r.now = r.now.Add(pathTime + time.Second)
	r.b.sweep()
	if len(r.offline.got) < maxCalls || r.b.calls.busy != 0 {
		t.Errorf("%d answers, %d calls left", len(r.offline.got), r.b.calls.busy)
	}
}

// TestPeerTakesItsPart: one region does not get all calls.
func TestPeerTakesItsPart(t *testing.T) {
	r := newRig(t)
	for range maxAbroad + 1 {
		r.abroad(message(there, here))
	}
	if e := r.peer.take(t, link.KindForwarded); e.Reason != stanza.ReasonBusy || len(r.router.got) != maxAbroad {
		t.Errorf("%v after %d", e.Reason, len(r.router.got))
	}
	r.within(r.offline, message(here, there))
	r.peer.take(t, link.KindForward)
	r.now = r.now.Add(pathTime + time.Second)
	r.b.sweep()
	if r.b.calls.of[2] != 0 {
		t.Errorf("%d calls of the region are left", r.b.calls.of[2])
	}
}

func TestAdmit(t *testing.T) {
	one, two := &x509.Certificate{Raw: []byte("one")}, &x509.Certificate{Raw: []byte("two")}
	cfg := Config{Number: 1, Listen: "a:1", Peers: map[string]Peer{"2": {CA: "x", Addrs: []string{"b:1"}}, "3": {CA: "y", Addrs: []string{"c:1"}}}}
	b, err := New(cfg, Deps{Shards: 1, Cluster: "c", Authorities: map[stanza.Region][]*x509.Certificate{2: {one}, 3: {two}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		region   stanza.Region
		dialled  string
		verified *x509.Certificate
		want     bool
	}{
		{2, "", one, true}, {2, "", two, false}, {3, "", two, true}, {4, "", two, false}, {1, "", one, false}, {2, "", nil, false},
		{2, "b:1", nil, true}, {3, "b:1", nil, false}, {2, "c:1", nil, false},
	} {
		var chains [][]*x509.Certificate
		if c.verified != nil {
			chains = [][]*x509.Certificate{{{Raw: []byte("leaf")}, c.verified}}
		}
		if got := b.admit(link.Info{Region: c.region}, c.dialled, chains); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestConfig(t *testing.T) {
	good := Config{Number: 1, Listen: ":1", Peers: map[string]Peer{"2": {CA: "x"}, "0": {CA: "x", Addrs: []string{"h:1"}}}}
	if faults := good.Validate(); len(faults) > 0 || good.Regions() != 1<<2|1 || !good.Linked() {
		t.Errorf("%v, %b", faults, good.Regions())
	}
	for want, c := range map[string]Config{
		"number":        {Number: 16},
		"listen":        {Number: 1, Listen: "x", Peers: good.Peers},
		"peers":         {Listen: ":1"},
		"peers: \"1\"":  {Number: 1, Listen: ":1", Peers: map[string]Peer{"1": {CA: "x"}}},
		"peers: \"02\"": {Listen: ":1", Peers: map[string]Peer{"02": {CA: "x"}}},
		"peers.2.ca":    {Listen: ":1", Peers: map[string]Peer{"2": {}}},
		"peers.2.addrs": {Peers: map[string]Peer{"2": {CA: "x"}}},
	} {
		faults := c.Validate()
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), "region."+want) {
			t.Errorf("%s: %v", want, faults)
		}
	}
}

// FuzzPeer gives a border whatever a peer may send. Nothing that leaves for this region is of another sender than the peer's, or for
// another region.
func FuzzPeer(f *testing.F) {
	for _, e := range []link.Envelope{
		message(there, here), message(here, there), question(there, stanza.Query{Op: stanza.OpLookup, Handle: []byte("bob@1")}),
		{Kind: link.KindReceipt, Account: here, Device: 1, ID: uint64(there), Payload: []byte{byte(stanza.TagDelivered), 1}},
		{Kind: link.KindReceiptStored, Account: here, ID: 1, Payload: append([]byte{0x85, 0x80, 0x80, 0x80, 0x08}, 1, byte(stanza.TagDelivered), 1)},
		{Kind: link.KindForwarded, Slot: 0, Gen: 1}, {Kind: link.KindResult, Slot: 1, Gen: 1, ID: 6},
	} {
		f.Add(link.AppendEnvelope(nil, &e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newRig(t)
		r.within(r.offline, message(here, there))
		r.within(r.router, question(here, stanza.Query{Op: stanza.OpLookup, Handle: []byte("bob@2")}))
		for range 8 {
			var e link.Envelope
			var err error
			if b, err = link.DecodeEnvelope(b, &e); err != nil {
				break
			}
			r.abroad(e)
		}
		for _, e := range append(r.router.got, r.offline.got...) {
			switch e.Kind {
			case link.KindForward, link.KindQuery:
				if e.Account.Region() != 2 {
					t.Fatalf("%v in the name of account %d", e.Kind, e.Account)
				}
			case link.KindReceipt, link.KindReceiptStored:
				if e.Account.Region() != 1 {
					t.Fatalf("%v for account %d", e.Kind, e.Account)
				}
			case link.KindForwarded, link.KindResult:
			default:
				t.Fatalf("%v was passed on", e.Kind)
			}
		}
	})
}
