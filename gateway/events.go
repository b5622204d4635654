package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// events is what gnet calls. OnOpen, OnTraffic and OnClose run on the connection's loop, OnBoot before the loops exist, OnTick on one
// goroutine of its own: it must never touch a session.
//
// A connection's context says what it is: *handshake until message 3, then *session (a pointer into the slab, invisible to the
// collector), nil for one that was refused at once, probe for our own, *arrival for one that comes from another process.
type events struct {
	gnet.BuiltinEventEngine
	g      *Gateway
	engine gnet.Engine
	once   sync.Once
	fars   []int // other ends of the probes; the ticker's, then of whoever waited for the engine's end
}

// probe marks a loop's own connection. gnet shows a loop only through a connection of it, and this one is how the loop comes back to itself.
type probe struct{ far int }

func (e *events) OnBoot(engine gnet.Engine) gnet.Action {
	e.engine, e.g.engine = engine, engine
	return gnet.None
}

func (e *events) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	g := e.g
	l, err := g.attach(c.EventLoop())
	if p, ok := c.Context().(probe); ok {
		if err != nil {
			g.fail(err)
			return nil, gnet.Close
		}
		l.far = p.far
		return nil, gnet.None
	}
	if err != nil {
		return nil, gnet.Close
	}
	if a, ok := c.Context().(*arrival); ok {
		return nil, l.arrive(a, c)
	}
	if reason, wait := l.unwelcome(); reason != 0 {
		g.refused(reason, 0, 0)
		return wire.AppendRefused(nil, reason, time.Duration(wait)*time.Millisecond), gnet.Close
	}
	g.open.Add(1)
	g.metrics.connections.Inc()
	from := remoteOf(c)
	l.look()
	h := &handshake{conn: c, source: sourceOf(from), opened: l.tick}
	if g.forwards(from) {
		h.stage, h.check = stageProxy, true
	}
	l.early.add(h)
	c.SetContext(h)
	return nil, gnet.None
}

// unwelcome returns why no new connection can be taken, 0 when it can, and the retry-after in milliseconds.
func (l *loop) unwelcome() (stanza.Reason, uint32) {
	g := l.g
	switch {
	case g.draining.Load():
		reason, wait := g.parting()
		return reason, jitter(wait)
	case g.open.Load() >= int64(g.maxSessions):
		return stanza.ReasonWorkerFull, 0
	case l.steps.full():
		return stanza.ReasonOverload, jitter(g.cfg.RetryAfter.D())
	}
	return 0, 0
}

func (e *events) OnTraffic(c gnet.Conn) gnet.Action {
	switch x := c.Context().(type) {
	case *session:
		l := e.g.loops[x.self>>slotBits]
		l.look()
		action := l.onSession(x, c)
		switch {
		case e.g.endpoint.Unflushed():
			l.wake() // one task writes for all connections of this pass, and hands over what they sent
		case l.dirty > 0:
			l.answer()
		}
		return action
	case *handshake:
		l, err := e.g.attach(c.EventLoop())
		if err != nil {
			return gnet.Close
		}
		l.look()
		action := l.onHandshake(x, c)
		if action == gnet.None {
			l.doSteps()
		}
		if l.dirty > 0 || e.g.endpoint.Unflushed() {
			l.wake()
		}
		return action
	case probe:
		_, _ = c.Discard(-1)
		if l, err := e.g.attach(c.EventLoop()); err == nil {
			l.returning = false
			l.turn()
		}
		return gnet.None
	}
	return gnet.Close
}

func (e *events) OnClose(c gnet.Conn, _ error) gnet.Action {
	g := e.g
	switch x := c.Context().(type) {
	case *session:
		l := g.loops[x.self>>slotBits]
		if l.connClosed(x); g.endpoint.Unflushed() {
			l.wake()
		}
	case *handshake:
		if l, err := g.attach(c.EventLoop()); err == nil {
			l.handshakeClosed(x)
		}
	default:
		return gnet.None
	}
	c.SetContext(nil)
	g.open.Add(-1)
	g.metrics.connections.Dec()
	return gnet.None
}

// OnTick asks every loop for a turn, ten times a second, or twice when all of them are calm. Its first call comes when all loops run.
func (e *events) OnTick() (time.Duration, gnet.Action) {
	e.once.Do(func() {
		if err := e.findLoops(); err != nil {
			e.g.fail(fmt.Errorf("finding the event loops: %w", err))
			return
		}
		e.g.listening()
	})
	now, next := e.g.clock().UnixNano(), calmTick
	for _, l := range e.g.loops {
		if !l.calm.Load() {
			next = tickLength
		}
		l.asked.CompareAndSwap(0, now)
		l.wake()
	}
	return next, gnet.None
}

// findLoops registers one connection of our own with each loop, in gnet's round, and has OnOpen see the loop.
func (e *events) findLoops() error {
	for range e.g.loops {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socketpair", err)
		}
		e.fars = append(e.fars, pair[1])
		if err := e.registerProbe(pair[0], pair[1]); err != nil {
			return err
		}
	}
	if n := e.g.attached.Load(); int(n) != len(e.g.loops) {
		return fmt.Errorf("saw %d of %d", n, len(e.g.loops))
	}
	return nil
}

// ended closes the probes' other ends. The engine has ended.
func (e *events) ended() { closeAll(e.fars) }

func (e *events) registerProbe(fd, far int) error {
	f := os.NewFile(uintptr(fd), "probe")
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return err
	}
	ctx := gnet.NewNetConnContext(gnet.NewContext(context.Background(), probe{far}), c)
	result, err := e.engine.Register(ctx)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	return (<-result).Err
}
