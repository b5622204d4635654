package link

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	promtest "github.com/prometheus/client_golang/prometheus/testutil"

	"linecard.example/internal/stanza"
)

// bubble runs f where synctest.Wait means: every sender goroutine has nothing left to do.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func connect(t *testing.T, a, b *recorder, oa, ob Options) (sa, sb *Stream, stop func()) {
	t.Helper()
	stop = Connect(NewEndpoint(info(RoleGateway), a, oa), NewEndpoint(info(RoleRouter), b, ob))
	return a.stream(0), b.stream(0), stop
}

func TestPairOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		a.autoDone, b.autoDone = true, true
		// An answer per envelope, from within Receive.
		b.onBatch = func(s *Stream, batch []Envelope) {
			for i := range batch {
				if err := s.Send(&Envelope{Kind: KindAck, Group: batch[i].Group, ID: batch[i].ID}); err != nil {
					t.Error(err)
				}
			}
		}
		sa, sb, stop := connect(t, a, b, Options{}, Options{})
		if sa.Peer() != info(RoleRouter) || sb.Peer() != info(RoleGateway) || sa.Incoming() || !sb.Incoming() || sa.ID() == sb.ID() {
			t.Error("identity")
		}
		const n = 5000
		for i := range uint64(n) {
			if err := sa.Send(message(i + 1)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for i, e := range append(a.envelopes(n), b.envelopes(n)...) {
			if e.ID != uint64(i%n+1) {
				t.Fatalf("position %d has id %d", i, e.ID)
			}
		}
		stop()
		stop()
		if len(a.downs) != 1 || len(b.downs) != 1 || !errors.Is(a.downs[0], ErrStopped) {
			t.Errorf("downs %v %v", a.downs, b.downs)
		}
		if err := sa.Send(message(1)); !errors.Is(err, ErrDown) {
			t.Errorf("send after the end: %v", err)
		}
		sa.Done(stanza.DirGroup(1), 100)
	})
}

// TestPairUpMaySend: what Up sends arrives after the peer's own Up (the recorder checks), and stop delivers what is pending.
func TestPairUpMaySend(t *testing.T) {
	a, b := newRecorder(t), newRecorder(t)
	hello := func(s *Stream) {
		if err := s.Send(&Envelope{Kind: KindHello, Group: stanza.DirGroup(2), Term: 4}); err != nil {
			t.Error(err)
		}
	}
	a.onUp, b.onUp = hello, hello
	_, _, stop := connect(t, a, b, Options{}, Options{})
	stop()
	if len(a.got) != 1 || len(b.got) != 1 || a.got[0].Term != 4 {
		t.Errorf("got %v %v", a.got, b.got)
	}
}

func TestPairOneEndpoint(t *testing.T) {
	r := newRecorder(t)
	e := NewEndpoint(info(RoleOffline), r, Options{})
	stop := Connect(e, e)
	if err := r.stream(0).Send(message(5)); err != nil {
		t.Error(err)
	}
	r.envelopes(1)
	stop()
	if len(r.ups) != 2 || len(r.downs) != 2 {
		t.Errorf("%d ups, %d downs", len(r.ups), len(r.downs))
	}
}

// TestStuckReceiver: a peer that never credits back costs exactly its grant and hinders nothing else.
func TestStuckReceiver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		a, stuck, fine := newRecorder(t), newRecorder(t), newRecorder(t)
		fine.autoDone = true
		ep := NewEndpoint(info(RoleGateway), a, Options{Registerer: reg})
		defer Connect(ep, NewEndpoint(info(RoleRouter), stuck, Options{}))()
		defer Connect(ep, NewEndpoint(info(RoleOffline), fine, Options{Registerer: reg}))()
		s, other := a.stream(0), a.stream(1)
		sent := 0
		for s.Send(message(1)) == nil {
			sent += message(1).Size()
		}
		if left := DefaultCredits - sent; left < 0 || left >= message(1).Size() {
			t.Errorf("no credit after %d bytes", sent)
		}
		if err := s.Send(message(1)); !errors.Is(err, ErrNoCredit) {
			t.Errorf("send: %v", err)
		}
		apart := message(1)
		apart.Group = stanza.QueueGroup(1)
		if err := s.Send(apart); err != nil {
			t.Errorf("another group: %v", err)
		}
		if err := s.Send(&Envelope{Kind: KindHello, Term: 1}); err != nil {
			t.Errorf("hello: %v", err)
		}
		for range 20_000 { // more than twice the grant, through credits
			for other.Send(message(1)) != nil {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if len(fine.got) != 20_000 {
			t.Errorf("the other stream got %d", len(fine.got))
		}
		// The receiver comes back to life.
		stuck.ups[0].Done(stanza.DirGroup(1), sent)
		synctest.Wait()
		if err := s.Send(message(1)); err != nil {
			t.Errorf("after the grant: %v", err)
		}
		if v := promtest.ToFloat64(ep.metrics.drops.WithLabelValues("router", "no_credit")); v != 2 {
			t.Errorf("no_credit counted %v times", v)
		}
		if v := promtest.ToFloat64(ep.metrics.streams.WithLabelValues("router")); v != 1 {
			t.Errorf("%v streams", v)
		}
	})
}

// TestBlockedHandler: a handler that blocks in Receive stops its own stream only; Send goes on to the end of its credit.
func TestBlockedHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		release := make(chan struct{})
		b.onBatch = func(*Stream, []Envelope) { <-release }
		sa, _, stop := connect(t, a, b, Options{}, Options{Credits: 1 << 20})
		n := 0
		for sa.Send(message(1)) == nil {
			n++
		}
		if n != 1<<20/message(1).Size() {
			t.Errorf("%d were taken", n)
		}
		close(release)
		synctest.Wait()
		if len(b.got) != n {
			t.Errorf("%d of %d arrived", len(b.got), n)
		}
		stop()
	})
}

func TestUncharged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		release := make(chan struct{})
		b.onBatch = func(*Stream, []Envelope) { <-release }
		sa, _, stop := connect(t, a, b, Options{}, Options{})
		hello := &Envelope{Kind: KindHello, Term: 1, Payload: make([]byte, 100)}
		n := 0
		for ; sa.Send(hello) == nil; n++ {
			if n > FreePending {
				t.Fatal("uncharged envelopes are not bounded")
			}
		}
		close(release)
		synctest.Wait()
		b.onBatch = nil
		if err := sa.Send(hello); err != nil {
			t.Errorf("after they went: %v", err)
		}
		stop()
		if len(b.got) != n+1 {
			t.Errorf("%d of %d", len(b.got), n+1)
		}
	})
}

func TestSendRefuses(t *testing.T) {
	_, _, stop := connect(t, newRecorder(t), newRecorder(t), Options{}, Options{})
	stop()
	a := newRecorder(t)
	sa, _, stop := connect(t, a, newRecorder(t), Options{}, Options{})
	defer stop()
	for want, e := range map[error]*Envelope{
		ErrTooLarge: {Kind: KindMessage, Payload: make([]byte, MaxPayload+1)},
		ErrGroup:    {Kind: KindMessage, Group: stanza.QueueGroup(4)},
		ErrKind:     {Kind: kindGrant, ID: 5},
	} {
		if err := sa.Send(e); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	for k := range kindEnd + 1 {
		none := k == 0 || k == kindGrant || k == KindRoster || k == kindEnd // of nobody, the package's own, past the list
		if err := sa.Send(&Envelope{Kind: k}); errors.Is(err, ErrKind) != none {
			t.Errorf("%v: %v", k, err)
		}
	}
}

// TestPeerBreaksRules: bytes that no honest peer sends end the stream on both sides.
func TestPeerBreaksRules(t *testing.T) {
	over := message(1)
	over.Payload = make([]byte, 2000)
	for name, b := range map[string][]byte{
		"garbage":        {0xff, 0xff, 0xff},
		"past credits":   AppendEnvelope(nil, over),
		"unknown group":  AppendEnvelope(nil, &Envelope{Kind: KindAck, Group: stanza.DirGroup(4)}),
		"grant for free": AppendEnvelope(nil, &Envelope{Kind: kindGrant, ID: 1}),
		"grant overflow": AppendEnvelope(nil, &Envelope{Kind: kindGrant, ID: 1<<64 - 1}),
	} {
		bubble(t, func(t *testing.T) {
			a, x := newRecorder(t), newRecorder(t)
			sa, _, stop := connect(t, a, x, Options{}, Options{Credits: 1000})
			sa.out.mu.Lock() // as if a had sent it
			next := sa.out.next()
			next.buf, next.n = append(next.buf, b...), 1
			sa.out.signal()
			sa.out.mu.Unlock()
			synctest.Wait()
			if len(a.downs) != 1 || len(x.downs) != 1 || !errors.Is(x.downs[0], ErrProtocol) {
				t.Errorf("%s: %v %v", name, a.downs, x.downs)
			}
			stop()
		})
	}
}

func TestPairMismatch(t *testing.T) {
	for name, change := range map[string]func(*Info){
		"shards":  func(i *Info) { i.Shards = 8 },
		"cluster": func(i *Info) { i.Cluster = "other" },
		"role":    func(i *Info) { i.Role = 9 },
		"intro":   func(i *Info) { i.Cluster = strings.Repeat("x", 65) },
	} {
		a, b, bi := newRecorder(t), newRecorder(t), info(RoleRouter)
		change(&bi)
		ea := NewEndpoint(info(RoleGateway), a, Options{})
		Connect(ea, NewEndpoint(bi, b, Options{}))()
		if len(a.ups)+len(b.ups) > 0 {
			t.Errorf("%s: up in spite of it", name)
		}
		if v := promtest.ToFloat64(ea.metrics.refusals.WithLabelValues(name)); v != 1 {
			t.Errorf("%s: counted %v times", name, v)
		}
	}
}

// TestConcurrentSenders: the order of each sender is kept, and stop loses nothing that Send took.
func TestConcurrentSenders(t *testing.T) {
	const senders, each = 8, 3000
	a, b := newRecorder(t), newRecorder(t)
	b.autoDone = true
	sa, _, stop := connect(t, a, b, Options{}, Options{})
	var wg sync.WaitGroup
	for g := range senders {
		wg.Go(func() {
			for i := range uint64(each) {
				e := message(i + 1)
				e.Slot, e.Group = uint32(g), stanza.DirGroup(g%4) // within the credits of each group
				if err := sa.Send(e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	last := [senders]uint64{}
	for _, e := range b.got {
		if e.ID != last[e.Slot]+1 {
			t.Fatalf("sender %d: %d after %d", e.Slot, e.ID, last[e.Slot])
		}
		last[e.Slot] = e.ID
	}
	if len(b.got) != senders*each {
		t.Errorf("%d arrived", len(b.got))
	}
}
