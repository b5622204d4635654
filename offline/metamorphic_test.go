package offline

import (
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

var rounds = flag.Int("rounds", 60, "seeds of the metamorphic test")

// fold is one replica under test: a state over tables that crash, fed from a shared log.
type fold struct {
	t     *testing.T
	rng   *rand.Rand
	s     *state
	tab   *memTables
	next  uint64 // index of the log entry to apply next
	cache int64

	broken error // why the fold gave up
}

const appliedKey = "!F"

func newFold(t *testing.T, seed uint64, cache int64) *fold {
	f := &fold{t: t, rng: rand.New(rand.NewPCG(seed, 77)), tab: newMemTables(), cache: cache}
	f.open()
	return f
}

func (f *fold) open() {
	f.s = newState(func(err error) { f.broken = err }, 4)
	if err := f.s.load(f.tab); err != nil {
		f.t.Fatal(err)
	}
	f.next = 1
	if v, ok := f.tab.rows[appliedKey]; ok {
		f.next = binary.BigEndian.Uint64([]byte(v)) + 1
	}
}

func (f *fold) flush() {
	b := &memBatch{t: f.tab}
	f.s.flush(b)
	b.Set([]byte(appliedKey), binary.BigEndian.AppendUint64(nil, f.next-1))
	b.Commit()
}

// disturb does something that must not matter.
func (f *fold) disturb() {
	switch f.rng.IntN(12) {
	case 0:
		f.flush()
	case 1:
		f.flush()
		f.tab.sync()
	case 2:
		f.tab.crash(f.rng)
		f.open()
	case 3:
		f.s.relieve(f.cache)
	case 4:
		f.s.turn += int64(f.rng.IntN(3))
		f.s.writeAged(f.s.turn-int64(f.rng.IntN(3)), 1<<20)
	case 5:
		f.s.evictQueues(f.rng.IntN(3))
	}
}

// receive replaces the state by another replica's tables as they are, as the shard does with a follower that its leader's log does not
// reach: what was written ahead is in them, and F is the other's.
func (f *fold) receive(from *fold) {
	f.tab = newMemTables()
	f.tab.rows, f.tab.base = maps.Clone(from.tab.rows), maps.Clone(from.tab.rows)
	f.open()
}

func (f *fold) catchUp(log []shard.Entry) (r result) {
	for ; f.next <= uint64(len(log)); f.next++ {
		r = f.s.apply(log[f.next-1])
	}
	return r
}

// operations makes random commands over few names, so that they meet.
type operations struct {
	rng   *rand.Rand
	stamp int64
	ids   map[streamKey]uint64
}

func (g *operations) account() stanza.Account { return stanza.Account(1 + g.rng.IntN(3)) }
func (g *operations) device() stanza.Device   { return stanza.Device(1 + g.rng.IntN(3)) }

func (g *operations) next(m *model, s *state) command {
	g.stamp += int64(g.rng.IntN(4))
	c := command{
		account: g.account(), device: g.device(), from: g.account(), fromDevice: g.device(), tag: stanza.TagDelivered,
		maxEntries: uint64(3 + g.rng.IntN(30)), maxBytes: uint64(200 + g.rng.IntN(4000)),
	}
	switch n := g.rng.IntN(120); {
	case n >= 100:
		g.abroad(&c, s, n)
	case n < 45:
		c.op = opMessage
		g.number(&c)
		for d := range stanza.Device(3) {
			if g.rng.IntN(2) == 0 || (d == 2 && c.body == nil) {
				c.body = stanza.AppendCipher(c.body, d+1, make([]byte, 1+g.rng.IntN(60)))
			}
		}
	case n < 50:
		c.op = opRead
		g.number(&c)
		c.body = g.packed()
	case n < 75:
		c.op = opAck
		g.aim(&c, m)
		if q := s.find(keyOf(c.account, c.device)); q != nil {
			c.upTo = q.head + uint64(g.rng.IntN(6)) - 1
		}
		c.upTo = min(c.upTo, stanza.MaxID)
	case n < 82:
		c.op, c.body, c.again = opReceipt, g.packed(), g.rng.IntN(2) == 0
	case n < 90:
		c.op, c.body = opConfirm, g.packed()
		for k, batches := range m.pending { // any one
			c.account, c.device, c.from, c.reason = k.to.account(), k.to.device(), k.from, k.why
			c.tag = tagOf(k.why)
			c.body = stanza.AppendPacked(nil, batches[0].ids)
			break
		}
	case n < 92:
		c.op = opDrop
	case n < 96:
		c.op = opExpireQueues
		c.cut, c.cutTombs = max(0, g.stamp-int64(g.rng.IntN(200))), max(0, g.stamp-int64(g.rng.IntN(30)))
		if g.rng.IntN(2) == 0 {
			c.lo[0] = uint64(keyOf(2, 1))
		} else if g.rng.IntN(2) == 0 {
			c.hi[0] = uint64(keyOf(2, 2))
		}
	case n < 98:
		c.op, c.cut = opExpireStreams, max(0, g.stamp-int64(g.rng.IntN(400)))
	default:
		c.op, c.cut = opExpireReceipts, max(0, g.stamp-int64(g.rng.IntN(200)))
	}
	return c
}

// abroad makes what goes to another region, or comes from one. The fold does not ask which accounts are whose.
func (g *operations) abroad(c *command, s *state, n int) {
	switch {
	case n < 108:
		c.op = opOut
		g.number(c)
		m := stanza.MessageUp{ID: c.id, Account: c.account, Version: 1, Body: stanza.AppendCipher(nil, 1, make([]byte, 1+g.rng.IntN(60)))}
		c.body = m.Append(nil)
		if n == 107 {
			r := stanza.ReadUp{ID: c.id, Account: c.account, Device: 1, IDs: g.packed()}
			c.body = r.Append(nil)
		}
	case n < 114:
		c.op, c.device = opSent, 0
		if q := s.find(keyOf(c.account, 0)); q != nil {
			c.upTo = q.head + uint64(g.rng.IntN(5)) - 1
		}
		c.upTo = min(c.upTo, stanza.MaxID)
		for d := range min(c.upTo, 4) {
			if g.rng.IntN(3) == 0 {
				c.body = appendFailure(c.body, d, stanza.ReasonStaleDevices)
			}
		}
	case n < 116:
		c.op, c.body, c.tag, c.reason, c.again = opReceipt, g.packed(), stanza.TagUndelivered, stanza.ReasonStaleDevices, g.rng.IntN(2) == 0
	case n < 118:
		c.op = opForwardRead
		g.number(c)
		c.body = g.packed()
	default:
		c.op = opForward
		g.number(c)
		for d := range stanza.Device(3) {
			if g.rng.IntN(2) == 0 || (d == 2 && c.body == nil) {
				c.body = stanza.AppendCipher(c.body, d+1, make([]byte, 1+g.rng.IntN(60)))
			}
		}
	}
}

// number gives a message an id, mostly the next of its stream, and an after.
func (g *operations) number(c *command) {
	k := streamKey{to: c.account, from: keyOf(c.from, c.fromDevice)}
	c.id = max(1, g.ids[k]+uint64(g.rng.IntN(4)))
	if g.rng.IntN(2) == 0 {
		c.after = c.id - min(c.id, 1+uint64(g.rng.IntN(2)))
	}
	g.ids[k] = c.id
}

// aim points an ack at a queue that has something, if there is one.
func (g *operations) aim(c *command, m *model) {
	for _, k := range sortedKeys(m.queues) {
		if len(m.queues[k].entries) > 0 && k.device() != 0 && g.rng.IntN(3) == 0 {
			c.account, c.device = k.account(), k.device()
		}
	}
}

func (g *operations) packed() []byte {
	var ids []uint64
	at := uint64(0)
	for range 1 + g.rng.IntN(4) {
		at += 1 + uint64(g.rng.IntN(3))
		ids = append(ids, at)
	}
	return stanza.AppendPacked(nil, ids)
}

// TestMetamorphic folds one random log three times - in peace, and twice with flushes, crashes, records written ahead and evictions at
// other moments - and against a model in maps: results, contents and hashes are equal.
func TestMetamorphic(t *testing.T) {
	for seed := range uint64(*rounds) {
		if diff := metamorphic(t, seed, 400); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

// metamorphic returns the first difference, "" if there is none. What the cache believes about itself is only judged when everything
// that somebody outside can see was right.
func metamorphic(t *testing.T, seed uint64, steps int) string {
	g := &operations{rng: rand.New(rand.NewPCG(seed, 1)), stamp: 100, ids: map[streamKey]uint64{}}
	m := newModel()
	calm, small, large := newFold(t, seed, 1<<30), newFold(t, seed+1000, 300), newFold(t, seed+2000, 3000)
	folds := []*fold{calm, small, large}
	var log []shard.Entry
	memory := ""
	for step := range steps {
		c := g.next(m, calm.s)
		cmd := appendCommand(nil, &c)
		log = append(log, shard.Entry{Index: uint64(len(log) + 1), Stamp: g.stamp, Cmd: cmd})
		want := modelStep(m, calm.s, c, g.stamp)
		for i, f := range folds {
			if got := show(f.catchUp(log)); got != want {
				return fmt.Sprintf("step %d: fold %d: %s, want %s: %+v (%v)", step, i, got, want, c, f.broken)
			}
		}
		for _, f := range []*fold{small, large} {
			f.disturb()
			if from := folds[f.rng.IntN(3)]; f.rng.IntN(20) == 0 {
				f.receive(from)
			}
			f.catchUp(log)
		}
		if step%7 == 0 || step == steps-1 {
			if diff := differ(m, folds...); diff != "" {
				return fmt.Sprintf("step %d: %s", step, diff)
			}
		}
		for i, f := range folds {
			if diff := checkMemory(f.s); diff != "" && memory == "" {
				memory = fmt.Sprintf("step %d: fold %d: %s", step, i, diff)
			}
		}
	}
	return memory
}

// modelStep applies c to the model, an ack as a number of entries.
func modelStep(m *model, s *state, c command, stamp int64) string {
	c = counted(s, c)
	return m.apply(&c, stamp)
}

// counted returns an ack as the model takes it: how many entries it removes.
func counted(s *state, c command) command {
	if c.op == opAck || c.op == opSent {
		n := uint64(0)
		if q := s.find(keyOf(c.account, c.device)); q != nil && c.upTo >= q.head {
			n = c.upTo + 1 - q.head
		}
		c.upTo = n
	}
	return c
}

func differ(m *model, folds ...*fold) string {
	want := folds[0].s.hash()
	for i, f := range folds {
		if diff := m.compare(f.s); diff != "" {
			return fmt.Sprintf("fold %d: %s", i, diff)
		}
		if got := f.s.hash(); got != want {
			return fmt.Sprintf("fold %d: hash %x, want %x", i, got, want)
		}
		if f.broken != nil {
			return fmt.Sprintf("fold %d: %v", i, f.broken)
		}
	}
	return ""
}

// checkMemory checks the bookkeeping of the cache.
func checkMemory(s *state) string {
	resident, unflushed := int64(0), int64(0)
	for _, q := range s.queues {
		own := int64(0)
		for _, e := range q.ents[q.off:] {
			own += int64(len(e)) + entryOverhead
		}
		if own != q.resident {
			return fmt.Sprintf("queue %d: resident %d, want %d", q.key, q.resident, own)
		}
		if q.memLo > max(q.tabHi, q.head) {
			return fmt.Sprintf("queue %d: entries of [%d,%d) are nowhere", q.key, max(q.tabHi, q.head), q.memLo)
		}
		for seq := max(q.tabHi, q.head); seq < q.next; seq++ {
			unflushed += int64(len(q.inMemory(seq)))
		}
		resident += own
	}
	waiting, readBack := 0, int64(0)
	for _, p := range s.pending {
		for _, b := range p.batches {
			waiting += len(b.ids)
		}
	}
	for q := range s.fronts {
		for _, rec := range q.front {
			readBack += int64(len(rec))
		}
	}
	if waiting != s.waiting || readBack != s.readBack {
		return fmt.Sprintf("%d receipts wait, %d bytes read back, want %d and %d", s.waiting, s.readBack, waiting, readBack)
	}
	if resident != s.resident || unflushed != s.unflushed {
		return fmt.Sprintf("resident %d and unflushed %d, want %d and %d", s.resident, s.unflushed, resident, unflushed)
	}
	return ""
}
