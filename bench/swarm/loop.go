package swarm

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"linecard.example/internal/slab"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

const (
	tick     = 250 * time.Millisecond // of the wheel: idle engines wake four times a second
	horizon  = 4096                   // ticks: 17 minutes, beyond the longest ping interval
	readSize = 64 << 10
)

// loop owns everything of an Engine's sessions. Its goroutine only.
type loop struct {
	// constant
	cfg      Config
	names    names
	root     ed25519.PublicKey
	cluster  string
	servers  []unix.Sockaddr
	sources  []unix.Sockaddr
	crowd    *wire.Crowd // the ephemeral key of all XX handshakes
	start    time.Time
	clock    int64 // CLOCK_MONOTONIC at start: engines of one machine share it
	interval uint32
	wake     int             // the pipe's reading end
	mail     func() []func() // what was posted since it was last called

	// sessions
	poll    *poller
	slots   *slab.Slab[session]
	wheel   *slab.Wheel
	ticks   int64    // that the wheel was advanced by
	owner   []uint32 // descriptor -> 1 + session; 0: not a session's
	tickets *tickets // nil: not kept

	// what only some sessions have, while they need it
	hellos  map[uint32]*hello // under way, not bound
	partial map[uint32][]byte // of an unfinished frame
	unsent  map[uint32][]byte // sealed, and the socket has no room

	queue   fifo    // sessions that want to connect
	late    []later // acks that wait for company, in the order of their time
	dirty   []uint32
	scanned int64 // when deadlines were last looked at

	// orders
	watch    *watch
	traffic  *traffic // under way, or the last one; nil: none yet
	pings    *pinging
	arrivals Arrivals

	// scratch
	in, plain, out []byte
	cipher, body   []byte
	sealer         *wire.Sealer
	current        uint32 // the session whose frame is being decoded
	each           func(stanza.View) error
	known          []byte // the certificate that was verified, behind the static key that it is for

	count   Counters
	base    uint64 // PSS before the first session
	closing bool
}

func newLoop(cfg Config, wake int) (*loop, error) {
	cluster, root, err := wire.ParseRootLine(cfg.Root)
	if err != nil {
		return nil, err
	}
	slots, err := slab.New[session](uint32(cfg.Sessions))
	if err != nil {
		return nil, err
	}
	crowd, err := wire.NewCrowd(nil)
	if err != nil {
		return nil, err
	}
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &loop{
		cfg: cfg, names: newNames(&cfg), root: root, cluster: cluster, wake: wake, poll: poll, slots: slots, crowd: crowd,
		start: time.Now(), interval: uint32(cfg.Ping / time.Second), wheel: slab.NewWheel(tick, horizon),
		hellos: map[uint32]*hello{}, partial: map[uint32][]byte{}, unsent: map[uint32][]byte{},
		in: make([]byte, readSize), sealer: wire.NewSealer(),
		count: Counters{Lost: map[string]uint64{}, Failed: map[string]uint64{}},
	}
	l.clock = monotonic()
	l.each = l.stanza
	l.base = pss()
	for _, s := range cfg.Servers {
		l.servers = append(l.servers, sockaddr(s))
	}
	l.sources = localAddrs(cfg.Sources)
	if cfg.Tickets {
		if l.tickets, err = newTickets(cfg.Sessions); err != nil {
			return nil, errors.Join(err, poll.close())
		}
	}
	if err := poll.add(wake, true, false); err != nil {
		return nil, errors.Join(err, poll.close())
	}
	return l, nil
}

// now is the engine's clock in nanoseconds.
func (l *loop) now() int64 { return int64(time.Since(l.start)) }

// shared is now by the clock that all engines of this machine have.
func (l *loop) shared() int64 { return l.clock + l.now() }

// run is the loop, until closing is set or the poller fails.
func (l *loop) run() error {
	runtime.LockOSThread() // a thread that sleeps in the kernel is woken for less than a goroutine that is handed over
	defer runtime.UnlockOSThread()
	defer l.shut()
	for !l.closing {
		if err := l.poll.wait(l.pause(), l.event); err != nil {
			return err
		}
		l.advance()
		for _, f := range l.mail() {
			f()
		}
		l.feed()
		l.feedPings()
		l.connectQueued()
		l.pace()
		l.ackLate()
		l.flush()
	}
	return nil
}

func (l *loop) shut() {
	for n := range l.slotCount() {
		if s := l.slots.At(n); s.connected() {
			unix.Close(int(s.fd))
		}
	}
	_ = l.poll.close()
	_ = l.slots.Close()
	_ = l.wheel.Close()
	_ = l.tickets.close()
	unix.Close(l.wake)
}

// slotCount is the number of sessions that were ever opened: slots are given out in order and never released.
func (l *loop) slotCount() uint32 { return uint32(l.slots.Len()) }

// pause is how long the loop may sleep.
func (l *loop) pause() time.Duration {
	if len(l.dirty) > 0 {
		return 0
	}
	now := l.now()
	at := int64(math.MaxInt64)
	if l.wheel.Len() > 0 || len(l.hellos) > 0 || l.traffic != nil && !l.traffic.over {
		at = (l.ticks + 1) * int64(tick)
	}
	if len(l.late) > 0 {
		at = min(at, l.late[0].at)
	}
	at = min(at, l.nextFeed(now), l.nextPace(now), l.nextPings(now))
	switch {
	case at == math.MaxInt64:
		return -1
	case at <= now:
		return 0
	}
	return time.Duration(at - now)
}

// advance moves the wheel to the present and, once a second, looks for attempts that take too long.
func (l *loop) advance() {
	now := l.now()
	if ticks := now / int64(tick); ticks > l.ticks {
		step := ticks - l.ticks
		l.ticks = ticks
		l.wheel.Advance(int(step), l.due)
		l.watchTraffic(now)
	}
	if now-l.scanned >= int64(time.Second) {
		l.scanned = now
		l.expireHellos(now)
	}
}

// arm makes due be called for the session after d, unless its gen has changed by then.
func (l *loop) arm(n uint32, s *session, d time.Duration) {
	l.wheel.Arm(n, s.gen, l.wheel.Ticks(d))
}

// due is what the wheel calls.
func (l *loop) due(n, gen uint32) {
	s := l.slots.At(n)
	if s.gen != gen {
		return
	}
	switch s.phase {
	case waiting:
		l.enqueue(n, s)
	case bound:
		l.pingOrGiveUp(n, s)
	}
}

// event handles one ready descriptor. Events of a descriptor that was closed and used again in the same batch do no harm: everything
// tries and finds nothing.
func (l *loop) event(r ready) {
	if r.fd == l.wake {
		for {
			if k, _ := unix.Read(l.wake, l.in); k < len(l.in) {
				return
			}
		}
	}
	if r.fd >= len(l.owner) || l.owner[r.fd] == 0 {
		return
	}
	n := l.owner[r.fd] - 1
	s := l.slots.At(n)
	if s.phase == connecting {
		if r.out || r.hangup {
			l.connected(n, s)
		}
		return
	}
	gen := s.gen
	if r.out {
		l.drain(n, s)
	}
	switch {
	case s.gen != gen:
	case s.has(deaf):
		if r.hangup {
			l.ended(n, s, lostNetwork("reset"))
		}
	case r.in:
		l.read(n, s)
	}
}

func (l *loop) own(fd int, n uint32) {
	for fd >= len(l.owner) {
		l.owner = append(l.owner, make([]uint32, 1024)...)
	}
	l.owner[fd] = n + 1
}

// jitter is uniform in [0, 1).
func (l *loop) jitter() float64 { return rand.Float64() }

// markDirty has speak called for the session before the loop sleeps.
func (l *loop) markDirty(n uint32, s *session) {
	if !s.has(listed) {
		s.set(listed)
		l.dirty = append(l.dirty, n)
	}
}

// check says whether the sessions of r can be of this engine.
func (l *loop) check(r Range) error {
	if r.From < 0 || r.Count < 0 || r.Step < 0 || r.From+r.Count > l.cfg.Sessions {
		return fmt.Errorf("swarm: sessions %d to %d: there are %d", r.From, r.From+r.Count-1, l.cfg.Sessions)
	}
	return nil
}

// slotsOf gives the sessions of r that were ever opened.
func (l *loop) slotsOf(r Range) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for n := r.From; n < min(r.From+r.Count, l.slots.Len()); n += max(1, r.Step) {
			if !yield(uint32(n)) {
				return
			}
		}
	}
}

// fifo is a queue of sessions. Its memory goes when it is empty.
type fifo struct {
	list []uint32
	head int
}

func (f *fifo) push(n uint32) { f.list = append(f.list, n) }
func (f *fifo) len() int      { return len(f.list) - f.head }

func (f *fifo) pop() uint32 {
	n := f.list[f.head]
	if f.head++; f.head == len(f.list) {
		*f = fifo{}
	}
	return n
}
