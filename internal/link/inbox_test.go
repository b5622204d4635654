package link

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"linecard.example/internal/stanza"
)

func TestInboxWakes(t *testing.T) {
	wakes := 0
	b := NewInbox(func() { wakes++ })
	e := *message(1)
	b.Push(nil)
	b.Push(nil, e, e)
	b.Push(nil, e)
	if wakes != 1 {
		t.Errorf("%d wakes after the first pushes", wakes)
	}
	if n := len(b.Drain()); n != 3 {
		t.Errorf("drained %d", n)
	}
	if n := len(b.Drain()); n != 0 {
		t.Errorf("drained %d from an empty inbox", n)
	}
	b.Push(nil, e)
	if wakes != 2 || len(b.Drain()) != 1 {
		t.Errorf("%d wakes", wakes)
	}
}

// TestInboxHandover: pushers and an owner that sleeps until woken; a lost wake-up would hang the test, a doubled one show in the count.
func TestInboxHandover(t *testing.T) {
	const pushers, each = 4, 20_000
	wake := make(chan struct{}, 1)
	var wakes atomic.Int64
	b := NewInbox(func() { wakes.Add(1); wake <- struct{}{} })
	var wg sync.WaitGroup
	for p := range pushers {
		wg.Go(func() {
			for i := range uint64(each) {
				b.Push(nil, Envelope{Kind: KindAck, Slot: uint32(p), ID: i})
			}
		})
	}
	var last [pushers]uint64
	total, drains := 0, int64(0)
	for total < pushers*each {
		<-wake
		items := b.Drain()
		if drains++; len(items) == 0 {
			t.Fatal("woken for nothing")
		}
		for i := range items {
			if e := &items[i].Env; e.ID != last[e.Slot] {
				t.Fatalf("pusher %d: %d after %d", e.Slot, e.ID, last[e.Slot])
			} else {
				last[e.Slot]++
			}
		}
		total += len(items)
	}
	wg.Wait()
	if wakes.Load() != drains {
		t.Errorf("%d wakes, %d drains", wakes.Load(), drains)
	}
}

func TestInboxAllocates(t *testing.T) {
	b := NewInbox(nil)
	batch := []Envelope{*message(1), *message(2), *message(3)}
	if n := testing.AllocsPerRun(1000, func() {
		for range 20 {
			b.Push(nil, batch...)
		}
		b.Done(b.Drain())
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestInboxShrinks: a burst's memory goes back after a while of small drains, and drained payloads are let go.
func TestInboxShrinks(t *testing.T) {
	b := NewInbox(nil)
	e := *message(1)
	for range 10 * shrinkOver {
		b.Push(nil, e)
	}
	b.Drain()
	for range 3 * shrinkAfter {
		b.Push(nil, e)
		if b.Drain(); b.in != nil && cap(b.in) > 0 && b.in[:1][0].Env.Payload != nil {
			t.Fatal("a drained payload is still held")
		}
	}
	if cap(b.in)+cap(b.out) > 2*shrinkOver {
		t.Errorf("%d items of room kept", cap(b.in)+cap(b.out))
	}
}

// TestInboxCredits: Done gives back exactly what was charged, however streams and groups are mixed.
func TestInboxCredits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRecorder(t), newRecorder(t)
		box := NewInbox(nil)
		b.onBatch = func(s *Stream, batch []Envelope) { box.Push(s, batch...) }
		sa, sb, stop := connect(t, a, b, Options{}, Options{Credits: 1 << 16})
		defer stop()
		for round := range uint64(2000) { // 400 kB per group: many times the grant
			for g := range 3 {
				e := message(round)
				e.Group = stanza.QueueGroup(g)
				for sa.Send(e) != nil {
					synctest.Wait()
					box.Done(box.Drain())
					synctest.Wait()
				}
			}
		}
		synctest.Wait()
		box.Done(box.Drain())
		synctest.Wait()
		for g := range 3 {
			i := groupIndex(stanza.QueueGroup(g))
			taken, owed := sb.in.group[i].taken.Load(), sb.in.group[i].owed.Load()
			if sa.out.credit[i] != 1<<16-taken || taken != owed || owed >= 1<<15 {
				t.Errorf("group %d: credit %d, taken %d, owed %d", g, sa.out.credit[i], taken, owed)
			}
		}
		sb.Done(stanza.QueueGroup(0), 10<<20) // more than was received: cut to what is true
		synctest.Wait()
		if c := sa.out.credit[groupIndex(stanza.QueueGroup(0))]; c != 1<<16 || len(a.downs) > 0 {
			t.Errorf("credit %d after too much was done", c)
		}
	})
}
