package gateway

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/link"
	"linecard.example/internal/slab"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

const (
	peerChunk    = 2048 // sessions per chunk of the side table
	busyInterval = 5    // seconds between two looks at a session with something unanswered
	checkEvery   = 60   // seconds between two looks at any session, at most
	checkSpread  = 16   // and up to so many less
)

// peers is a chunk of the side table of a slab: what a session needs that is a pointer, or lives for one turn only.
type peers struct {
	conns [peerChunk]gnet.Conn
	boxes [peerChunk]uint16 // 1 + index of the session's outbox in this turn, 0: none
}

// executor is the part of gnet.EventLoop that a loop uses.
type executor interface {
	Execute(ctx context.Context, r gnet.Runnable) error
	Close(c gnet.Conn) error
}

// loop is the state of one event loop.
type loop struct {
	g   *Gateway
	idx uint32

	// Owner: the event loop.
	slots     *slab.Slab[session]
	side      []*peers
	sealer    *wire.Sealer
	plain     []byte // of the frame being read
	scratch   []byte // of one small stanza
	packed    []byte // numbers of an ack
	ack       []byte // one ack
	ticket    []byte // one ticket
	out       []byte // sealed frames of the session being written
	env       link.Envelope
	cur       *session // whose frame is being read
	onStanza  func(stanza.View) error
	ackDue    bool // cur acknowledged deliveries in what was read
	boxes     []outbox
	dirty     int // boxes in use
	idle      *slab.Wheel
	busy      *slab.Wheel
	onIdle    func(slot, gen uint32)
	onBusy    func(slot, gen uint32)
	tick      uint64 // of tickLength since the gateway's start
	done      uint64 // tick up to which everything that is due was done
	early     handshakeList
	partials  partials
	backlog   backlog
	steps     handshakeSteps
	far       int  // the other end of the loop's own connection, -1: not there yet
	returning bool // a byte is on its way there
	contacts  contacts
	claims    map[uint32]*claim // registrations that wait for their invite, by slot
	sweeps    []*sweep
	unsent    []*rebindRun // done, but there was no credit to say so
	moved     []slotUse    // came from another process, and no router knows yet for want of credit
	expected  expectation
	turns     uint64

	led   uint64 // tick of the last coming of a leader
	looks int    // how many secondLooks were made since
	owes  bool   // a session got flagOwed since the last sweep for it began

	unanswered, told int // messages of all sessions; as the gauge has it

	// Any goroutine.
	el        atomic.Pointer[executor]
	inbox     *link.Inbox
	mu        sync.Mutex
	notices   []notice // under mu
	spare     []notice // owner: the event loop
	scheduled atomic.Bool
	asked     atomic.Int64 // when the ticker asked for a turn, unix nanoseconds; 0: it got it
	turned    atomic.Int64 // last turn, unix nanoseconds
	calm      atomic.Bool  // written by the loop: nothing here is watched more closely than the wheels do
}

func newLoop(g *Gateway, idx int) (*loop, error) {
	slots, err := slab.New[session](uint32(min(g.maxSessions, slotMask)))
	if err != nil {
		return nil, err
	}
	l := &loop{
		g: g, idx: uint32(idx), slots: slots, sealer: wire.NewSealer(),
		scratch: make([]byte, 0, 256),
		idle:    slab.NewWheel(time.Second, 2*checkEvery), busy: slab.NewWheel(time.Second, 64),
		claims: map[uint32]*claim{}, far: -1, looks: len(secondLooks),
	}
	l.inbox = link.NewInbox(l.wake)
	l.onStanza, l.onIdle, l.onBusy = l.dispatch, l.checkIdle, l.checkBusy
	l.steps.limit = max(g.cfg.HandshakeQueue/g.cfg.loops(runtime.NumCPU()), 1)
	l.partials.init()
	l.early.init()
	l.turned.Store(g.start.UnixNano())
	return l, nil
}

// turnOf is a loop's turn as gnet wants it; the conversion costs nothing.
type turnOf loop

func (t *turnOf) Run(context.Context) error {
	(*loop)(t).turn()
	return nil
}

// wake asks for a turn. Safe for concurrent use.
func (l *loop) wake() {
	if !l.scheduled.CompareAndSwap(false, true) {
		return
	}
	el := l.el.Load()
	if el == nil || (*el).Execute(context.Background(), (*turnOf)(l)) != nil {
		l.scheduled.Store(false) // not started yet, or stopped: the ticker asks again, or nobody will
	}
}

// turn does everything that was posted to the loop, what is due by now, and writes what came together.
func (l *loop) turn() {
	l.scheduled.Store(false)
	l.turns++
	now := l.g.clock()
	l.turned.Store(now.UnixNano())
	if asked := l.asked.Swap(0); asked != 0 {
		l.g.metrics.lag[l.idx].Observe(float64(now.UnixNano()-asked) / 1e9)
	}
	l.advance(now)
	l.drainNotices()
	l.drainInbox()
	l.steps.left = turnSteps
	l.doSteps()
	l.sweepPage()
	l.flush()
	l.g.endpoint.Flush()
	l.calm.Store(l.isCalm())
}

// isCalm reports whether the ticker may come less often: no connection that is not a session yet, no unfinished frame, no slow session, nothing
// owed to a router. An empty process among a hundred on few cores costs what its ticks cost.
func (l *loop) isCalm() bool {
	return l.early.empty() && l.partials.empty() && len(l.backlog.slow) == 0 && len(l.sweeps) == 0 && len(l.unsent) == 0 && len(l.moved) == 0 &&
		l.unanswered == l.told && (!l.owes || l.looks == len(secondLooks))
}

// look moves the coarse clock for an event that comes between the rare ticks of a calm loop.
func (l *loop) look() {
	if l.calm.Load() {
		l.tick = max(l.tick, l.g.tickNow())
	}
}

// advance moves the coarse clock to now and does what is due.
func (l *loop) advance(now time.Time) {
	tick := uint64(max(now.Sub(l.g.start), 0) / tickLength)
	l.tick = max(l.tick, tick)
	if tick <= l.done {
		return
	}
	seconds := int(tick/ticksPerSecond - l.done/ticksPerSecond)
	l.done = tick
	l.early.expire(l)
	l.partials.expire(l)
	for _, s := range l.sweeps {
		s.blocked = false
	}
	l.lookAgain()
	l.rebindOwed()
	l.retryRebindDone()
	l.tellUnanswered()
	l.sumBacklog()
	if seconds > 0 {
		l.contacts.age(l.sec())
		l.idle.Advance(seconds, l.onIdle)
		l.busy.Advance(seconds, l.onBusy)
	}
}

// sec is the coarse clock in seconds; sessions keep its low bits.
func (l *loop) sec() uint32   { return uint32(l.tick / ticksPerSecond) }
func (l *loop) sec16() uint16 { return uint16(l.sec()) }
func (l *loop) sec8() uint8   { return uint8(l.sec()) }

// conn returns the connection of a live slot.
func (l *loop) conn(slot uint32) gnet.Conn { return l.side[slot/peerChunk].conns[slot%peerChunk] }

func (l *loop) setConn(slot uint32, c gnet.Conn) {
	for len(l.side) <= int(slot/peerChunk) {
		l.side = append(l.side, new(peers))
	}
	l.side[slot/peerChunk].conns[slot%peerChunk] = c
}

// live returns the session that an envelope names, nil when it is gone or going.
func (l *loop) live(slot, gen uint32) *session {
	if slot>>slotBits != l.idx {
		return nil
	}
	s := l.slots.Get(slot&slotMask, gen)
	if s == nil || s.state == stateClosing {
		return nil
	}
	return s
}

// closeConn closes a connection of this loop at once; gnet calls OnClose before it returns.
func (l *loop) closeConn(c gnet.Conn) {
	if el := l.el.Load(); el != nil {
		if err := (*el).Close(c); err != nil {
			l.g.log.Debug("close", slog.Any("err", err))
		}
	}
}

// jitter spreads d to half up to one and a half, in milliseconds.
func jitter(d time.Duration) uint32 {
	ms := uint64(d / time.Millisecond)
	return uint32(ms/2 + rand.Uint64N(ms+1))
}
