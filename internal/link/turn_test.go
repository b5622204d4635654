package link

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

// TestTurnHandsOver: what a daemon that works in turns sends goes over with its Flush, on its goroutine and in order, and not before.
func TestTurnHandsOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		ea, eb := NewEndpoint(info(RoleGateway), a, Options{Turns: true}), NewEndpoint(info(RoleRouter), b, Options{Turns: true})
		stop := Connect(ea, eb)
		defer stop()
		sa := a.stream(0)
		const n, turn = 3 * handMost * maxBatch, handMost * maxBatch
		returned := make(chan struct{}) // what is behind the turn's share waits for it: a Flush that hands it over itself never returns
		b.onBatch = func(*Stream, []Envelope) {
			if b.count() > turn {
				<-returned
			}
		}
		for i := range uint64(n) {
			if err := sa.Send(message(i + 1)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := b.count(); got != 0 || !ea.Unflushed() {
			t.Fatalf("%d handed over before the turn's end", got)
		}
		ea.Flush()
		if got := b.count(); got < turn {
			t.Errorf("the turn handed over %d, want %d", got, turn)
		}
		close(returned)
		synctest.Wait() // the rest is the stream's own goroutine's
		for i, e := range b.envelopes(n) {
			if e.ID != uint64(i+1) {
				t.Fatalf("position %d has id %d", i, e.ID)
			}
		}
		if ea.Unflushed() {
			t.Error("something is left")
		}
	})
}

// TestTurnAnswersWithinReceive: what a Handler sends in Receive, where its daemon has no turn, goes over all the same.
func TestTurnAnswersWithinReceive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		b.onBatch = func(s *Stream, batch []Envelope) {
			for i := range batch {
				if err := s.Send(&Envelope{Kind: KindAck, Group: batch[i].Group, ID: batch[i].ID}); err != nil {
					t.Error(err)
				}
			}
		}
		ea, eb := NewEndpoint(info(RoleGateway), a, Options{Turns: true}), NewEndpoint(info(RoleRouter), b, Options{Turns: true})
		stop := Connect(ea, eb)
		defer stop()
		for i := range uint64(100) {
			if err := a.stream(0).Send(message(i + 1)); err != nil {
				t.Fatal(err)
			}
		}
		ea.Flush()
		synctest.Wait()
		if got := a.count(); got != 100 {
			t.Errorf("%d answers", got)
		}
	})
}

// TestTurnsBesideEachOther: many goroutines send and flush; nothing is lost, doubled or out of its sender's order, and a stop in the
// middle of it hands over everything that Send took.
func TestTurnsBesideEachOther(t *testing.T) {
	a, b := newRecorder(t), newRecorder(t)
	b.autoDone = true
	ea, eb := NewEndpoint(info(RoleGateway), a, Options{Turns: true}), NewEndpoint(info(RoleRouter), b, Options{Turns: true})
	stop := Connect(ea, eb)
	const senders, each = 8, 2000
	took := make([]uint64, senders)
	var wg sync.WaitGroup
	for k := range senders {
		wg.Go(func() {
			for i := range uint64(each) {
				e := message(i + 1)
				e.Slot = uint32(k)
				for {
					err := a.stream(0).Send(e)
					if err == nil {
						took[k] = i + 1
						break
					}
					if !errors.Is(err, ErrNoCredit) {
						return // stopped
					}
					ea.Flush()
					eb.Flush()
				}
				if i%7 == 0 {
					ea.Flush()
					eb.Flush()
				}
			}
		})
	}
	for b.count() < senders*each/2 {
		ea.Flush()
		eb.Flush()
	}
	stop()
	wg.Wait()
	last := make([]uint64, senders)
	for _, e := range b.got {
		if last[e.Slot]++; e.ID != last[e.Slot] {
			t.Fatalf("sender %d: %d after %d", e.Slot, e.ID, last[e.Slot]-1)
		}
	}
	for k := range senders {
		if last[k] != took[k] {
			t.Errorf("sender %d: %d taken, %d arrived", k, took[k], last[k])
		}
	}
}

// TestTurnEndsUnderReceive: the twin's turn ends while something is handed over to it, and what its Handler answers behind that goes over
// all the same.
func TestTurnEndsUnderReceive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		ea, eb := NewEndpoint(info(RoleGateway), a, Options{Turns: true}), NewEndpoint(info(RoleRouter), b, Options{Turns: true})
		b.onBatch = func(s *Stream, _ []Envelope) {
			eb.Flush()
			if err := s.Send(message(2)); err != nil {
				t.Error(err)
			}
		}
		stop := Connect(ea, eb)
		defer stop()
		if err := errors.Join(b.stream(0).Send(message(1)), a.stream(0).Send(message(1))); err != nil {
			t.Fatal(err)
		}
		ea.Flush()
		synctest.Wait()
		if got := a.count(); got != 2 {
			t.Errorf("%d of 2 arrived", got)
		}
	})
}

// TestTurnAfterFailure: behind a batch that the peer did not take nothing goes over any more, and what was pending is counted.
func TestTurnAfterFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		ea, eb := NewEndpoint(info(RoleGateway), a, Options{Turns: true}), NewEndpoint(info(RoleRouter), b, Options{Turns: true})
		stop := Connect(ea, eb)
		defer stop()
		s := a.stream(0)
		for i := range uint64(3 * maxBatch) {
			if err := s.Send(message(i + 1)); err != nil {
				t.Fatal(err)
			}
		}
		s.out.pending[1].buf[0] = 0 // no kind
		ea.Flush()
		if got := b.count(); got != maxBatch {
			t.Errorf("%d arrived, want the %d before the bad one", got, maxBatch)
		}
		synctest.Wait()
	})
}

// TestStopBesideTurn: a stop waits for what a turn has in its hands.
func TestStopBesideTurn(t *testing.T) {
	payload := make([]byte, 60<<10)
	for range 200 {
		a, b := newRecorder(t), newRecorder(t)
		ea, eb := NewEndpoint(info(RoleGateway), a, Options{Turns: true}), NewEndpoint(info(RoleRouter), b, Options{Turns: true})
		stop := Connect(ea, eb)
		s := a.stream(0)
		const n = 4 // of one batch
		for i := range uint64(n) {
			e := message(i + 1)
			e.Payload = payload
			if err := s.Send(e); err != nil {
				t.Fatal(err)
			}
		}
		turn := make(chan struct{})
		go func() {
			defer close(turn)
			ea.Flush()
		}()
		for taken := false; !taken; {
			s.out.mu.Lock()
			taken = len(s.out.pending) == 0
			s.out.mu.Unlock()
		}
		stop()
		<-turn
		if got := b.count(); got != n {
			t.Fatalf("%d of %d arrived", got, n)
		}
	}
}
