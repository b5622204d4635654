package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"
)

// flushTime bounds how long an orderly end waits for what is pending.
const flushTime = time.Second

// up opens the stream for its Handler.
func (s *Stream) up() {
	s.metrics.up()
	s.ep.enter(s)
	s.ep.opts.Board.greet(s)
	s.note("stream up", "peer", s.peer.Role.String(), "node", s.peer.Node, "stream", s.id, "incoming", s.incoming)
	s.gate.Lock()
	defer s.gate.Unlock()
	s.ep.handler.Up(s)
	s.open = true
}

// down closes the stream for its Handler: no Receive after it. The caller has called fail.
func (s *Stream) down() {
	if n := s.out.close(); n > 0 {
		s.metrics.droppedPending(n)
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	if !s.open {
		return
	}
	s.open = false
	s.metrics.down()
	s.ep.leave(s)
	s.note("stream down", "peer", s.peer.Role.String(), "node", s.peer.Node, "stream", s.id, "err", s.failErr)
	s.ep.handler.Down(s, s.failErr)
}

// note logs what happens to the stream: an event on a network, the course of things within a process.
func (s *Stream) note(what string, args ...any) {
	level := slog.LevelInfo
	if s.local {
		level = slog.LevelDebug
	}
	s.ep.log.Log(context.Background(), level, what, args...)
}

// messages is what gRPC's two kinds of streams have in common; one goroutine sends, one receives.
type messages interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// errSilent ends a stream whose peer gave no sign of life for three pulses.
var errSilent = errors.New("link: peer is silent")

// run takes s from Up to Down over m. It returns when the stream has failed, the peer has ended it, or stop is closed; then it
// flushes what is pending first and calls closeSend, which is nil at a server: that ends its side by returning. Its two goroutines
// are in s.workers; they end when the caller ends m.
func (s *Stream) run(stop <-chan struct{}, m messages, closeSend func() error) {
	s.up()
	sent, read := make(chan struct{}), make(chan struct{})
	s.workers.Go(func() { defer close(sent); s.sendLoop(func(b *batch) error { return s.transmit(m, b) }) })
	s.workers.Go(func() { defer close(read); s.readLoop(m) })
	inOrder := s.watch(stop)
	if inOrder {
		s.finish(sent, read, closeSend)
	}
	s.fail(ErrStopped)
	s.down()
}

// watch waits for the end and keeps the pulse meanwhile. It reports whether there may be something left to flush.
func (s *Stream) watch(stop <-chan struct{}) (inOrder bool) {
	pulse := time.NewTicker(s.ep.opts.Pulse)
	defer pulse.Stop()
	for silent := 0; ; {
		select {
		case <-stop:
			return true
		case <-s.failed:
			return errors.Is(s.failErr, ErrStopped)
		case <-pulse.C:
			silent++
			if s.heard.Swap(false) {
				silent = 0
			}
			if silent == maxSilent {
				s.fail(errSilent)
			}
			s.out.pulse()
		}
	}
}

// maxSilent is how many pulses without a sign of life end a stream.
const maxSilent = 3

// finish lets both directions end in order, within flushTime.
func (s *Stream) finish(sent, read <-chan struct{}, closeSend func() error) {
	limit := time.NewTimer(flushTime)
	defer limit.Stop()
	s.out.drain()
	select {
	case <-sent:
	case <-limit.C:
		return
	}
	if closeSend == nil || closeSend() != nil {
		return
	}
	select {
	case <-read:
	case <-limit.C:
	}
}

// transmit sends one batch. io.EOF says only that the stream has ended; why, the reader gets to know.
func (s *Stream) transmit(m messages, b *batch) error {
	err := m.SendMsg(b)
	if errors.Is(err, io.EOF) {
		<-s.failed
	}
	return err
}

// readLoop is the reader goroutine.
func (s *Stream) readLoop(m messages) {
	var in frame
	for {
		err := m.RecvMsg(&in)
		if errors.Is(err, io.EOF) {
			err = ErrStopped
		}
		if err == nil {
			s.heard.Store(true)
			err = s.receive(in.data)
		}
		if err != nil {
			s.fail(err)
			return
		}
		in.data = nil
	}
}
