package gateway

import (
	"linecard.example/internal/link"
)

// notice is what a goroutine of this process tells a loop. Exactly one field is set.
type notice struct {
	sweep *sweep // look at all sessions
	drain bool   // close everything
	evict bool   // refuse connections in a handshake
	page  *page  // let go of some sessions
	trim  func() // let go of buffers, then call it
}

// post gives the loop a notice. Safe for concurrent use. Notices are bounded by what causes them, such as
// changes of leaders and links.
func (l *loop) post(n notice) {
	l.mu.Lock()
	l.notices = append(l.notices, n)
	l.mu.Unlock()
	l.wake()
}

func (l *loop) drainNotices() {
	l.mu.Lock()
	notices := l.notices
	l.notices = l.spare[:0]
	l.mu.Unlock()
	for i := range notices {
		switch n := &notices[i]; {
		case n.sweep != nil:
			l.addSweep(n.sweep)
		case n.drain:
			l.drain()
		case n.evict:
			if l.g.draining.Load() { // still: the hand-over may have failed meanwhile
				l.evict()
			}
		case n.page != nil:
			l.fillPage(n.page)
		case n.trim != nil:
			l.trim()
			n.trim()
		}
	}
	clear(notices)
	if l.spare = notices; cap(notices) > keepNotices {
		l.spare = nil
	}
}

// keepNotices is how many notices a buffer may have room for that is used again.
const keepNotices = 1024

// drainInbox handles the envelopes that came on links, and then gives their credits back: a loop that does not keep up stops its
// peers, group by group.
func (l *loop) drainInbox() {
	items := l.inbox.Drain()
	for i := range items {
		l.receive(items[i].From, &items[i].Env)
	}
	l.inbox.Done(items)
}

// Receive implements link.Handler: it hands a batch to the loops, in runs of the same loop.
func (g *Gateway) Receive(s *link.Stream, batch []link.Envelope) {
	for i := 0; i < len(batch); {
		e := &batch[i]
		if ofAll(e.Kind) {
			size := e.Size()
			if e.Kind == link.KindHello {
				g.hello(s, e)
			} else {
				g.takeTicketKeys(s, e)
			}
			s.Done(e.Group, size)
			i++
			continue
		}
		at, end := e.Slot>>slotBits, i
		for end < len(batch) && !ofAll(batch[end].Kind) && batch[end].Slot>>slotBits == at {
			if batch[end].Kind == link.KindNotLeader {
				g.disown(batch[end].Group, s) // here and not on the loop: a hello behind it must win
			}
			end++
		}
		if int(at) < len(g.loops) {
			g.loops[at].inbox.Push(s, batch[i:end]...)
		} else {
			g.strays(s, batch[i:end])
		}
		i = end
	}
}

// ofAll reports whether an envelope concerns the whole gateway and not one session.
func ofAll(k link.Kind) bool { return k == link.KindHello || k == link.KindTicketKeys }

// strays answers envelopes for loops that this gateway does not have.
func (g *Gateway) strays(s *link.Stream, batch []link.Envelope) {
	for i := range batch {
		e := &batch[i]
		size := e.Size()
		g.gone(s, e)
		s.Done(e.Group, size)
	}
}
