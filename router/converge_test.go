package router

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"linecard.example/internal/link"
)

// simGateway behaves as a gateway must: it re-binds at a hello, unbinds what ends, answers for dead slots with gone, and closes what it is
// told to.
type simGateway struct {
	node, incarnation uint64
	stream            *fakeStream // nil: down
	sessions          map[uint32]*simSession
	slots             uint32
}

type simSession struct {
	c      client
	bound  bool
	serial link.Fence
}

// simQueue keeps attachments as an offline must.
type simQueue struct {
	stream *fakeStream
	term   uint64
	att    map[deviceKey]link.Envelope
	done   bool
}

// world is a shard among gateways and a queue's leader, all of which fail.
type world struct {
	*harness
	rng     *rand.Rand
	clients []client
	gws     []*simGateway
	queue   simQueue
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{harness: newHarness(t, nil), rng: rand.New(rand.NewPCG(seed, 2))}
	s := w.gateway(77, 1)
	for i := range byte(4) {
		w.clients = append(w.clients, w.register(s, handleIn(string(rune('a'+i))), i, uint32(i)))
	}
	w.m.down(s)
	w.tick(time.Minute)
	for n := range uint64(3) {
		// Two of the three are workers of one node.
		w.gws = append(w.gws, &simGateway{node: n/2 + 1, incarnation: link.NewIncarnation(uint16(n), 1), sessions: map[uint32]*simSession{}})
	}
	w.newQueue()
	for _, g := range w.gws {
		w.connect(g)
	}
	w.deliver()
	return w
}

func (w *world) connect(g *simGateway) { g.stream = w.up(link.RoleGateway, g.node, g.incarnation) }

func (w *world) cut(g *simGateway) {
	if g.stream == nil {
		return
	}
	w.m.down(g.stream)
	g.stream = nil
	for slot, s := range g.sessions {
		if !s.bound {
			delete(g.sessions, slot) // its bind is lost: the gateway tells the client to come again
		}
	}
}

func (w *world) newQueue() {
	if w.queue.stream != nil {
		w.m.down(w.queue.stream)
	}
	w.queue = simQueue{stream: w.up(link.RoleOffline, 90, 1), term: w.queue.term + 1, att: map[deviceKey]link.Envelope{}}
	w.toShard(w.queue.stream, link.Envelope{Kind: link.KindHello, Group: w.m.queue, Term: w.queue.term})
}

// toShard hands e over without letting anything settle.
func (w *world) toShard(s *fakeStream, e link.Envelope) {
	if e.Group == 0 {
		e.Group = w.m.id
	}
	w.m.receive(s, &e)
}

// deliver lets everybody read what was sent, until nobody has anything to say.
func (w *world) deliver() {
	for again := true; again; {
		w.settle()
		again = w.readQueue()
		for _, g := range w.gws {
			again = w.readGateway(g) || again
		}
	}
}

func (w *world) readGateway(g *simGateway) bool {
	if g.stream == nil || len(g.stream.got) == 0 {
		return false
	}
	got := g.stream.got
	g.stream.got = nil
	for _, e := range got {
		if e.Kind == link.KindHello {
			for slot, s := range g.sessions {
				if s.bound {
					w.toShard(g.stream, link.Envelope{Kind: link.KindRebind, Slot: slot, Gen: 1, Account: s.c.account, Device: 1, Serial: s.serial})
				}
			}
			w.toShard(g.stream, link.Envelope{Kind: link.KindRebindDone, Term: e.Term})
			continue
		}
		s := g.sessions[e.Slot]
		switch {
		case s == nil:
			w.toShard(g.stream, link.Envelope{Kind: link.KindGone, Slot: e.Slot, Gen: e.Gen, Account: e.Account, Device: e.Device})
		case e.Kind == link.KindBound:
			s.bound, s.serial = true, e.Serial
		case e.Kind == link.KindClose:
			w.end(g, e.Slot)
		}
	}
	return true
}

func (w *world) readQueue() bool {
	q := &w.queue
	got := q.stream.got
	q.stream.got = nil
	for _, e := range got {
		k := keyOf(e.Account, e.Device)
		old, had := q.att[k]
		same := had && old.Gateway == e.Gateway && old.Slot == e.Slot && old.Gen == e.Gen
		switch {
		case e.Kind == link.KindAttach && (!had || same || e.Serial >= old.Serial):
			e.Serial = max(e.Serial, old.Serial)
			q.att[k] = e
		case e.Kind == link.KindDetach && same:
			delete(q.att, k)
		case e.Kind == link.KindAttachDone && e.Term == q.term:
			q.done = true
		}
	}
	return len(got) > 0
}

// step does one random thing.
func (w *world) step() {
	g := w.gws[w.rng.IntN(len(w.gws))]
	switch n := w.rng.IntN(100); {
	case n < 35:
		w.bindSession(g)
	case n < 50:
		w.endSession(g)
	case n < 56:
		w.cut(g)
	case n < 66:
		if g.stream == nil {
			w.connect(g)
		}
	case n < 68: // the worker dies and starts anew
		w.cut(g)
		g.incarnation++
		g.sessions = map[uint32]*simSession{}
	case n < 72:
		if g.stream != nil {
			g.stream.err = link.ErrNoCredit
		}
	case n < 76:
		w.queue.stream.err = link.ErrNoCredit
	case n < 78:
		w.newQueue()
	case n < 80:
		w.restartRouter()
	case n < 84: // one leadership ends, the process stays
		w.m.Follow()
		w.g.stale = true
		w.settle()
		w.g.stale = false
		w.m.Lead(w.m.term + 1)
	case n < 88:
		w.g.hold = !w.g.hold
	case n < 94:
		w.credit()
		w.tick(time.Duration(w.rng.IntN(6000)) * time.Millisecond)
	default:
		w.deliver()
	}
}

func (w *world) bindSession(g *simGateway) {
	if g.stream == nil {
		return
	}
	c := w.clients[w.rng.IntN(len(w.clients))]
	g.slots++
	g.sessions[g.slots] = &simSession{c: c}
	w.toShard(g.stream, w.bindEnv(c, g.slots, w.rng.Uint64N(3)*w.g.index))
}

func (w *world) endSession(g *simGateway) {
	for slot := range g.sessions {
		w.end(g, slot)
		return
	}
}

// end ends one session; the unbind is lost while there is no stream.
func (w *world) end(g *simGateway, slot uint32) {
	s := g.sessions[slot]
	delete(g.sessions, slot)
	if g.stream != nil && s.bound {
		w.toShard(g.stream, link.Envelope{Kind: link.KindUnbind, Slot: slot, Gen: 1, Account: s.c.account, Device: 1, Serial: s.serial})
	}
}

func (w *world) restartRouter() {
	for _, g := range w.gws {
		w.cut(g)
	}
	w.restart()
	for _, g := range w.gws {
		w.connect(g)
	}
	w.queue.stream = w.up(link.RoleOffline, 90, 1)
	w.toShard(w.queue.stream, link.Envelope{Kind: link.KindHello, Group: w.m.queue, Term: w.queue.term})
}

func (w *world) credit() {
	w.queue.stream.err = nil
	for _, g := range w.gws {
		if g.stream != nil {
			g.stream.err = nil
		}
	}
}

// heal ends all failures and gives everybody time.
func (w *world) heal() {
	w.credit()
	w.g.hold = false
	for _, g := range w.gws {
		if g.stream == nil {
			w.connect(g)
		}
	}
	w.deliver()
	for range 30 {
		w.tick(time.Second)
		w.deliver()
	}
	for _, g := range w.gws { // what never got an answer is given up by its gateway
		for slot, s := range g.sessions {
			if !s.bound {
				delete(g.sessions, slot)
			}
		}
	}
}

// check: each device has at most one session in all gateways; the router and the queue's leader agree with that.
func (w *world) check() {
	w.t.Helper()
	checkBindings(w.t, w.m)
	live := map[deviceKey]link.Envelope{}
	for _, g := range w.gws {
		for slot, s := range g.sessions {
			k := keyOf(s.c.account, 1)
			if _, two := live[k]; two {
				w.t.Errorf("device %d.1 has two sessions", s.c.account)
			}
			live[k] = link.Envelope{Gateway: link.GatewayID{Node: g.node, Incarnation: g.incarnation}, Slot: slot, Serial: s.serial}
		}
	}
	for k, want := range live {
		b, ok := w.m.bindings.get(k)
		if !ok || w.m.gateways.at(b.gateway).id != want.Gateway || b.slot != want.Slot || b.serial != want.Serial {
			w.t.Errorf("device %d.1: bound %v %+v, live is %+v", k.account(), ok, b, want)
		}
		if a, ok := w.queue.att[k]; !ok || a.Gateway != want.Gateway || a.Slot != want.Slot {
			w.t.Errorf("device %d.1: attached %v %+v, live is %+v", k.account(), ok, a, want)
		}
	}
	if n := w.m.bindings.len(); n != len(live) {
		w.t.Errorf("%d bindings, %d sessions", n, len(live))
	}
	if !w.queue.done || w.m.waiting != 0 || len(w.m.closes) != 0 || len(w.m.attaches.owed) != 0 {
		w.t.Errorf("attachments done %v, %d requests, %d closes, %d attachments left over", w.queue.done, w.m.waiting, len(w.m.closes), len(w.m.attaches.owed))
	}
}

// TestSoftStateConverges: after any failures of gateways, streams, credits, leaders and queue, when they end everybody agrees about
// who is bound where.
func TestSoftStateConverges(t *testing.T) {
	worlds := 300
	if os.Getenv("LINECARD_LONG") != "" {
		worlds = 20000
	}
	for seed := range uint64(worlds) {
		w := newWorld(t, seed)
		for range 3 {
			for range 60 {
				w.step()
			}
			w.heal()
			w.check()
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
