package gateway

import (
	"testing"
	"time"
)

// TestCalm: a loop with nothing but idle sessions is calm, one that looks after anything with a deadline below seconds is not.
func TestCalm(t *testing.T) {
	h := start(t, nil)
	all := func(calm bool) func() bool {
		return func() bool {
			n := 0
			for _, l := range h.g.loops {
				if l.calm.Load() {
					n++
				}
			}
			return n == len(h.g.loops) == calm
		}
	}
	h.bind(5)
	h.until("calm with an idle session", all(true))
	c := h.dial()
	h.until("the ticks of a connection that says nothing", all(false))
	c.conn.Close()
	h.until("calm without it", all(true))
}

// TestLook: between the rare ticks of a calm loop events see the time as it is, and what is due then is still done at the next turn.
func TestLook(t *testing.T) {
	h := start(t, nil)
	l, err := newLoop(h.g, 99) // nobody else's
	if err != nil {
		t.Fatal(err)
	}
	l.turn()
	s := &session{send: 0, tokenTime: uint16(l.tick)}
	h.clock.Advance(time.Second - tickLength)
	if l.look(); !l.takeSend(s) {
		t.Error("no token after most of a second in which the loop was calm")
	}
	done := l.done
	if l.turn(); l.done == done {
		t.Error("what is due was not looked for behind it")
	}
	l.calm.Store(false)
	before := l.tick
	h.clock.Advance(time.Second)
	if l.look(); l.tick != before {
		t.Error("the clock was read for an event of a loop that turns often")
	}
}
