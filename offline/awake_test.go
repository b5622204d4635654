package offline

import (
	"errors"
	"testing"
	"time"
	"unsafe"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// checkAwake checks that the lists by gateway hold what is attached and awake, each once.
func checkAwake(t *testing.T, m *group) {
	t.Helper()
	n := 0
	for gw, list := range m.awake {
		for i, a := range list {
			if a.gw != gw || int(a.place) != i || a.q == nil || a.q.att != a {
				t.Fatalf("place %d of gateway %v: %+v", i, gw.id, a)
			}
		}
		n += len(list)
	}
	for _, q := range m.queues {
		if q.att != nil {
			n--
		}
	}
	if n != 0 {
		t.Fatalf("%d more in the lists than attached", n)
	}
}

// TestAwakeLists: an attachment is in its gateway's list from waking to sleep, wherever it moves and however it ends.
func TestAwakeLists(t *testing.T) {
	h := newHarness(t, 1, nil)
	m := h.m()
	gw, heir := h.peer(link.RoleGateway, 1, 0), h.peer(link.RoleGateway, 2, 0)
	const devices = 40
	for a := stanza.Account(1); a <= devices; a++ {
		gw.attach(link.KindAttach, a, 1, uint32(a), 1)
	}
	gw.fence()
	checkAwake(t, m)
	var got []link.Envelope
	for a := stanza.Account(1); a <= devices; a++ {
		gw.store(100+a, 1, 1, 0, a, 1)
		e, _ := gw.delivered()
		got = append(got, e)
		checkAwake(t, m)
	}
	for i, e := range got {
		switch i % 4 {
		case 0: // acked, it sleeps again
			h.post(deliveryAck(e, 1))
		case 1:
			h.post(link.Envelope{Kind: link.KindAttach, Gateway: heir.id, Account: e.Account, Device: 1, Slot: e.Slot + 100, Gen: 1, Serial: 2, Epoch: e.Epoch, ID: 2})
		case 2:
			gw.attach(link.KindDetach, e.Account, 1, e.Slot, 1)
		case 3:
			gw.attach(link.KindAttach, e.Account, 1, e.Slot+200, 3)
		}
		checkAwake(t, m)
	}
	gw.fence()
	h.tick(2 * time.Second)
	checkAwake(t, m)
	if at := m.peers.gateway(heir.id); len(m.awake[at]) != devices/4 {
		t.Errorf("%d at the heir", len(m.awake[at]))
	}

	// A new run of the gateway ends what the one before it had, and nothing else.
	next := &peer{h: h, id: link.GatewayID{Node: gw.id.Node, Incarnation: 10}}
	next.ep = link.NewEndpoint(link.Info{Role: link.RoleGateway, Node: gw.id.Node, Incarnation: 10, Shards: 1, Cluster: "c"}, next, link.Options{})
	next.connect()
	next.fence()
	checkAwake(t, m)
	if m.attached != devices/4 {
		t.Errorf("%d attached, want the %d of the other gateway", m.attached, devices/4)
	}
	m.Follow()
	checkAwake(t, m)
}

// TestGatewayUpAmongQueues: the return of a gateway's stream looks at its own attachments, not at every queue.
func TestGatewayUpAmongQueues(t *testing.T) {
	h := newHarness(t, 1, nil)
	m := h.m()
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.store(7, 1, 1, 0, 9, 1)
	gw.delivered()
	trap := newQueue(keyOf(10, 1))
	trap.att = &attachment{} // of no gateway: whoever looks at it fails
	m.adopt(trap)
	gw.stop()
	gw.connect()
	if e, id := gw.delivered(); id != 1 || e.Slot != 7 {
		t.Errorf("message %d in %+v", id, e)
	}
	trap.att = nil
}

// TestBlockedIsForgotten: an attachment that waits for credit and has ended meanwhile is not looked at again: its queue may be another
// object by now, and the device's new attachment must not go to the old one.
func TestBlockedIsForgotten(t *testing.T) {
	h := newHarness(t, 1, func(c *Config) { c.QueueCache = 256 })
	m := h.m()
	gw := h.peer(link.RoleGateway, 1, 0)
	gw.store(7, 1, 1, 0, 9, 1)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	e, _ := gw.delivered()
	h.post(deliveryAck(e, 1))
	h.tick(100 * time.Millisecond)
	q := m.queues[keyOf(9, 1)]
	a := q.att
	a.blocked = true
	m.blocked = append(m.blocked, a)
	m.detach(q)
	m.classes.remove(q)
	delete(m.queues, q.key) // what evictQueues does, had it been flushed
	b := m.t.ahead()
	m.flush(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	gw.attach(link.KindAttach, 9, 1, 8, 2)
	gw.fence()
	if !isAsleep(m) {
		t.Fatal("awake with nothing to get")
	}
	h.tick(50 * time.Millisecond)
	if !isAsleep(m) {
		t.Error("woken for a queue that is forgotten")
	}
}

// countingTables counts what is asked for.
type countingTables struct {
	tables
	gets map[byte]int
}

func (t countingTables) Get(key []byte) ([]byte, bool, error) {
	t.gets[key[0]]++
	return t.tables.Get(key)
}

// TestFirstMessageReadsOnce: that a stream is new is read from tables once, not when its first message comes and when it is applied.
func TestFirstMessageReadsOnce(t *testing.T) {
	r := newRig(t, DefaultConfig())
	c := countingTables{r.m.t, map[byte]int{}}
	r.m.t = c
	for n := range 100 {
		r.store(n, ciphertext)
	}
	if got := c.gets[tableStream]; got != 100 {
		t.Errorf("%d reads of 100 new streams", got)
	}
	for n := range 100 {
		r.store(n, ciphertext)
	}
	if got := c.gets[tableStream]; got != 100 {
		t.Errorf("%d reads more of streams that are known", got-100)
	}
}

// TestAttachKeepsNoQueue: a queue that is read for an attach and is empty does not stay in memory for it.
func TestAttachKeepsNoQueue(t *testing.T) {
	h := newHarness(t, 1, nil)
	m := h.m()
	gw := h.peer(link.RoleGateway, 1, 0)
	for a := stanza.Account(1); a <= 20; a++ {
		gw.store(100+a, 1, 1, 0, a, 1)
		gw.attach(link.KindAttach, a, 1, uint32(a), 1)
		e, _ := gw.delivered()
		h.post(deliveryAck(e, 1))
	}
	h.tick(25 * time.Second)
	b := m.t.ahead()
	m.flush(b)
	if err := errors.Join(b.Commit(), m.broken); err != nil {
		t.Fatal(err)
	}
	m.evictQueues(0)
	before := len(m.queues)
	for a := stanza.Account(1); a <= 20; a++ {
		gw.attach(link.KindAttach, a, 1, uint32(100+a), 2)
	}
	gw.fence()
	if len(m.queues) != before || m.attached != 20 {
		t.Errorf("%d queues, %d before; %d attached", len(m.queues), before, m.attached)
	}
}

// TestWaitingForADeadGateway: a message for a device whose gateway does not come back costs no look at it every second.
func TestWaitingForADeadGateway(t *testing.T) {
	h := newHarness(t, 1, nil)
	m := h.m()
	gw, other := h.peer(link.RoleGateway, 1, 0), h.peer(link.RoleGateway, 2, 0)
	gw.attach(link.KindAttach, 9, 1, 7, 1)
	gw.fence()
	gw.stop()
	other.store(7, 1, 1, 0, 9, 1)
	other.fence()
	h.tick(3 * time.Second)
	a := m.queues[keyOf(9, 1)].att
	if a == nil {
		t.Fatal("nobody waits for the gateway")
	}
	if a.due < m.now+10_000 {
		t.Fatalf("due in %d ms", a.due-m.now)
	}
	gw.connect()
	if e, id := gw.delivered(); id != 1 || e.Slot != 7 {
		t.Errorf("message %d in %+v", id, e)
	}
}

// TestDirtyCountsMemory: what waits for a flush is counted as the memory that it holds, and is flushed when it is all that keeps more
// queues in memory than were asked for.
func TestDirtyCountsMemory(t *testing.T) {
	cfg := DefaultConfig()
	cfg.QueueCache = 256
	r := newRig(t, cfg)
	r.attachAll()
	for n := range 1000 {
		r.store(n, ciphertext)
		r.m.pushReady()
		r.ack(n)
		r.m.proposeAcks()
		r.confirm()
	}
	least := 1000 * int(unsafe.Sizeof(queue{})+unsafe.Sizeof(streamState{})+unsafe.Sizeof(streamKey{}))
	if got := r.m.Dirty(); got < least {
		t.Errorf("%d bytes are dirty, the objects alone take %d", got, least)
	}
	now := time.UnixMilli(1_700_000_000_000)
	ticks := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(50 * time.Millisecond)
			r.m.Tick(now)
		}
	}
	ticks(25 * time.Second)
	if r.m.Dirty() > 8<<20 {
		t.Fatal("a flush is due already")
	}
	ticks(10 * time.Second)
	if r.m.Dirty() <= 8<<20 {
		t.Fatalf("no flush is due with %d idle queues in memory", len(r.m.queues))
	}
	b := r.m.t.ahead()
	r.m.flush(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	r.m.crowded = false
	ticks(time.Second)
	if len(r.m.queues) > cfg.QueueCache {
		t.Errorf("%d queues stay in memory", len(r.m.queues))
	}
}
