package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/link"
)

// Takeover is a running gateway that this process is to replace. DialTakeover makes it, Deps takes it.
type Takeover struct {
	conn handoverConn
	old  handoverHello
	pid  int           // of the old process, 0: not known
	gone chan struct{} // closed when the old process has ended
}

// TakeoverOptions say who asks for the sessions.
type TakeoverOptions struct {
	Socket      string // of the running gateway
	Node        uint64
	Shards      int
	Cluster     string
	MaxSessions int // as configured
}

// DialTakeover finds the running gateway and tells it who comes. Nothing has changed there when it returns, nor on an error.
func DialTakeover(o TakeoverOptions) (*Takeover, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: o.Socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("no gateway to upgrade: %w", err)
	}
	t := &Takeover{conn: handoverConn{conn}, gone: make(chan struct{})}
	if err := t.introduce(&o); err != nil {
		return nil, errors.Join(fmt.Errorf("upgrade: %w", err), conn.Close())
	}
	return t, nil
}

func (t *Takeover) introduce(o *TakeoverOptions) error {
	if err := samePeer(t.conn.UnixConn); err != nil {
		return err
	}
	t.pid = peerPID(t.conn.UnixConn)
	mine := handoverHello{version: recordVersion, node: o.Node, shards: uint64(o.Shards), cluster: o.Cluster, sessions: uint64(sessionCap(o.MaxSessions))}
	if err := t.conn.send(msgHello, mine.append(nil)); err != nil {
		return err
	}
	body, err := t.conn.want(msgHello, handoverWait)
	if err != nil {
		return err
	}
	if t.old, err = parseHello(body); err != nil {
		return err
	}
	if t.old.version != recordVersion {
		return fmt.Errorf("the running gateway hands over in version %d, this binary knows %d: stop the one and start the other", t.old.version, recordVersion)
	}
	return nil
}

// Incarnation is the one that the process which takes over must have.
func (t *Takeover) Incarnation() uint64 {
	return link.GatewayID{Node: t.old.node, Incarnation: t.old.incarnation}.Successor().Incarnation
}

// Gone is closed when the old process has ended.
func (t *Takeover) Gone() <-chan struct{} { return t.gone }

// Close tells the old process that nobody comes. Safe after everything else.
func (t *Takeover) Close() error { return t.conn.Close() }

// prepareTakeover waits until the running gateway's sessions can come, or, where they cannot, until that one has let go of them.
func (g *Gateway) prepareTakeover(ctx context.Context) error {
	t := g.deps.Takeover
	switch {
	case t == nil:
		return nil
	case CanHandOver:
		g.taking.Store(true)
		return g.awaitLeaders(ctx)
	}
	g.log.Info("sessions cannot be handed over on this system: the running gateway drains them, and they resume here")
	if err := t.conn.send(msgLeave, nil); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	go t.awaitEnd()
	select {
	case <-t.gone:
	case <-ctx.Done():
	}
	return nil
}

// endHandover lets the other process of a hand-over know that this one has ended.
func (g *Gateway) endHandover() {
	if g.deps.Takeover != nil {
		_ = g.deps.Takeover.Close()
	}
	select {
	case <-g.handedOver:
		_ = g.departed.Close()
	default:
	}
}

// awaitLeaders waits until sessions that come find all their peers: links are up, and leaders have said hello.
func (g *Gateway) awaitLeaders(ctx context.Context) error {
	deadline := g.clock().Add(takeLimit / 2)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		group, missing := g.leaderless()
		switch {
		case !missing:
			return nil
		case g.clock().After(deadline):
			return fmt.Errorf("upgrade: no leader known for %v; the running gateway goes on", group)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
}

// take moves the sessions of the old process here. An error means that it goes on, and that this process must not.
func (g *Gateway) take(t *Takeover) error {
	err := t.conn.send(msgTake, nil)
	for err == nil {
		var kind byte
		var body []byte
		var fds []int
		kind, body, fds, err = t.conn.receive(takeLimit)
		switch {
		case err == nil && kind == msgSessions:
			err = g.takePage(t, body, fds)
			continue
		case err == nil && kind == msgEnd:
			g.log.Info("took over", "sessions", g.open.Load())
			go t.awaitEnd()
			return nil
		case err == nil:
			err = &refusedError{string(body)}
		}
		closeAll(fds)
	}
	if t.died(err) {
		// Its other sessions are lost, as with any process that dies, and these have nowhere else to be.
		g.log.Warn("the old process died during the hand-over", "err", err, "sessions", g.open.Load())
		close(t.gone)
		return nil
	}
	return fmt.Errorf("upgrade: %w; the running gateway goes on", err)
}

// takePage takes one page. Until the old process has said that they are ours, nothing of these sessions is touched.
func (g *Gateway) takePage(t *Takeover, records []byte, fds []int) error {
	defer clear(records)
	err := checkPage(records, len(fds))
	if err == nil {
		err = t.conn.send(msgHeld, nil)
	}
	if err == nil {
		_, err = t.conn.want(msgYours, handoverWait)
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	if n := g.adopt(records, fds); n < len(fds) {
		g.log.Warn("sessions ended while they were handed over", "sessions", len(fds)-n)
	}
	g.metrics.takenOver.Add(float64(len(fds)))
	return nil
}

// checkPage reports whether all records of a page can be read, and are as many as its sockets.
func checkPage(records []byte, sockets int) error {
	var r record
	n := 0
	for len(records) > 0 {
		var err error
		if records, err = decodeRecord(records, &r); err != nil {
			return err
		}
		n++
	}
	if n != sockets {
		return fmt.Errorf("%w: %d with %d sockets", errRecord, n, sockets)
	}
	return nil
}

// died reports whether err came of the old process's end.
func (t *Takeover) died(err error) bool {
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return false
	}
	// Its sockets go a moment before it does.
	for end := time.Now().Add(deathLimit); t.pid > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if hasEnded(t.pid) {
			return true
		}
	}
	return false
}

// deathLimit is how long a process that has closed the connection without a word may take to be gone.
const deathLimit = 5 * time.Second

// awaitEnd waits for the end of the old process: it keeps the connection open until then.
func (t *Takeover) awaitEnd() {
	_ = t.conn.SetReadDeadline(time.Time{})
	_, _ = t.conn.Read(make([]byte, 1))
	close(t.gone)
	_ = t.conn.Close()
}

// arrival is a session on its way to a loop of this process.
type arrival struct {
	record
	landed bool
}

// adopt gives the sessions of a checked page a place in this process: each socket a loop, each record a slot. It takes the sockets, waits
// until all are in place, wipes the records, and returns how many there are: a client may have gone meanwhile.
func (g *Gateway) adopt(records []byte, fds []int) (landed int) {
	type landing struct {
		*arrival
		result <-chan gnet.RegisteredResult
	}
	var all []landing
	rest := records
	for _, fd := range fds {
		a := new(arrival)
		var err error
		if rest, err = decodeRecord(rest, &a.record); err != nil {
			closeAll([]int{fd})
			continue
		}
		if result, err := g.enrol(fd, a); err == nil {
			all = append(all, landing{a, result})
		} else {
			g.log.Debug("enrolling a session", "err", err)
		}
	}
	for _, l := range all {
		<-l.result
		if l.landed {
			landed++
		}
		l.record = record{}
	}
	clear(records)
	return landed
}

// enrol hands a socket to gnet, whose OnOpen finds a on it. It takes fd.
func (g *Gateway) enrol(fd int, a *arrival) (<-chan gnet.RegisteredResult, error) {
	f := os.NewFile(uintptr(fd), "session")
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, err
	}
	if c.RemoteAddr() == nil { // reset by the client
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	result, err := g.engine.Register(gnet.NewNetConnContext(gnet.NewContext(context.Background(), a), c))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return result, nil
}

// arrive makes a session of an arrival. Loop only.
func (l *loop) arrive(a *arrival, c gnet.Conn) gnet.Action {
	c.SetContext(nil)
	forgetSafeContext(c) // it is a
	slot, gen, s, ok := l.slots.Alloc()
	if !ok || putInbound(c, a.inbound) != nil {
		if ok {
			l.slots.Release(slot)
		}
		l.g.log.Warn("no place for a session that was handed over")
		return gnet.Close
	}
	l.fill(s, &a.record)
	s.self = l.idx<<slotBits | slot
	l.setConn(slot, c)
	c.SetContext(s)
	forgetAddresses(c)
	l.g.open.Add(1)
	l.g.metrics.connections.Inc()
	l.g.metrics.sessions.Inc()
	l.idle.Arm(slot, gen, 1+int(slot%checkEvery)) // all came at once: their looks are spread over the minute
	if s.unacked > 0 {
		l.armBusy(s)
	}
	if n := len(a.inbound); n > 0 {
		l.notePartial(s, n, true)
	}
	a.landed = true
	if len(a.outbound) > 0 {
		if _, err := c.Write(a.outbound); err != nil { // and the session has ended
			return gnet.None
		}
		l.written(s, c)
	}
	l.settleIn(s, gen, a.unanswered)
	return gnet.None
}

// settleIn says where the session is now: to the router, so that deliveries come here, and to the client if answers to its messages went
// where it is no more.
func (l *loop) settleIn(s *session, gen uint32, unanswered uint8) {
	if !l.rebindMoved(s, gen) {
		l.moved = append(l.moved, slotUse{s.slot(), gen})
	}
	if unanswered > 0 {
		l.scratch = appendRetryAll(l.scratch[:0])
		l.push(s, l.scratch)
	}
	l.wake()
}

// slotUse names a use of a slot of this loop.
type slotUse struct{ slot, gen uint32 }

// rebindOwed tells routers of moved sessions for which there was no credit before.
func (l *loop) rebindOwed() {
	owed := l.moved
	for len(owed) > 0 {
		if s := l.slots.Get(owed[0].slot, owed[0].gen); s != nil && s.state == stateBound && !l.rebindMoved(s, owed[0].gen) {
			break
		}
		owed = owed[1:]
	}
	if l.moved = owed; len(owed) == 0 {
		l.moved = nil
	}
}

// fill makes r's session in a fresh slot.
func (l *loop) fill(s *session, r *record) {
	s.rx, s.tx, s.rxNonce, s.txNonce = r.rx, r.tx, r.rxNonce, r.txNonce
	s.account, s.device, s.serial, s.epoch = r.account, uint16(r.device), r.serial, r.epoch
	s.base, s.written, s.unacked, s.noted = r.base, r.written, r.unacked, r.noted
	s.send, s.lookups, s.tokenTime = min(r.send, uint16(l.g.cfg.SendBurst)), min(r.lookups, uint8(l.g.cfg.LookupBurst)), uint16(l.tick)
	s.lastSeen, s.progress = l.sec16()-r.silent, l.sec8()-r.stuck
	s.setInterval(uint64(r.interval), l.g.cfg.DefaultPing.D())
	s.state = stateBound
	if r.warned {
		s.flags |= flagWarned
	}
}
