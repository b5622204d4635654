package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"
)

// rollLimit bounds a rolling restart that was asked for: each worker may take minutes to get ready and to drain.
const rollLimit = time.Hour

// AskRoll asks the supervisor that answers on a socket to replace its workers, and returns when it has. An error says what it said.
func AskRoll(ctx context.Context, socket string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("no supervisor to upgrade: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c := handoverConn{conn}
	if err = samePeer(conn); err == nil {
		err = c.send(msgRoll, nil)
	}
	if err == nil {
		_, err = c.want(msgEnd, rollLimit)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the supervisor goes on with it
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errors.New("upgrade: the gateway that runs there has no workers, or ended")
	case err != nil:
		return fmt.Errorf("upgrade: %w", err)
	}
	return nil
}

// ServeUpgrades answers AskRoll on a socket with what roll returns, until ctx ends. It returns an error when it cannot.
func ServeUpgrades(ctx context.Context, socket string, log *slog.Logger, roll func() error) error {
	ln, err := listenHandover(socket)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer ln.Close()
	for {
		conn, err := acceptNext(ctx, ln, log)
		if err != nil {
			return nil
		}
		answerRoll(handoverConn{conn}, roll)
		_ = conn.Close()
	}
}

func answerRoll(c handoverConn, roll func() error) {
	if samePeer(c.UnixConn) != nil {
		return
	}
	kind, _, fds, err := c.receive(handoverWait)
	closeAll(fds)
	switch {
	case err != nil:
		return
	case kind != msgRoll:
		err = errors.New("it is a supervisor of workers, and its configuration says otherwise now: restart it")
	default:
		err = roll()
	}
	if err != nil {
		_ = c.send(msgRefused, []byte(err.Error())) // who asked may be gone
		return
	}
	_ = c.send(msgEnd, nil)
}
