package link

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
)

// faulty connects two endpoints of a cluster with faults between them.
func faulty(t *testing.T, a, b *recorder) (f *Faults, ea, eb *Endpoint, stop func()) {
	t.Helper()
	a.autoDone, b.autoDone = true, true
	ea, eb = NewEndpoint(info(RoleGateway), a, Options{Credits: 64 << 10}), NewEndpoint(info(RoleRouter), b, Options{Credits: 64 << 10})
	f = NewFaults(rand.NewPCG(1, 2))
	ea.Inject(f)
	eb.Inject(f)
	return f, ea, eb, Connect(ea, eb)
}

var there = Leg{RoleGateway, RoleRouter}

// whole reports a stream whose ends do not agree on the credits in use.
func whole(t *testing.T, ea, eb *Endpoint) {
	t.Helper()
	at, of := ea.Usage(RoleRouter), eb.Usage(RoleGateway)
	if at.Used != of.Taken || at.Taken != of.Used || at.Unhandled != 0 || of.Unhandled != 0 {
		t.Errorf("credits: %+v at one end, %+v at the other", at, of)
	}
}

// TestFaults: each fault does what it says, to the share that it was given, and no credit is lost or made by it.
func TestFaults(t *testing.T) {
	const n = 2000
	for name, c := range map[string]struct {
		plan  Plan
		count func(Tally) int
		check func(t *testing.T, hit int, got []Envelope)
	}{
		"drop": {Plan{Drop: 0.1}, func(x Tally) int { return x.Dropped }, func(t *testing.T, hit int, got []Envelope) {
			if len(got) != n-hit || !ascending(got) {
				t.Errorf("%d arrived", len(got))
			}
		}},
		"delay": {Plan{Delay: 0.1}, func(x Tally) int { return x.Delayed }, func(t *testing.T, _ int, got []Envelope) {
			if len(got) != n || !ascending(got) {
				t.Errorf("%d arrived", len(got))
			}
		}},
		"duplicate": {Plan{Duplicate: 0.1}, func(x Tally) int { return x.Duplicated }, func(t *testing.T, hit int, got []Envelope) {
			if len(got) != n+hit {
				t.Errorf("%d arrived", len(got))
			}
		}},
		"reorder": {Plan{Reorder: 0.1}, func(x Tally) int { return x.Reordered }, func(t *testing.T, _ int, got []Envelope) {
			if len(got) != n || ascending(got) {
				t.Errorf("%d arrived, in order", len(got))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, b := newRecorder(t), newRecorder(t)
				f, ea, eb, stop := faulty(t, a, b)
				f.Set(there, c.plan)
				for i := range uint64(n) {
					if err := a.stream(0).Send(message(i + 1)); err != nil {
						t.Fatal(err)
					}
					if i%2 == 0 {
						time.Sleep(10 * time.Millisecond) // batches of two, and more behind a delay
					}
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				hit := c.count(f.Tally(there))
				if batches := f.Tally(there).Batches; hit < batches/20 || hit > batches/5 {
					t.Errorf("%d of %d batches", hit, batches)
				}
				envelopes := 0 // of the batches that were hit
				seen := map[uint64]int{}
				for _, e := range b.got {
					seen[e.ID]++
				}
				for i := range uint64(n) {
					if seen[i+1] != 1 {
						envelopes++
					}
				}
				c.check(t, envelopes, b.got)
				whole(t, ea, eb)
				stop()
			})
		})
	}
}

func ascending(envs []Envelope) bool {
	for i := range envs {
		if i > 0 && envs[i].ID < envs[i-1].ID {
			return false
		}
	}
	return true
}

// TestFaultsCut: what is said once in the life of a stream is not lost alone. The stream ends, and another one comes.
func TestFaultsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		f, ea, eb, stop := faulty(t, a, b)
		f.Set(there, Plan{Drop: 1})
		first := a.stream(0)
		for _, e := range []*Envelope{message(1), {Kind: KindUnbind, ID: 1}} {
			if err := first.Send(e); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		f.Set(there, Plan{})
		if len(a.downs) != 1 || len(b.downs) != 1 || !errors.Is(a.downs[0], errCut) || len(b.got) != 0 {
			t.Errorf("downs %v %v, %d arrived", a.downs, b.downs, len(b.got))
		}
		if x := f.Tally(there); x.Dropped != 2 || x.Cut != 1 {
			t.Errorf("%+v", x)
		}
		second := a.stream(1)
		if err := second.Send(message(2)); err != nil {
			t.Fatal(err)
		}
		if got := b.envelopes(1); got[0].ID != 2 {
			t.Errorf("%+v", got[0])
		}
		synctest.Wait()
		if u := ea.Usage(RoleRouter); u.Streams != 1 || u.Local != 1 {
			t.Errorf("%+v", u)
		}
		whole(t, ea, eb)
		stop()
	})
}

// TestFaultsStop: a stopped leg takes what credits allow and delivers nothing, for as long as it lasts; then all of it, in order.
func TestFaultsStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		f, ea, eb, stop := faulty(t, a, b)
		f.Stop(there)
		taken := uint64(0)
		for a.stream(0).Send(message(taken+1)) == nil {
			taken++
		}
		back := &Envelope{Kind: KindAck, Group: stanza.DirGroup(1), ID: 1}
		if err := b.stream(0).Send(back); err != nil {
			t.Error("the other direction: ", err)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if len(b.got) != 0 || len(a.downs) != 0 || taken == 0 || taken > 1000 {
			t.Errorf("%d arrived, %d went, downs %v", len(b.got), taken, a.downs)
		}
		if got := a.envelopes(1); got[0].ID != 1 {
			t.Errorf("%+v", got[0])
		}
		f.Go(there)
		synctest.Wait()
		if len(b.got) != int(taken) || !ascending(b.got) {
			t.Errorf("%d arrived of %d", len(b.got), taken)
		}
		whole(t, ea, eb)
		stop()
	})
}

// TestFaultsStopGRPC: streams of a stopped leg end after three pulses, and others take their place.
func TestFaultsStopGRPC(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	a, b := newRecorder(t), newRecorder(t)
	a.autoDone, b.autoDone = true, true
	opts := Options{Pulse: 50 * time.Millisecond}
	ea, eb := NewEndpoint(info(RoleGateway), a, opts), NewEndpoint(info(RoleRouter), b, opts)
	f := NewFaults(rand.NewPCG(1, 2))
	ea.Inject(f)
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), eb)
	dial(t, ea, addr, RoleRouter, ca.config(t))
	a.stream(0)
	if !ea.Dialled(addr, RoleRouter) || ea.Dialled(addr, RoleOffline) || eb.Dialled(addr, RoleGateway) {
		t.Error("dialled")
	}
	f.Stop(there)
	if err := a.stream(0).Send(message(1)); err != nil {
		t.Fatal(err)
	}
	b.await("the end of the first stream", func() bool { return len(b.downs) == 1 })
	a.await("its other end", func() bool { return len(a.downs) >= 1 })
	f.Go(there)
	a.mu.Lock()
	downs := len(a.downs)
	a.mu.Unlock()
	if err := a.stream(downs).Send(message(2)); err != nil && !errors.Is(err, ErrDown) {
		t.Fatal(err)
	}
	b.await("a later stream", func() bool { return len(b.ups) >= 2 })
}
