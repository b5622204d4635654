package offline

import (
	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// outlet is the leader's side of a queue for an account of another region: soft, like an attachment. It sends as a client does, by the rules
// of protocol.md: each entry names the unanswered one before it of its stream, so nothing is admitted ahead of what was refused, and what
// comes twice is known by its id. So it may send again whenever it is in doubt.
type outlet struct {
	key       queueKey
	slot, gen uint32     // of what is on its way: answers to an earlier gen are late
	sent      []outgoing // from the queue's head; those behind have not been looked at
	away      int        // of sent
	cursor    uint64     // sequence behind sent
	hold      int64      // ms: nothing goes before; 0: it may
	due       int64      // ms: when what is on its way counts as lost
	armed     int64      // ms: when the timers bring it up, 0: not
	proposed  uint64     // the sequence up to which it was proposed to end entries
	tries     uint8
	listed    bool // in drains.ready
	ending    bool // in drains.ending
	stuck     bool // in drains.stuck

	entries uint64 // of the queue, when it was last looked at
	bytes   int64
	oldest  int64 // stamp, 0: unknown
}

type outgoing struct {
	seq, id uint64
	from    queueKey
	size    int
	state   outState
	why     stanza.Reason // of an answered one: it failed, or not all of it arrived
}

type outState uint8

const (
	outWaits outState = iota
	outAway
	outAnswered
)

// drains are those of one group.
type drains struct {
	byKey  map[queueKey]*outlet
	slots  []*outlet // nil: free
	free   []uint32
	gen    uint32
	ready  []*outlet
	ending []*outlet // with entries to end
	stuck  []*outlet // that wait for bytes, or for credit
	away   [stanza.MaxRegion + 1]int
	timers timers[*outlet]

	scanning, again bool // tables are being looked through for queues; they are to be once more
	from            uint64
}

// Bounds of drains.
const (
	outWindow    = 32         // entries of one queue on their way
	outAnswers   = 64         // entries of one queue that are known: on their way, or answered behind one that is
	outBytes     = 256 << 10  // on their way from one group to one region; the links have room for that
	maxDrains    = 1 << 16    // of a group; about 300 bytes each. The tables know of more
	scanSlice    = 512        // queues looked at in one tick
	stuckSlice   = 256        // of those that wait, tried again in one tick
	outPatience  = 60_000     // ms; a path that ends says so, this is for what was lost behind it
	firstHold    = int64(500) // ms
	lastHold     = int64(60_000)
	outgoingCost = link.EnvelopeCharge
)

func (l *drains) reset() { *l = drains{byKey: map[queueKey]*outlet{}, gen: l.gen + 1} }

// startDrains begins a leadership.
func (m *group) startDrains() {
	m.abroad.reset()
	m.findDrains()
}

// findDrains begins to look for queues with something for other regions: those in memory at once, those in tables tick by tick.
func (m *group) findDrains() {
	l := &m.abroad
	l.again, l.scanning, l.from = false, true, 0
	for k, q := range m.queues {
		if k.device() == 0 && q.entries() > 0 {
			m.startDrain(k)
		}
	}
}

// startDrain has a queue looked at in this turn, or soon.
func (m *group) startDrain(k queueKey) {
	l := &m.abroad
	d := l.byKey[k]
	if d == nil {
		if len(l.byKey) >= maxDrains {
			l.again = true
			return
		}
		d = &outlet{key: k}
		if n := len(l.free); n > 0 {
			d.slot, l.free = l.free[n-1], l.free[:n-1]
			l.slots[d.slot] = d
		} else {
			d.slot = uint32(len(l.slots))
			l.slots = append(l.slots, d)
		}
		l.gen++
		d.gen = l.gen
		l.byKey[k] = d
	}
	l.list(d)
}

func (l *drains) list(d *outlet) {
	if !d.listed {
		d.listed = true
		l.ready = append(l.ready, d)
	}
}

// wait has d tried again in its turn among those that find no room.
func (l *drains) wait(d *outlet) {
	if !d.stuck {
		d.stuck = true
		l.stuck = append(l.stuck, d)
	}
}

// scanDrains looks through the next queues in tables that are of other regions.
func (m *group) scanDrains() {
	l := &m.abroad
	if l.again && !l.scanning && len(l.byKey) < maxDrains/2 {
		m.findDrains()
	}
	if !l.scanning {
		return
	}
	lo, hi := uint64(m.region.First())<<16, uint64((m.region+1).First())<<16
	if l.from >= lo && l.from < hi {
		l.from = hi
	}
	end := maxQueueKey
	if l.from < lo {
		end = lo
	}
	n, next := 0, end
	from := appendKey(nil, tableQueue, l.from)
	m.check(from, m.t.Scan(from, appendKey(nil, tableQueue, end), func(k, v []byte) bool {
		if n++; n > scanSlice {
			next = keyPart(k, 0)
			return false
		}
		q := newQueue(queueKey(keyPart(k, 0)))
		if cached := m.queues[q.key]; cached != nil {
			q = cached
		} else if !decodeQueue(v, q) {
			return true // found when it is asked for
		}
		if q.entries() > 0 {
			m.startDrain(q.key)
		}
		return true
	}))
	l.from = next
	l.scanning = next < maxQueueKey
}

// runDrains sends from every queue that something happened to, and ends what was answered.
func (m *group) runDrains() {
	l := &m.abroad
	for i := 0; i < len(l.ready); i++ {
		d := l.ready[i]
		d.listed = false
		if l.byKey[d.key] == d {
			m.drain(d)
		}
	}
	clear(l.ready)
	l.ready = l.ready[:0]
	m.proposeSent()
}

// tickDrains does what is due.
func (m *group) tickDrains() {
	l := &m.abroad
	n := min(len(l.stuck), stuckSlice)
	for _, d := range l.stuck[:n] {
		d.stuck = false
		l.list(d)
	}
	left := copy(l.stuck, l.stuck[n:])
	clear(l.stuck[left:])
	l.stuck = l.stuck[:left]
	m.scanDrains()
	for {
		d, ok := l.timers.due(m.now)
		if !ok {
			break
		}
		d.armed = 0
		if l.byKey[d.key] != d {
			continue
		}
		if d.hold != 0 && d.hold <= m.now {
			d.hold = 0
		}
		if d.away > 0 && d.due <= m.now {
			m.takeBack(d)
			d.tries = min(d.tries+1, 7)
		}
		l.list(d)
		m.armDrain(d)
	}
}

// armDrain makes sure that the timers bring d up when something of it is due.
func (m *group) armDrain(d *outlet) {
	at := d.hold
	if d.away > 0 && (at == 0 || d.due < at) {
		at = d.due
	}
	if at != 0 && (d.armed == 0 || at < d.armed) {
		d.armed = at
		m.abroad.timers.arm(at, d)
	}
}

// drain sends what may go now.
func (m *group) drain(d *outlet) {
	q := m.find(d.key)
	if m.broken != nil {
		return
	}
	if q == nil || q.entries() == 0 {
		m.endDrain(d, q)
		return
	}
	m.trimDrain(d, q)
	d.entries, d.bytes, d.oldest = q.entries(), q.bytes, q.oldest
	region := d.key.account().Region()
	s := m.peers.border(region)
	if s == nil || d.hold != 0 {
		return // both end with an event
	}
	for i := 0; d.away < outWindow && i < outAnswers; i++ {
		if i == len(d.sent) {
			if d.cursor >= q.next || !m.look(d, q) {
				return
			}
		}
		if d.sent[i].state == outWaits && !m.sendOut(s, d, q, i) {
			return
		}
	}
}

// look takes the entry at the cursor into d.sent; false: it cannot be read.
func (m *group) look(d *outlet, q *queue) bool {
	var r record
	if !m.read(q, d.cursor, &r) {
		return false
	}
	if r.kind != recordOut {
		m.damaged(appendKey(nil, tableMessage, uint64(q.key), d.cursor), isMalformed)
		return false
	}
	d.sent = append(d.sent, outgoing{seq: d.cursor, id: r.id, from: keyOf(r.from, r.fromDevice), size: len(r.body) + outgoingCost})
	d.cursor++
	return true
}

// sendOut sends entry i. false: not now; what happens next brings d up again.
func (m *group) sendOut(s *link.Stream, d *outlet, q *queue, i int) bool {
	e := &d.sent[i]
	away := &m.abroad.away[d.key.account().Region()]
	if *away > 0 && *away+e.size > outBytes {
		m.abroad.wait(d)
		return false
	}
	var r record
	if !m.read(q, e.seq, &r) {
		return false
	}
	after := uint64(0)
	for j := range d.sent[:i] {
		if b := &d.sent[j]; b.from == e.from && b.state != outAnswered {
			after = b.id
		}
	}
	m.outward = withAfter(m.outward[:0], r.body, after)
	if after != 0 && len(m.outward) > stanza.MaxStanza {
		return false // alone it fits
	}
	m.env = link.Envelope{
		Kind: link.KindForward, Group: m.id, Account: r.from, Device: r.fromDevice, ID: r.id,
		Slot: d.slot, Gen: d.gen, Epoch: link.Fence(e.seq), Payload: m.outward,
	}
	if s.SendSpare(&m.env) != nil {
		m.abroad.wait(d)
		return false
	}
	if d.away == 0 {
		d.due = m.now + outPatience<<min(d.tries, 3)
	}
	e.state = outAway
	d.away++
	*away += e.size
	m.count.forwards.Inc()
	m.armDrain(d)
	return true
}

// takeBack counts everything unanswered of d as not sent.
func (m *group) takeBack(d *outlet) {
	for i := range d.sent {
		if e := &d.sent[i]; e.state == outAway {
			e.state = outWaits
			m.arrived(d, e)
		}
	}
	m.abroad.gen++
	d.gen = m.abroad.gen
}

func (m *group) arrived(d *outlet, e *outgoing) {
	d.away--
	m.abroad.away[d.key.account().Region()] -= e.size
}

// trimDrain forgets entries that have left the queue.
func (m *group) trimDrain(d *outlet, q *queue) {
	n := 0
	for n < len(d.sent) && d.sent[n].seq < q.head {
		if d.sent[n].state == outAway {
			m.arrived(d, &d.sent[n])
		}
		n++
	}
	d.sent = d.sent[:copy(d.sent, d.sent[n:])]
	if d.cursor < q.head {
		d.cursor = q.head
	}
}

func (m *group) endDrain(d *outlet, q *queue) {
	l := &m.abroad
	if q != nil {
		m.trimDrain(d, q)
		m.dropFront(q)
	} else {
		m.takeBack(d)
	}
	l.slots[d.slot] = nil
	l.free = append(l.free, d.slot)
	delete(l.byKey, d.key)
}

// handleForwarded takes an answer of the other region, or of a border on the way.
func (m *group) handleForwarded(env *link.Envelope) {
	l := &m.abroad
	if int(env.Slot) >= len(l.slots) || l.slots[env.Slot] == nil || l.slots[env.Slot].gen != env.Gen {
		m.count.dropped.Inc(stanza.ReasonStaleEpoch)
		return
	}
	d := l.slots[env.Slot]
	for i := range d.sent {
		if e := &d.sent[i]; e.seq == uint64(env.Epoch) && e.state == outAway {
			m.answered(d, e, env)
			return
		}
	}
	m.count.dropped.Inc(stanza.ReasonOutOfTurn)
}

// answered books the answer for e. A refusal that passes holds the queue: what is behind it in its stream would be refused too.
func (m *group) answered(d *outlet, e *outgoing, env *link.Envelope) {
	if r := env.Reason; r != 0 {
		m.count.forwardRefused.Inc(r)
		if !r.Final() && r != stanza.ReasonStaleDevices {
			m.takeBack(d)
			wait := max(firstHold<<d.tries, int64(min(env.RetryAfter, uint32(lastHold))))
			if r == stanza.ReasonGap && d.tries == 0 {
				wait = 1
			}
			d.tries = min(d.tries+1, 7)
			d.hold = m.now + min(wait, lastHold)
			m.armDrain(d)
			return
		}
		e.why = r
	} else if m.count.forwarded.Inc(); env.Flags&link.FlagStale != 0 {
		e.why = stanza.ReasonStaleDevices
	}
	e.state = outAnswered
	m.arrived(d, e)
	d.tries, d.due = 0, m.now+outPatience
	m.abroad.list(d)
	m.noteEnding(d)
}

func (m *group) noteEnding(d *outlet) {
	if !d.ending {
		d.ending = true
		m.abroad.ending = append(m.abroad.ending, d)
	}
}

// proposeSent proposes the end of the entries at the head of each queue that are answered. Those that failed are named each time until
// they have left: a proposal that is not taken loses nothing.
func (m *group) proposeSent() {
	l := &m.abroad
	left := l.ending[:0]
	for _, d := range l.ending {
		d.ending = false
		n := 0
		for n < len(d.sent) && d.sent[n].state == outAnswered {
			n++
		}
		if l.byKey[d.key] != d || n == 0 || d.sent[n-1].seq <= d.proposed {
			continue
		}
		c := command{op: opSent, account: d.key.account(), upTo: d.sent[n-1].seq}
		m.outward = m.outward[:0]
		for i := n - 1; i >= 0; i-- {
			if e := &d.sent[i]; e.why != 0 {
				m.outward = appendFailure(m.outward, c.upTo-e.seq, e.why)
			}
		}
		c.body = m.outward
		m.cmdOut = appendCommand(m.cmdOut[:0], &c)
		if !m.raft.ProposeLazy(m.cmdOut, proposal{purpose: forSent, account: c.account}) {
			d.ending = true
			left = append(left, d)
			continue
		}
		d.proposed = c.upTo
	}
	clear(l.ending[len(left):])
	l.ending = left
}

// sentDone goes on after a proposal of proposeSent.
func (m *group) sentDone(p *proposal, o shard.Outcome) {
	d := m.abroad.byKey[keyOf(p.account, 0)]
	if d == nil || !m.leading {
		return
	}
	if o != shard.Committed {
		d.proposed = 0
		m.noteEnding(d)
		return
	}
	m.abroad.list(d)
}

// regionsUp goes on with what is for regions that can be reached again, or on another way: what was on its way may be lost.
func (m *group) regionsUp(bits uint64) {
	up := func(a stanza.Account) bool { return bits&(1<<a.Region()) != 0 }
	for k, d := range m.abroad.byKey {
		if up(k.account()) {
			m.takeBack(d)
			d.hold, d.tries = 0, 0
			m.abroad.list(d)
		}
	}
	for _, p := range m.pending {
		if to := p.key.to.account(); p.send.away && to.Region() != m.region && up(to) {
			p.send.tries = 0
			m.sendReceipt(p)
		}
	}
}
