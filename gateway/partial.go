package gateway

import "linecard.example/internal/stanza"

// partials tracks the sessions with an unfinished frame, oldest first: each costs a buffer of the size of what came, so they
// have a deadline and share a budget. Sessions before bound are not here: they may buffer 1,024 bytes, and the whole handshake
// has a deadline. Loop only.
type partials struct {
	entries []partial
	bySlot  map[uint32]int32
	head    int32 // oldest, -1: none
	tail    int32
	free    int32
	bytes   int
}

type partial struct {
	slot, gen  uint32
	bytes      int
	since      uint64 // tick
	prev, next int32
}

func (p *partials) init() {
	p.bySlot = map[uint32]int32{}
	p.head, p.tail, p.free = -1, -1, -1
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
		p.add(partial{slot: s.slot(), gen: l.slots.Gen(s.slot()), bytes: bytes, since: l.tick})
	}
	for p.bytes > l.g.partialBytes && p.head >= 0 {
		l.endPartial()
	}
}

func (p *partials) add(e partial) {
	i := p.free
	if i < 0 {
		i = int32(len(p.entries))
		p.entries = append(p.entries, partial{})
	} else {
		p.free = p.entries[i].next
	}
	e.prev, e.next = p.tail, -1
	p.entries[i] = e
	if p.tail >= 0 {
		p.entries[p.tail].next = i
	} else {
		p.head = i
	}
	p.tail = i
	p.bySlot[e.slot] = i
	p.bytes += e.bytes
}

// drop forgets the unfinished frame of s, if it has one.
func (p *partials) drop(s *session) {
	if s.flags&flagPartial == 0 {
		return
	}
	s.flags &^= flagPartial
	i := p.bySlot[s.slot()]
	delete(p.bySlot, s.slot())
	e := &p.entries[i]
	p.bytes -= e.bytes
	if e.prev >= 0 {
		p.entries[e.prev].next = e.next
	} else {
		p.head = e.next
	}
	if e.next >= 0 {
		p.entries[e.next].prev = e.prev
	} else {
		p.tail = e.prev
	}
	e.next = p.free
	p.free = i
}

// expire closes the sessions whose frame has been unfinished for too long.
func (p *partials) expire(l *loop) {
	for p.head >= 0 && l.tick-p.entries[p.head].since >= l.g.partialTicks {
		l.endPartial()
	}
}

// endPartial closes the session with the oldest unfinished frame, which frees its bytes once the connection ends.
func (l *loop) endPartial() {
	e := l.partials.entries[l.partials.head]
	l.closeSession(l.slots.At(e.slot), stanza.ReasonPartialTimeout, 0) // drops the entry
}
