package link

import "slices"

// handMost is how many batches one Flush hands over on a stream while others keep sending: the rest is left to the stream's own
// goroutine, so that no turn becomes the sender of everybody.
const handMost = 8

// Flush hands over what was sent to peers within this process, on the calling goroutine: their Handlers' Receive is called. For
// endpoints with Options.Turns; it does nothing for streams over gRPC, whose sender goroutine takes what is sent at once. Call it at the
// end of a turn, without locks held. Safe for concurrent use; when another goroutine is at it on a stream, that one takes this
// caller's envelopes along.
func (e *Endpoint) Flush() {
	if all := e.held.Load(); all != nil {
		for _, s := range *all {
			s.flush()
		}
	}
}

// Unflushed reports whether Flush has something to do. Safe for concurrent use.
func (e *Endpoint) Unflushed() bool {
	if all := e.held.Load(); all != nil {
		for _, s := range *all {
			if s.out.ready.Load() {
				return true
			}
		}
	}
	return false
}

// hold has Flush look after s, whose twin is in this process and is up.
func (s *Stream) hold(twin *Stream) {
	s.out.hold()
	s.twin = twin
	s.ep.changeHeld(func(all []*Stream) []*Stream { return append(slices.Clone(all), s) })
	s.flush()
}

// release is hold's end.
func (s *Stream) release() {
	s.ep.changeHeld(func(all []*Stream) []*Stream {
		return slices.DeleteFunc(slices.Clone(all), func(x *Stream) bool { return x == s })
	})
}

func (e *Endpoint) changeHeld(change func([]*Stream) []*Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*Stream
	if p := e.held.Load(); p != nil {
		all = *p
	}
	all = change(all)
	e.held.Store(&all)
}

// flush hands over what is pending. Whoever finds another goroutine at it leaves its envelopes to that one: it looks again after it
// has let go.
func (s *Stream) flush() {
	for s.out.ready.Load() && s.handing.TryLock() {
		more := s.handSome()
		s.handing.Unlock()
		if more {
			s.out.rush()
			return
		}
	}
}

// handLoop is the goroutine of a held stream: it hands over what no turn does, until the outbox ends.
func (s *Stream) handLoop() {
	for s.out.rushed() {
		s.handing.Lock()
		for s.handSome() {
		}
		s.handing.Unlock()
		s.flush() // for who found it locked just before that
	}
	s.handing.Lock() // a turn may have the last batch in its hands: the stream goes down behind it
	defer s.handing.Unlock()
}

// handSome hands over at most handMost batches and reports whether there are more. Under handing.
func (s *Stream) handSome() (more bool) {
	back := &s.twin.out
	n, turning, emptied := 0, back.ready.Load(), back.emptied.Load()
	for b := s.out.tryTake(); b != nil; b = s.out.tryTake() {
		envelopes, bytes := b.n, len(b.buf)
		if err := hand(b, s.twin); err != nil {
			s.fail(err)
			s.out.end(outboxClosed) // nothing goes over behind it
			return false
		}
		s.metrics.sentBatch(envelopes, bytes)
		if n++; n == handMost {
			break
		}
	}
	if back.ready.Load() && (!turning || back.emptied.Load() != emptied) {
		back.rush() // probably answered from within Receive, where no turn ends; otherwise it goes with the turn that is under way
	}
	return s.out.ready.Load()
}
