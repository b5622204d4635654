package link

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestRoad: batches take the road's time, in order; a road that refuses one ends the stream, which is made again; Break ends it at once.
func TestRoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		a.autoDone, b.autoDone = true, true
		ea, eb := NewEndpoint(info(RoleGateway), a, Options{Turns: true}), NewEndpoint(info(RoleRouter), b, Options{Turns: true})
		var fail error
		drawn := 0
		ea.Travel(func(from, to Info, down <-chan struct{}) error {
			if from != info(RoleGateway) || to != info(RoleRouter) {
				t.Errorf("from %v to %v", from, to)
			}
			select {
			case <-time.After(10 * time.Millisecond):
				return fail
			case <-down:
				return errors.New("down")
			}
		}, func() float64 { drawn++; return 0 })
		stop := Connect(ea, eb)
		began := time.Now()
		for i := range uint64(100) {
			if err := a.stream(0).Send(message(i + 1)); err != nil {
				t.Fatal(err)
			}
		}
		got := b.envelopes(100)
		if took := time.Since(began); took < 10*time.Millisecond || !ascending(got) {
			t.Errorf("%d envelopes in %v", len(got), took)
		}
		fail = errors.New("a hole in the road")
		if err := a.stream(0).Send(message(101)); err != nil {
			t.Fatal(err)
		}
		a.stream(1)
		if len(a.downs) != 1 || !errors.Is(a.downs[0], fail) || drawn != 1 {
			t.Errorf("downs %v, %d pauses drawn", a.downs, drawn)
		}
		ea.Break()
		synctest.Wait()
		if len(a.downs) != 2 || len(b.downs) != 2 || !errors.Is(a.downs[1], errBroken) {
			t.Errorf("downs %v and %v", a.downs, b.downs)
		}
		stop()
	})
}
