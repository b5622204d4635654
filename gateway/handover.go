package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"time"

	"linecard.example/internal/link"
)

// ErrHandedOver is what Run returns when another process has the gateway's sessions now.
var ErrHandedOver = errors.New("gateway: handed over to another process")

// A process that is to replace this one asks for the sessions on a unix socket. It comes with its links up; then it listens beside this
// one, takes the sessions a page at a time, and this one ends. Whatever fails on the way, this one goes on with what it has left: a page
// that the other one has not got the last word on is taken back, and connections are accepted again. What was moved stays moved; if the
// other process ends too, those sessions come back like those of any process that ended.

// takeLimit is how long a new process may take to be ready once it has said hello.
const takeLimit = 2 * time.Minute

// listenHandover makes the socket, in place of one that is there. Only processes of this user get to it.
func listenHandover(path string) (*net.UnixListener, error) {
	fresh := path + ".new"
	_ = os.Remove(fresh) // of a start that was killed
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false) // the path may be another process's by then
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// openHandover makes the socket on which newer processes ask, if there is to be one.
func (g *Gateway) openHandover(ctx context.Context) {
	path := g.deps.HandoverSocket
	if path == "" {
		return
	}
	ln, err := listenHandover(path)
	if err != nil {
		g.log.Warn("sessions cannot be handed over to another process", "err", err)
		return
	}
	go g.serveHandover(ctx, ln, path)
}

// serveHandover answers new processes until ctx ends or one of them has everything.
func (g *Gateway) serveHandover(ctx context.Context, ln *net.UnixListener, path string) {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer ln.Close()
	for {
		c, err := acceptNext(ctx, ln, g.log)
		if err != nil {
			_ = os.Remove(path)
			return
		}
		err = g.answerHandover(ctx, handoverConn{c})
		if err == nil {
			g.departed = c // open until the process has ended, which is how the other one learns of that
			close(g.handedOver)
			return
		}
		_ = c.Close()
		g.log.Warn("hand-over failed, going on", "err", err, "connections", g.open.Load())
	}
}

// acceptNext waits for a connection until ctx ends. Whatever else goes wrong, such as a system that is out of files, passes: without the
// socket there would be no upgrade any more.
func acceptNext(ctx context.Context, ln *net.UnixListener, log *slog.Logger) (*net.UnixConn, error) {
	for {
		c, err := ln.AcceptUnix()
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		log.Warn("accepting on the hand-over socket", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// answerHandover talks to one new process; nil: it has everything, or wants everybody to leave.
func (g *Gateway) answerHandover(ctx context.Context, c handoverConn) error {
	if err := samePeer(c.UnixConn); err != nil {
		return err
	}
	body, err := c.want(msgHello, handoverWait)
	if err != nil {
		return err
	}
	hello, err := parseHello(body)
	if err == nil {
		err = g.checkHello(&hello)
	}
	if err != nil {
		return errors.Join(err, c.send(msgRefused, []byte(err.Error())))
	}
	mine := g.introduction(uint16(hello.worker))
	if err := c.send(msgHello, mine.append(nil)); err != nil {
		return err
	}
	kind, body, fds, err := c.receive(takeLimit)
	closeAll(fds)
	switch {
	case err != nil:
		return fmt.Errorf("the new process did not get ready: %w", err)
	case kind == msgTake:
		return g.give(ctx, c, int64(hello.sessions))
	case kind == msgLeave:
		return nil
	}
	return fmt.Errorf("message %d: %s", kind, body)
}

// introduction is what the next new process is told, whose number on links is worker.
func (g *Gateway) introduction(worker uint16) handoverHello {
	g.heirs++
	id := link.GatewayID{Node: g.deps.Node, Incarnation: g.deps.Incarnation}.Successor(g.heirs, worker)
	h := handoverHello{
		version: recordVersion, node: id.Node, incarnation: id.Incarnation, shards: uint64(g.shards), cluster: g.deps.Cluster,
		sessions: uint64(max(g.open.Load(), 0)),
	}
	if a := g.addr.Load(); a != nil {
		h.port = uint64(a.Port)
	}
	return h
}

// checkHello says whether the other process may have this one's sessions.
func (g *Gateway) checkHello(h *handoverHello) error {
	switch {
	case h.node != g.deps.Node:
		return errors.New("it runs on another data directory")
	case h.cluster != g.deps.Cluster || h.shards != uint64(g.shards):
		return fmt.Errorf("it is of cluster %q with %d shards, this one of %q with %d", h.cluster, h.shards, g.deps.Cluster, g.shards)
	case h.worker > math.MaxUint16:
		return errors.New("it has no number on links")
	case g.heirs == link.MaxHeirs:
		return fmt.Errorf("%d processes have asked before it: stop this one and start the other", g.heirs)
	}
	return nil
}

// give moves everything. On an error this process goes on.
func (g *Gateway) give(ctx context.Context, c handoverConn, room int64) error {
	g.giving.Store(true)
	before := g.leaving.Swap(true) // the other process listens beside this one: strangers come again at once
	g.draining.Store(true)
	g.closeDoors()
	for _, l := range g.loops {
		l.post(notice{evict: true})
	}
	start := g.clock()
	var moved int
	var err error
	if n := g.open.Load(); n > room {
		err = fmt.Errorf("%d connections, and the new process holds %d", n, room)
	} else {
		g.log.Info("handing over", "connections", n)
		moved, err = g.giveAll(ctx, c)
	}
	if err == nil {
		err = c.send(msgEnd, nil)
	}
	if err != nil {
		_ = c.send(msgAbort, []byte(err.Error())) // it may be what is gone
		g.giving.Store(false)
		g.leaving.Store(before)
		if g.draining.Store(false); ctx.Err() != nil {
			g.draining.Store(true) // its end may have begun in between
		}
		g.openDoors()
		return fmt.Errorf("after %d sessions: %w", moved, err)
	}
	g.log.Info("handed over", "sessions", moved, "took", g.clock().Sub(start))
	return nil
}

// giveAll moves the sessions of every loop, and in a second round those that were being bound in the first.
func (g *Gateway) giveAll(ctx context.Context, c handoverConn) (moved int, err error) {
	for _, last := range []bool{false, true} {
		for _, l := range g.loops {
			for p := (&page{last: last}); ; {
				if err := l.takePage(ctx, p); err != nil {
					return moved, err
				}
				if n := len(p.fds); n > 0 {
					if err := g.givePage(c, p); err != nil {
						return moved, err
					}
					moved += n
				}
				if p.next == 0 {
					break
				}
				p = &page{last: last, from: p.next}
			}
		}
	}
	return moved, nil
}

// givePage moves one page, or takes it back.
func (g *Gateway) givePage(c handoverConn, p *page) error {
	err := c.send(msgSessions, p.records, p.fds...)
	if err == nil {
		_, err = c.want(msgHeld, handoverWait)
	}
	if err == nil {
		err = c.send(msgYours, nil) // once this is on its way the sessions are not touched here any more, whatever happens
	}
	if err != nil {
		back := g.adopt(p.records, p.fds)
		return fmt.Errorf("%w (%d sessions of %d taken back)", err, back, len(p.fds))
	}
	clear(p.records)
	closeAll(p.fds)
	g.metrics.handedOver.Add(float64(len(p.fds)))
	return nil
}
