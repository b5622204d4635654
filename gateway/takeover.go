package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
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
	Worker      uint16 // number on links, 0 without a supervisor
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
	mine := handoverHello{
		version: recordVersion, node: o.Node, worker: uint64(o.Worker), shards: uint64(o.Shards), cluster: o.Cluster,
		sessions: uint64(sessionCap(o.MaxSessions)),
	}
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

// Incarnation is the one that the process which takes over must have. The old process gives out each once.
func (t *Takeover) Incarnation() uint64 { return t.old.incarnation }

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
	_ = t.Close() // so that it does at once
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
	// Its sockets go a moment before it does, and it is no child of this one: nobody tells of its end, it can only be looked for.
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
