package offline

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// proposer is what a group needs of its raft group.
type proposer interface {
	Propose(cmd []byte, p proposal) bool
	ProposeLazy(cmd []byte, p proposal) bool
	Stamp() int64
	StorageFull() bool
	Wake()
}

// purpose says what a proposal was for.
type purpose uint8

const (
	forStore        purpose = iota + 1 // gw, slot, gen, id, charge: whom to answer; account: the recipient
	forAck                             // account, device: the queue
	forReceipt                         // from: whom to confirm; account, device, id: the sender's device, our peer's account; payload
	forLocalReceipt                    // account, device, id: as above; both ends are this group
	forConfirm
	forDrop // from, account, device
	forSweep
	forReceiptSweep
	forSent // account: the recipient, of another region
)

// proposal is what Done gets back with the outcome.
type proposal struct {
	purpose           purpose
	slot, gen, charge uint32
	device            stanza.Device
	account           stanza.Account
	id                uint64
	flags             uint8         // forStore: go back with the ack
	why               stanza.Reason // forLocalReceipt
	gw                *gateway
	from              *link.Stream
	sweep             *sweep
	payload           []byte // borrowed from a received envelope, which is immutable
}

// group is one queue/N: the fold and, while this process leads it, the soft state around it. It is the group's shard.Machine. Shard
// goroutine only, but for inbox and waker.
type group struct {
	*state
	cfg    Config
	id     stanza.Group
	shards int
	region stanza.Region
	peers  *peers
	count  *counters
	gauges groupGauges
	log    *slog.Logger

	stopGroup func(error) // shard.Host.StopGroup

	inbox *link.Inbox
	waker atomic.Pointer[proposer]

	raft    proposer // nil until bound
	endTurn func()   // link.Endpoint.Flush
	last    time.Time
	wall    int64 // ms since 1970, at the last tick
	now     int64 // ms that have passed in ticks, see Tick; what timers count in
	ackTime int64 // ms from a push, or the ack before it, to an ack: the mean of the last few

	// Leader.
	term     uint64
	epochs   uint64 // counter of attachment epochs in this term
	attached int    // asleep ones included
	asleep   sleepers
	awake    awake
	spare    []*attachment
	greet    []*link.Stream // to say hello to
	acking   []*attachment  // with acks to propose
	blocked  []*attachment  // to push to again at the next tick
	slow     []*attachment  // whose queues are to leave memory at the next tick
	rooms    [][]sent       // empty windows
	timers   timers[*attachment]
	retries  timers[*pending]
	abroad   drains
	sweeps   [2]sweep
	idle     map[queueKey]int64 // when an unlink was asked for

	published int64
	crowded   bool  // a flush is due for the queues that it lets go
	crowdedAt int64 // ms: when they began to be too many, or later

	// Scratch.
	env     link.Envelope
	out     []byte
	outward []byte
	cmdOut  []byte
}

// newGroup returns the group of id; stopGroup is called when it cannot go on.
func newGroup(cfg Config, id stanza.Group, shards int, region stanza.Region, p *peers, c *counters, log *slog.Logger, stopGroup func(error)) *group {
	m := &group{
		cfg: cfg, id: id, shards: shards, region: region, peers: p, count: c, gauges: c.group(id), log: log, stopGroup: stopGroup,
		idle: map[queueKey]int64{}, asleep: newSleepers(), awake: awake{},
	}
	m.state = m.newState()
	m.sweeps[0] = sweep{op: opExpireQueues, every: cfg.Sweep.D().Milliseconds()}
	m.sweeps[1] = sweep{op: opExpireStreams, every: cfg.StreamSweep.D().Milliseconds()}
	m.inbox = link.NewInbox(func() {
		if w := m.waker.Load(); w != nil {
			(*w).Wake()
		}
	})
	return m
}

// bind gives the group its raft group, on the shard goroutine. What came before it waits in the inbox.
func (m *group) bind(r proposer, endTurn func()) {
	m.raft, m.wall, m.endTurn = r, r.Stamp(), endTurn
	if m.leading {
		m.startSweeps()
	}
	m.waker.Store(&r)
	m.Turn()
}

// Load implements shard.Machine.
func (m *group) Load(t shard.Tables, _ uint64) error { return m.loadFrom(shardTables{t}) }

func (m *group) loadFrom(t tables) error {
	m.state = m.newState()
	return m.state.load(t)
}

func (m *group) newState() *state {
	s := newState(m.failed, m.cfg.StreamCache)
	s.wake = m.wake
	return s
}

// failed stops the group: the fold cannot go on.
func (m *group) failed(err error) { m.stopGroup(fmt.Errorf("offline: %s: %w", m.id, err)) }

// Apply implements shard.Machine.
func (m *group) Apply(e shard.Entry) result {
	r := m.apply(e)
	if m.leading && m.broken == nil && m.cmd.op == opDrop {
		m.closeDropped(m.queues[keyOf(m.cmd.account, m.cmd.device)])
	}
	return r
}

// Flush implements shard.Machine.
func (m *group) Flush(b *shard.Batch) error {
	if m.broken == nil {
		m.flush(b)
		m.crowded, m.crowdedAt = false, m.now
	}
	return m.broken
}

// Dirty implements shard.Machine. When queues that nobody needs any more only wait for a flush, it is due.
func (m *group) Dirty() int {
	if m.crowded {
		return math.MaxInt
	}
	return m.dirty()
}

// crowdedFor is how long they wait at least: what is talked through is flushed no more often for it.
const crowdedFor = 30_000 // ms

// checkCrowd looks whether more queues are in memory than were asked for, because many of them are not flushed.
func (m *group) checkCrowd() {
	limit := m.cfg.QueueCache
	if len(m.queues) <= limit || len(m.dirtyQueues) <= limit/2 {
		m.crowdedAt = m.now
	}
	m.crowded = m.now-m.crowdedAt >= crowdedFor
}

// Hash implements shard.Machine.
func (m *group) Hash() uint64 { return m.hash() }

// Lead implements shard.Machine: say hello, so that routers re-send attachments, and take up the pending receipts.
func (m *group) Lead(term uint64) {
	m.term, m.epochs, m.leading = term, 0, true
	m.greet = append(m.greet[:0], m.peers.all()...)
	for _, p := range m.pending {
		p.send = sending{again: true} // an earlier leader may have sent it
		m.list(p)
	}
	m.startDrains()
	m.startSweeps()
	m.log.Debug("leading", "term", term, "entries", m.entries, "receipts", len(m.pending))
}

// Follow implements shard.Machine: everything soft goes.
func (m *group) Follow() {
	m.log.Debug("following", "term", m.term)
	m.leading = false
	for _, q := range m.queues {
		q.att, q.ready = nil, false
	}
	for _, p := range m.pending {
		p.send = sending{}
	}
	m.free = nil // they may think that they are in the lists
	m.attached = 0
	m.asleep.clear()
	clear(m.awake)
	m.spare = nil
	m.greet, m.acking, m.blocked, m.slow = nil, nil, nil, nil
	m.timers, m.retries = nil, nil
	m.ready, m.raised = nil, nil
	m.abroad.reset()
	clear(m.idle)
}

// Turn implements shard.Machine. A group whose state is broken says one thing only, that it does not lead: all else might be wrong.
func (m *group) Turn() {
	if m.raft == nil {
		return
	}
	items := m.inbox.Drain()
	for i := range items {
		if m.broken != nil {
			m.notLeader(&items[i])
			continue
		}
		m.handle(&items[i])
	}
	m.inbox.Done(items)
	if m.broken != nil {
		return
	}
	if m.leading {
		m.proposeAcks()
		m.pushReady()
		m.runDrains()
		m.sendRaised()
		m.sayHello()
	}
	if m.broken == nil {
		m.count.aheadBytes.Add(float64(m.relieve(int64(m.cfg.Cache))))
	}
}

// EndTurn implements shard.Machine: it hands over what the turn sent.
func (m *group) EndTurn() {
	if m.endTurn != nil {
		m.endTurn()
	}
}

// Bounds of a tick's background work.
const (
	aheadPerTick = 4 << 20
	publishEvery = 1000 // ms
)

// maxTick is the most that one tick counts for: when the process was stopped or the clock was set, no device is to blame.
const maxTick = time.Second

// Tick implements shard.Machine.
func (m *group) Tick(now time.Time) {
	if !m.last.IsZero() {
		m.now += min(max(now.Sub(m.last), 0), maxTick).Milliseconds()
	}
	m.last, m.wall, m.turn = now, now.UnixMilli(), m.now
	if m.broken != nil {
		return
	}
	m.count.aheadBytes.Add(float64(m.writeAged(m.now-m.cfg.WriteAheadAge.D().Milliseconds(), aheadPerTick)))
	m.evictQueues(m.cfg.QueueCache)
	m.checkCrowd()
	if m.leading && m.raft != nil {
		for _, a := range m.blocked {
			a.blocked = false
			if a.q.att == a { // else its queue may have been forgotten, and be another object by now
				m.touch(a.q)
			}
		}
		clear(m.blocked)
		m.blocked = m.blocked[:0]
		m.checkAttachments()
		m.shed()
		m.retryReceipts()
		m.tickDrains()
		m.sweepTick()
	}
	if m.now-m.published >= publishEvery {
		m.published = m.now
		m.publish()
	}
}

// Done implements shard.Machine.
func (m *group) Done(p proposal, o shard.Outcome, r result) {
	switch p.purpose {
	case forStore:
		m.answerStore(&p, o, &r)
	case forAck:
		m.ackDone(&p, o, r)
	case forReceipt:
		m.receiptDone(&p, o, r)
	case forLocalReceipt:
		m.localReceiptDone(&p, o, r)
	case forConfirm:
		m.count.receiptsDone.Add(float64(r.count))
	case forDrop:
		if o == shard.Committed {
			m.queueDropped(&p)
		}
	case forSent:
		m.sentDone(&p, o)
	case forSweep, forReceiptSweep:
		m.sweepDone(&p, o, r)
	}
}

// sayHello tells peers that this process leads the group; those without credit are told at a later turn.
func (m *group) sayHello() {
	if len(m.greet) == 0 {
		return
	}
	left := m.greet[:0]
	for _, s := range m.greet {
		m.env = link.Envelope{Kind: link.KindHello, Group: m.id, Term: m.term}
		if err := s.Send(&m.env); errors.Is(err, link.ErrNoCredit) {
			left = append(left, s)
		}
	}
	m.greet = left
}
