package gateway

import (
	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/stanza"
)

// partials tracks who has sent an unfinished frame: each costs a buffer of the size of what came, so they have a deadline and share
// a budget. Connections before message 3 are among them; they may buffer 1,024 bytes each at most, but strangers can open as many
// as there is room for: they go first, so that they cannot push out sessions. Loop only.
type partials struct {
	entries   []partial
	bySlot    map[uint32]int32
	strangers byAge
	sessions  byAge
	free      int32
	bytes     int
}

// byAge is a list of entries, oldest first; -1: none.
type byAge struct{ head, tail int32 }

type partial struct {
	early      *handshake // nil: the session in slot
	slot       uint32
	bytes      int
	since      uint64 // tick
	prev, next int32
}

func (p *partials) init() {
	p.bySlot = map[uint32]int32{}
	p.strangers, p.sessions, p.free = byAge{-1, -1}, byAge{-1, -1}, -1
}

// first returns the entry to end when the budget is spent, -1: none.
func (p *partials) first() int32 {
	if p.strangers.head >= 0 {
		return p.strangers.head
	}
	return p.sessions.head
}

// list returns the list that e belongs to.
func (p *partials) list(e *partial) *byAge {
	if e.early != nil {
		return &p.strangers
	}
	return &p.sessions
}

// note says that so many bytes of an unfinished frame of s are waiting; fresh: the frame began with what was just read.
func (l *loop) notePartial(s *session, bytes int, fresh bool) {
	p := &l.partials
	if s.flags&flagPartial != 0 && fresh {
		p.drop(s)
	}
	if s.flags&flagPartial != 0 {
		e := &p.entries[p.bySlot[s.slot()]]
		p.bytes += bytes - e.bytes
		e.bytes = bytes
	} else {
		s.flags |= flagPartial
		p.bySlot[s.slot()] = p.add(partial{slot: s.slot(), bytes: bytes, since: l.tick})
	}
	for p.bytes > l.g.partialBytes && p.first() >= 0 {
		l.endPartial(p.first())
	}
}

// noteEarly says that so many bytes wait on a connection before message 3. The result is for OnTraffic to return.
func (l *loop) noteEarly(h *handshake, bytes int) gnet.Action {
	p := &l.partials
	switch {
	case bytes == 0:
		p.dropEarly(h)
	case h.partial != 0:
		e := &p.entries[h.partial-1]
		p.bytes += bytes - e.bytes
		e.bytes = bytes
	default:
		h.partial = 1 + p.add(partial{early: h, bytes: bytes, since: l.tick})
	}
	for p.bytes > l.g.partialBytes && p.first() >= 0 {
		if p.entries[p.first()].early == h {
			return l.turnAway(h, stanza.ReasonPartialTimeout, 0)
		}
		l.endPartial(p.first())
	}
	return gnet.None
}

func (p *partials) add(e partial) int32 {
	i := p.free
	if i < 0 {
		i = int32(len(p.entries))
		p.entries = append(p.entries, partial{})
	} else {
		p.free = p.entries[i].next
	}
	list := p.list(&e)
	e.prev, e.next = list.tail, -1
	p.entries[i] = e
	if list.tail >= 0 {
		p.entries[list.tail].next = i
	} else {
		list.head = i
	}
	list.tail = i
	p.bytes += e.bytes
	return i
}

// drop forgets the unfinished frame of s, if it has one.
func (p *partials) drop(s *session) {
	if s.flags&flagPartial == 0 {
		return
	}
	s.flags &^= flagPartial
	p.remove(p.bySlot[s.slot()])
	delete(p.bySlot, s.slot())
}

// dropEarly is drop for a connection before message 3.
func (p *partials) dropEarly(h *handshake) {
	if h.partial != 0 {
		p.remove(h.partial - 1)
		h.partial = 0
	}
}

func (p *partials) remove(i int32) {
	e := &p.entries[i]
	list := p.list(e)
	p.bytes -= e.bytes
	if e.prev >= 0 {
		p.entries[e.prev].next = e.next
	} else {
		list.head = e.next
	}
	if e.next >= 0 {
		p.entries[e.next].prev = e.prev
	} else {
		list.tail = e.prev
	}
	*e = partial{next: p.free} // and the connection is garbage
	p.free = i
}

func (p *partials) empty() bool { return p.strangers.head < 0 && p.sessions.head < 0 }

// expire closes those whose frame has been unfinished for too long.
func (p *partials) expire(l *loop) {
	for _, list := range [...]*byAge{&p.strangers, &p.sessions} {
		for list.head >= 0 && l.tick-p.entries[list.head].since >= l.g.partialTicks {
			l.endPartial(list.head)
		}
	}
}

// endPartial closes the session or the connection of an entry, which frees its bytes once the connection ends.
func (l *loop) endPartial(i int32) {
	e := l.partials.entries[i]
	if e.early != nil {
		l.refuseNow(e.early, stanza.ReasonPartialTimeout, 0)
		return
	}
	l.closeSession(l.slots.At(e.slot), stanza.ReasonPartialTimeout, 0) // drops the entry
}
