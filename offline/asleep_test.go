package offline

import (
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// isAsleep reports whether account 9's attachment is asleep and nothing of it is on the heap.
func isAsleep(m *group) bool {
	q := m.queues[keyOf(9, 1)]
	return m.asleep.get(keyOf(9, 1)) != nil && (q == nil || q.att == nil)
}

// TestSleep takes a session through sleep and waking: numbers, epoch and names go on as if it had never slept.
func TestSleep(t *testing.T) {
	h := newHarness(t, 1, nil)
	m := h.m()
	gw, heir := h.peer(link.RoleGateway, 1, 0), h.peer(link.RoleGateway, 2, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.fence()
	if !isAsleep(m) || len(m.queues) != 0 || m.attached != 1 {
		t.Fatalf("%d queues, %d attached, asleep %v", len(m.queues), m.attached, isAsleep(m))
	}
	epoch := m.asleep.get(keyOf(9, 1)).epoch
	deliver := func(p *peer, id, number uint64) link.Envelope {
		t.Helper()
		gw.store(7, 1, id, id-1, 9, 1)
		e, got := p.delivered()
		for got < id { // probed for while it was not acked
			e, got = p.delivered()
		}
		if got != id || e.ID != number || e.Epoch != epoch {
			t.Fatalf("message %d in %+v, want %d under %d of %d", got, e, id, number, epoch)
		}
		return e
	}
	for n := uint64(1); n <= 3; n++ {
		e := deliver(gw, n, n)
		if isAsleep(m) {
			t.Fatal("asleep with a delivery on its way")
		}
		h.tick(3 * time.Second) // unacked, it does not sleep
		if isAsleep(m) {
			t.Fatal("asleep with a delivery that is not acked")
		}
		h.post(deliveryAck(e, n))
		h.tick(20 * time.Second)
		if !isAsleep(m) || len(m.timers) != 0 {
			t.Fatalf("awake after message %d; %d timers", n, len(m.timers))
		}
		h.post(deliveryAck(e, n), deliveryAck(e, n+1)) // of what it has, and of what it never got
		expect := deliveryAck(e, n+1)
		expect.Kind = link.KindExpect
		h.post(expect)
		if !isAsleep(m) {
			t.Fatal("woken for nothing")
		}
	}

	// Handed over asleep: a message goes to the new name, under the next number.
	moved := link.Envelope{Kind: link.KindAttach, Gateway: heir.id, Account: 9, Device: 1, Slot: 70, Gen: 5, Serial: 2, Epoch: epoch, ID: 4}
	h.post(moved)
	if !isAsleep(m) || m.attached != 1 {
		t.Fatal("the move woke it, or made another one")
	}
	h.post(link.Envelope{Kind: link.KindDetach, Gateway: gw.id, Account: 9, Device: 1, Slot: 7, Gen: 1, Serial: 1})
	late := moved
	late.Gateway, late.Slot, late.Serial, late.Epoch = gw.id, 8, 1, 0
	h.post(late) // an older serial is late, asleep or not
	if e := deliver(heir, 4, 4); e.Slot != 70 || e.Gen != 5 {
		t.Errorf("delivered to slot %d", e.Slot)
	}
}

// TestSleepEnds: a session that is asleep ends like any other.
func TestSleepEnds(t *testing.T) {
	for name, end := range map[string]func(h *harness, gw *peer){
		"detach": func(h *harness, gw *peer) { gw.attach(link.KindDetach, 9, 1, 7, 1) },
		"gone":   func(h *harness, gw *peer) { gw.attach(link.KindGone, 9, 1, 7, 1) },
		"drop": func(h *harness, gw *peer) {
			h.post(link.Envelope{Kind: link.KindDropQueue, Account: 9, Device: 1})
			h.until("the close", func() bool { return gw.count(link.KindClose) == 1 })
		},
		"leadership": func(h *harness, gw *peer) { h.m().Follow() },
	} {
		h := newHarness(t, 1, nil)
		gw := h.peer(link.RoleGateway, 1, 0)
		gw.attach(link.KindAttach, 9, 1, 7, 1)
		gw.fence()
		end(h, gw)
		h.until(name, func() bool { return h.m().attached == 0 })
		if isAsleep(h.m()) || h.m().asleep.table.Len() != 0 || len(h.m().asleep.numbers) != 0 {
			t.Errorf("%s: it sleeps on", name)
		}
	}
}

// TestSleepBesideEviction: the queue of a device that sleeps is forgotten like an idle one, and the device gets what comes then.
func TestSleepBesideEviction(t *testing.T) {
	h := newHarness(t, 1, func(c *Config) { c.QueueCache = 256 })
	m := h.m()
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.store(7, 1, 1, 0, 9, 1)
	e, _ := gw.delivered()
	h.post(deliveryAck(e, 1))
	h.tick(25 * time.Second) // it is not aging any more
	b := m.t.ahead()
	m.flush(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	m.evictQueues(0)
	if m.queues[keyOf(9, 1)] != nil || !isAsleep(m) { // account 7 has a receipt waiting
		t.Fatal("the queue stays")
	}
	gw.store(7, 1, 2, 1, 9, 1)
	if e, id := gw.delivered(); id != 2 || e.ID != 2 {
		t.Errorf("message %d in %+v", id, e)
	}
}

// onlineCost attaches so many devices that have nothing waiting, and returns what they add to the heap and to mapped memory.
func onlineCost(t *testing.T, devices int) (heap, objects, mapped float64) {
	r := newRig(t, DefaultConfig())
	attach := func(n int) {
		r.env = link.Envelope{Kind: link.KindAttach, Group: r.m.id, Gateway: r.gw, Account: stanza.Account(n), Device: 1, Slot: uint32(n), Gen: 1, Serial: link.Fence(n)}
		r.m.handleAttach(&r.env)
	}
	attach(devices + 1)
	before := settled()
	for n := 1; n <= devices; n++ {
		attach(n)
	}
	r.m.Turn()
	after := settled()
	if r.m.attached != devices+1 {
		t.Fatalf("%d attached", r.m.attached)
	}
	per := 1 / float64(devices)
	return float64(int64(after.HeapAlloc-before.HeapAlloc)) * per, float64(int64(after.HeapObjects-before.HeapObjects)) * per,
		float64(r.m.asleep.table.Bytes()) * per
}

func settled() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

// TestOnlineCost pins what a device that is online with nothing waiting costs: nothing on the heap, and its entry with the table's slack.
func TestOnlineCost(t *testing.T) {
	if n := unsafe.Sizeof(sleeper{}); n != 32 {
		t.Errorf("a sleeper takes %d bytes", n)
	}
	devices := 10_000
	if os.Getenv("LINECARD_LONG") != "" {
		devices = 200_000
	}
	heap, objects, mapped := onlineCost(t, devices)
	t.Logf("%d devices: %.1f bytes and %.3f objects on the heap, %.1f bytes mapped for each", devices, heap, objects, mapped)
	if heap > 4 || objects > 0.02 || mapped > 64 {
		t.Errorf("%.1f bytes and %.3f objects on the heap, %.1f bytes mapped for each: want none, none and at most 64", heap, objects, mapped)
	}
}
