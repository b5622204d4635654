package offline

import (
	"linecard.example/internal/shard"
)

// sweep is the leader's passes of expiry over one table: a slice of the keys at a time, one entry at a time.
type sweep struct {
	op     operation
	every  int64 // ms between passes
	next   int64 // ms: when the next pass begins
	active bool
	wait   bool // a slice is proposed
	lo, hi [2]uint64
}

// firstSweep is how soon after taking the lead a pass begins.
const firstSweep = 60_000 // ms

func (w *sweep) start(now int64) {
	w.active, w.wait, w.lo = false, false, [2]uint64{}
	w.next = now + min(w.every, firstSweep)
}

func (m *group) startSweeps() {
	for i := range m.sweeps {
		m.sweeps[i].start(m.wall)
	}
}

// sweepTick proposes the next slice of each pass.
func (m *group) sweepTick() {
	for i := range m.sweeps {
		w := &m.sweeps[i]
		w.next = min(w.next, m.wall+w.every) // a clock that was set back must not put it off for as long
		if w.wait || (!w.active && m.wall < w.next) {
			continue
		}
		if !w.active {
			w.active, w.lo = true, [2]uint64{}
			if w.op == opExpireQueues {
				m.sweepReceipts()
			}
		}
		m.proposeSlice(w)
	}
}

func (m *group) proposeSlice(w *sweep) {
	ms := func(d interface{ Milliseconds() int64 }) int64 { return d.Milliseconds() }
	stamp := m.raft.Stamp()
	keep := ms(m.cfg.Retention.D())
	c := command{op: w.op, cut: max(stamp-keep, 0), cutTombs: max(stamp-ms(m.cfg.TombstoneRetention.D()), 0), lo: w.lo}
	if w.op == opExpireStreams {
		// A stream's messages are gone at the latest when the youngest of them has expired.
		c.cut = max(c.cut-ms(m.cfg.StreamRetention.D()), 0)
	}
	w.hi = m.sliceEnd(w)
	c.hi = w.hi
	m.cmdOut = appendCommand(m.cmdOut[:0], &c)
	w.wait = m.raft.ProposeLazy(m.cmdOut, proposal{purpose: forSweep, sweep: w})
}

// sliceEnd returns the key behind the next SweepSlice keys of the table, zero if they are the last. Keys that are not flushed yet come
// on top: they are few.
func (m *group) sliceEnd(w *sweep) (hi [2]uint64) {
	table, parts := byte(tableQueue), 1
	if w.op == opExpireStreams {
		table, parts = tableStream, 2
	}
	n := 0
	lo := appendKey(nil, table, w.lo[:parts]...)
	m.check(lo, m.t.Scan(lo, []byte{table + 1}, func(k, _ []byte) bool {
		if n++; n <= m.cfg.SweepSlice {
			return true
		}
		for i := range parts {
			hi[i] = keyPart(k, i)
		}
		return false
	}))
	return hi
}

// sweepReceipts proposes the end of receipts that could not be handed over, if there are such.
func (m *group) sweepReceipts() {
	cut := m.raft.Stamp() - m.cfg.ReceiptRetention.D().Milliseconds()
	for _, p := range m.pending {
		if p.batches[0].stamp <= cut {
			c := command{op: opExpireReceipts, cut: cut}
			m.cmdOut = appendCommand(m.cmdOut[:0], &c)
			m.raft.ProposeLazy(m.cmdOut, proposal{purpose: forReceiptSweep})
			return
		}
	}
}

// sweepDone goes on to the next slice, or stays at one that had more than a single entry may take.
func (m *group) sweepDone(p *proposal, o shard.Outcome, r result) {
	w := p.sweep
	if o == shard.Committed && (w == nil || w.op == opExpireQueues) {
		for range r.count {
			m.count.dropped.Inc(r.reason)
		}
	}
	if w == nil {
		return
	}
	if o == shard.Committed && w.op == opExpireQueues {
		m.count.expired.Add(float64(r.count))
	}
	w.wait = false
	switch {
	case o != shard.Committed || r.more:
	case w.hi == [2]uint64{}:
		w.active, w.next = false, m.wall+w.every
	default:
		w.lo = w.hi
	}
}
