package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Roll replaces the workers one after the other with new processes, which get the configuration's text from now on, as those do that
// are restarted. The new one is ready before the old one leaves. At the first that fails it gives up; then some workers are new and
// the others are as they were. An error says which. A text with which no worker came to run is forgotten.
func (s *Supervisor) Roll(ctx context.Context, config []byte) (err error) {
	if !s.rolling.TryLock() {
		return errors.New("a rolling restart is under way")
	}
	defer s.rolling.Unlock()
	before := s.changeConfig(config)
	defer func() {
		if err != nil && !s.anyRuns(config) {
			s.changeConfig(before)
		}
	}()
	for _, at := range s.slots {
		answer := make(chan error, 1)
		select {
		case at.orders <- answer:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case err := <-answer:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// changeConfig sets the text that processes are started with, and returns what it was.
func (s *Supervisor) changeConfig(to []byte) (was []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, s.config = s.config, to
	return was
}

// anyRuns reports whether a worker was started with that text.
func (s *Supervisor) anyRuns(config []byte) bool {
	return slices.ContainsFunc(s.slots, func(at *slot) bool {
		w := at.get()
		return w != nil && bytes.Equal(w.config, config)
	})
}

// replace puts a new process beside w, which takes w's sessions, and w ends; what it could not move it drains. It returns the process
// that the slot has instead of w, nil for none, and what went wrong.
func (s *Supervisor) replace(ctx context.Context, at *slot, w *worker) (*worker, error) {
	next, err := s.start(ctx, at, w)
	if err == nil {
		err = s.awaitReady(ctx, next)
	}
	switch {
	case err == nil:
		if w.leave() != nil {
			w.terminate()
		}
		s.awaitEnd(at, w)
		s.log.Info("worker replaced", "worker", at.n, "pid", next.cmd.Process.Pid)
		return next, nil
	case next == nil:
	case w.ended() && !next.ended():
		// It has the sessions, whatever it waits for: nobody else can serve them.
		s.retire(at, w)
		return next, fmt.Errorf("worker %d: its replacement took over: %w", at.n, err)
	default:
		next.terminate() // in order: some sessions may have come to it
		if ctx.Err() != nil {
			w.terminate()
		}
		s.awaitEnd(at, next)
	}
	at.set(w)
	return nil, fmt.Errorf("worker %d: its replacement: %w", at.n, err)
}

// awaitReady waits until a worker says that it is ready. While sessions come to it there is no limit: a million take a minute, each step
// has a limit of its own there, and whoever ended it would end them.
func (s *Supervisor) awaitReady(ctx context.Context, w *worker) error {
	limit := time.NewTimer(s.readyLimit)
	defer limit.Stop()
	for {
		ok, page := w.look("/readyz")
		if ok {
			return nil
		}
		late := limit.C
		if bytes.Contains(page, []byte(whyTaking)) {
			limit.Reset(s.readyLimit)
			late = nil
		}
		select {
		case <-w.done:
			return fmt.Errorf("ended before it was ready: %s", causeText(w.cause))
		case <-late:
			return fmt.Errorf("not ready after %v", s.readyLimit)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readyPoll):
		}
	}
}
