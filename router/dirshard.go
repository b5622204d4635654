package router

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// proposer is what the shard needs of its raft group: shard.Group.
type proposer interface {
	Propose(cmd []byte, p *pending) bool
	ProposeLazy(cmd []byte, p *pending) bool
	Stamp() int64
	Verify(f func(ok bool))
	StorageFull() bool
	Wake()
}

// dirShard is everything of one dir/N group. Its methods run on the group's shard goroutine; events and inbox are what other
// goroutines reach it by.
type dirShard struct {
	// Set once.
	id      stanza.Group // dir/N
	queue   stanza.Group // queue/N
	name    string
	shards  int
	region  stanza.Region
	regions uint64 // that there is a link to, by the configuration: a bit each
	cfg     Config
	log     *slog.Logger
	metrics *groupMetrics
	events  *streamEvents
	board   *link.Board // of the process; nil: it runs alone
	inbox   *link.Inbox
	endTurn func() // link.Endpoint.Flush
	started time.Time

	// Shard goroutine, as long as the process lives.
	group      proposer // nil until start
	overlay    *shard.Overlay
	directory  *directory
	peers      map[sender]*peer
	gateways   *gatewaySet
	borders    []*border
	route      route
	now        time.Time     // of the last tick
	clock      time.Duration // of now, since started: for the limits
	retryAfter uint32        // ms
	out        link.Envelope
	cmd        []byte
	stanza     []byte
	keys       []stanza.DeviceKey
	devices    []byte
	shown      *roster.Roster // what the board was offered

	// Shard goroutine, of the current leadership.
	leading    bool
	term       uint64
	leadAt     time.Time
	serials    uint64 // serials issued in this term
	bindings   *bindingTable
	attaches   attachments
	closes     []owedClose
	strangers  *bucketTable
	lookups    *bucketTable // by asker
	lookedUp   *bucketTable // by account asked for
	contacts   *contactTable
	waiting    int
	verifying  []*pending
	drops      dropList
	nextExpire time.Time
	rotating   bool // a ticket key is being made
	learning   bool // a roster is being taken over
}

var _ shard.Machine[*pending, result] = (*dirShard)(nil)

func newDirShard(cfg Config, number, shards int, cluster string, now time.Time, log *slog.Logger, metrics *routerMetrics) *dirShard {
	id := stanza.DirGroup(number)
	gateways := &gatewaySet{byID: map[link.GatewayID]*gateway{}}
	return &dirShard{
		id: id, queue: stanza.QueueGroup(number), name: id.String(), shards: shards, cfg: cfg, log: log,
		metrics: metrics.group(id.String()), events: &streamEvents{}, started: now, now: now,
		directory: &directory{shard: number, shards: shards, cluster: cluster},
		peers:     map[sender]*peer{}, gateways: gateways,
		retryAfter: uint32(cfg.RetryAfter.D().Milliseconds()),
		bindings:   newBindingTable(gateways),
	}
}

// start hands the group over, once, when it is open. A leadership that began before is taken up now.
func (m *dirShard) start(g proposer, inbox *link.Inbox, endTurn func()) {
	m.group, m.inbox, m.endTurn = g, inbox, endTurn
	if m.leading {
		m.takeOver()
	}
}

// Load opens the directory on the group's tables.
func (m *dirShard) Load(t shard.Tables, _ uint64) error {
	m.overlay = shard.NewOverlay(t, m.cfg.RecordCache.Int())
	m.directory.records = m.overlay
	return m.directory.load()
}

// Apply folds one entry into the directory.
func (m *dirShard) Apply(e shard.Entry) result {
	return m.directory.apply(e)
}

// Flush writes the records changed since the last flush.
func (m *dirShard) Flush(b *shard.Batch) error {
	m.overlay.FlushTo(b)
	return nil
}

// Dirty returns how much Flush would write.
func (m *dirShard) Dirty() int { return m.overlay.Size() }

// Hash hashes all records. It is 0 when they cannot be read, and the group stops then.
func (m *dirShard) Hash() uint64 {
	h, err := m.directory.hash()
	if err != nil {
		m.directory.fail(err)
		return 0
	}
	return h
}

// Lead starts a leadership with nothing bound: the gateways that hear the hello send what they have.
func (m *dirShard) Lead(term uint64) {
	m.leading, m.term = true, term
	if m.group != nil {
		m.takeOver()
	}
}

func (m *dirShard) takeOver() {
	m.leadAt, m.serials, m.rotating, m.learning = m.now, 0, false, false
	c := &m.cfg
	m.strangers = newBucketTable(c.LimitEntries, c.StrangerBurst, c.StrangerRate, rand.Uint64())
	m.lookups = newBucketTable(c.LimitEntries, c.LookupBurst, c.LookupRate, rand.Uint64())
	m.lookedUp = newBucketTable(c.LimitEntries, c.LookedUpBurst, c.LookedUpRate, rand.Uint64())
	m.contacts = newContactTable(c.ContactEntries, rand.Uint64())
	m.drops = dropList{due: map[deviceKey]drop{}, more: true}
	m.proposeFacts()
	for _, gw := range m.gateways.byID {
		gw.done = false
	}
	for _, p := range m.peers {
		m.hello(p)
		m.tellKeys(p)
	}
	m.tickTickets()
	if m.route.to != nil {
		m.resendAttachments()
	}
	m.log.Debug("leading", "group", m.name, "term", m.term, "accounts", m.directory.accounts)
}

// proposeFacts makes sure that the log starts with the cluster it belongs to. Every group keeps them, not dir/0 alone: account
// numbers depend on the shard count, and a process may host any part of the groups.
func (m *dirShard) proposeFacts() {
	if !m.directory.factsKnown {
		m.cmd = (&command{op: opFacts, shards: m.shards, text: []byte(m.directory.cluster), region: m.directory.region}).append(m.cmd[:0])
		m.group.Propose(m.cmd, nil)
	}
}

// Follow ends the leadership: what was soft is forgotten, what is pending hears of it from the shard.
func (m *dirShard) Follow() {
	m.leading = false
	m.bindings.clear()
	m.attaches = attachments{}
	m.closes = nil
	m.strangers, m.lookups, m.lookedUp, m.contacts = nil, nil, nil, nil
	m.drops = dropList{}
	for _, gw := range m.gateways.byID {
		if gw.to == nil {
			m.gateways.forget(gw)
		}
	}
	m.countBindings()
	m.log.Debug("following", "group", m.name, "term", m.term)
}

// Turn handles what has come in. Streams that came up are taken in before the envelopes, since an envelope's stream may be among
// them; ends that were known before the inbox was drained are handled after it, since all that came before them is in it.
func (m *dirShard) Turn() {
	if m.group == nil {
		return
	}
	downs := m.events.takeDowns()
	items := m.inbox.Drain()
	for _, u := range m.events.takeUps() {
		m.up(u.to, u.info)
	}
	for i := range items {
		if items[i].From != nil {
			m.receive(items[i].From, &items[i].Env)
		}
	}
	m.inbox.Done(items)
	for _, s := range downs {
		m.down(s)
	}
	m.finishTurn()
}

// EndTurn hands over what the turn sent.
func (m *dirShard) EndTurn() {
	if m.endTurn != nil {
		m.endTurn()
	}
}

func (m *dirShard) finishTurn() {
	m.startVerify()
	m.showRoster()
	if m.leading {
		m.pushAttachments()
	}
}

// Tick moves the clock and does what is due.
func (m *dirShard) Tick(now time.Time) {
	m.now, m.clock = now, now.Sub(m.started)
	if m.group == nil {
		return
	}
	m.metrics.accounts.Set(float64(m.directory.accounts))
	m.attaches.paused = false
	if !m.leading {
		return
	}
	m.expireGateways()
	m.sendOwedHellos()
	m.tellOwedKeys()
	m.tickTickets()
	m.tickRoster()
	m.sendOwedCloses()
	m.tickDrops()
	m.tickInvites()
}

// errGroup wraps an error with the group it happened in.
func (m *dirShard) errGroup(op string, err error) error {
	return fmt.Errorf("router: %s %s: %w", op, m.name, err)
}
