package offline

import "context"

// Trim has the links and the groups let go of buffers that grow again when they are needed, and returns when they have, or ctx ends. It
// is for a moment in which little happens, before a collection. Safe for concurrent use.
func (o *Offline) Trim(ctx context.Context) {
	o.ep.Trim()
	for _, s := range o.served() {
		_ = s.raft.Call(ctx, s.trim) // not done: the group or the process ends
	}
}

// trim lets go of what is kept for reuse, and of lists and maps that a burst has made large and that nothing is in.
func (m *group) trim() {
	m.inbox.Trim()
	m.rooms, m.spare = nil, nil
	if len(m.timers) == 0 {
		m.timers = nil
	}
	if len(m.retries) == 0 {
		m.retries = nil
	}
	m.state.trim()
}

func (s *state) trim() {
	if len(s.ready) == 0 {
		s.ready = nil
	}
	if len(s.raised) == 0 {
		s.raised, s.free = nil, nil // the lists of receipts hold none of the free ones
	}
	if s.aging.n == 0 {
		s.aging = agingList{}
	}
	if len(s.dirtyQueues) == 0 {
		s.dirtyQueues = nil
	}
	if len(s.streams.dirty) == 0 {
		s.streams.dirty = map[streamKey]streamState{}
	}
	if len(s.dirtyPending) == 0 {
		s.dirtyPending = map[receiptKey]bool{}
	}
	if len(s.pending) == 0 {
		s.pending = map[receiptKey]*pending{}
	}
}
