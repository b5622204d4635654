package gateway

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// rebindRun re-sends the bindings of one directory shard to its leader. Every loop does its part; the last one says done. Parts and done
// go on one stream, which keeps their order.
type rebindRun struct {
	group  stanza.Group
	term   uint64
	stream *link.Stream
	left   atomic.Int32 // loops that are not through
}

// sweep is one look at all sessions of a loop, a page in each turn, so that messages pass in between. Loop only.
type sweep struct {
	reset  bool   // give up what is unanswered
	owed   bool   // tell those who were refused for want of a leader
	came   bool   // because of a leader: see secondLooks
	lost   uint32 // low bits of the id of a lost stream: close the sessions that it was to bind; 0: none
	drain  bool   // close everything
	stream *link.Stream
	runs   []*rebindRun // all on stream

	cursor  uint32
	started bool
	blocked bool // no credit: wait for the next tick
}

// addSweep queues a sweep, or joins it with one that has not begun: a router that comes up says hello for all its groups at once.
func (l *loop) addSweep(n *sweep) {
	if n.drain {
		clear(l.sweeps)
		l.sweeps = append(l.sweeps[:0], n) // the others look after sessions that end now
		return
	}
	if len(n.runs) > 0 {
		l.contacts.forget()
	}
	if n.came {
		l.led, l.looks = l.tick, 0
	}
	if n.owed && !n.reset && !l.owes {
		return
	}
	for _, s := range l.sweeps {
		if s.started {
			continue
		}
		if n.reset && s.reset && (s.lost == n.lost || n.lost == 0) || n.owed && (s.owed || s.reset) {
			return
		}
		if len(n.runs) > 0 && s.stream == n.stream {
			s.runs = append(s.runs, n.runs...)
			return
		}
	}
	l.sweeps = append(l.sweeps, n)
}

// sweepPage looks at one page of sessions for the first sweep that has credit.
func (l *loop) sweepPage() {
	at := slices.IndexFunc(l.sweeps, func(s *sweep) bool { return !s.blocked })
	if at < 0 {
		return
	}
	s := l.sweeps[at]
	if !s.started && (s.reset || s.owed) {
		l.owes = false // who is refused from here on waits for the next sweep
	}
	s.started = true
	from, stopped := s.cursor, false
	next := l.slots.Scan(from, l.g.cfg.RebindPage, func(slot, gen uint32, t *session) {
		if !stopped && !l.sweepOne(s, gen, t) {
			stopped = true
			from = slot
		}
	})
	switch {
	case stopped:
		s.cursor, s.blocked = from, true // the others go on: a peer that gives no credit keeps only its own waiting
	case next != 0:
		s.cursor = next
	default:
		l.sweeps = slices.Delete(l.sweeps, at, at+1)
		l.sweepDone(s)
	}
	if len(l.sweeps) > 0 {
		l.wakeSoon()
	}
}

// secondLooks are the ticks behind the coming of a leader at which those are told who were refused for want of one since. A router may
// hear of a queue's new leader later than this gateway, and refuse what clients have sent again at the first word; they would wait for as
// long as a refusal without any leader asks them to. Or it has sent that to the old leader, which is stopped, or cut off from it, and says
// nothing: so the last look is for all that is unanswered. What was only on its way comes twice, once for each leader that comes.
var secondLooks = [...]uint64{1, 2, 3, 5, 10}

// lookAgain makes the second looks that are due.
func (l *loop) lookAgain() {
	if l.looks < len(secondLooks) && l.tick >= l.led+secondLooks[l.looks] {
		l.looks++
		if last := l.looks == len(secondLooks); !last || l.unanswered == 0 {
			l.addSweep(&sweep{owed: true})
		} else {
			l.addSweep(&sweep{reset: true})
		}
	}
}

// owe notes that a message of s was refused because nobody led where it went.
func (l *loop) owe(s *session) {
	s.flags |= flagOwed
	l.owes = true
}

// sweepPause lies between two pages. gnet runs what a task posts before it looks at sockets again, so that a loop that woke itself
// would do all pages in one go.
const sweepPause = time.Millisecond

func (l *loop) wakeSoon() { time.AfterFunc(sweepPause, l.wake) }

// sweepOne does what the sweep does with one session; false: there was no credit, come again.
func (l *loop) sweepOne(s *sweep, gen uint32, t *session) bool {
	switch {
	case t.state == stateClosing:
		return true
	case s.drain:
		l.closeSession(t, stanza.ReasonDraining, l.g.farewell())
		return true
	case t.state == stateBinding:
		if s.lost != 0 && t.written == s.lost {
			l.closeRetry(t, stanza.ReasonUnavailable)
		}
		return true
	}
	if s.reset || s.owed && t.flags&flagOwed != 0 {
		l.giveUp(t)
	}
	if len(s.runs) == 0 {
		return true
	}
	group := l.g.dirOf(t.account)
	for _, run := range s.runs {
		if run.group != group {
			continue
		}
		l.env = l.rebindOf(t, gen)
		if err := s.stream.Send(&l.env); errors.Is(err, link.ErrNoCredit) {
			return false
		}
		break
	}
	return true
}

// rebindOf tells the leader of a session's account where the session is.
func (l *loop) rebindOf(s *session, gen uint32) link.Envelope {
	return link.Envelope{
		Kind: link.KindRebind, Group: l.g.dirOf(s.account), Account: s.account, Device: s.dev(), Slot: s.self, Gen: gen, Serial: s.serial,
		Epoch: s.epoch, ID: s.expects(),
	}
}

func (l *loop) sweepDone(s *sweep) {
	for _, run := range s.runs {
		if run.left.Add(-1) == 0 {
			l.unsent = append(l.unsent, run)
		}
	}
	l.retryRebindDone()
}

// retryRebindDone says done for the runs that are; without credit it is said at a later tick.
func (l *loop) retryRebindDone() {
	kept := l.unsent[:0]
	for _, run := range l.unsent {
		l.env = link.Envelope{Kind: link.KindRebindDone, Group: run.group, Term: run.term}
		if err := run.stream.Send(&l.env); errors.Is(err, link.ErrNoCredit) {
			kept = append(kept, run)
		}
	}
	clear(l.unsent[len(kept):])
	l.unsent = kept
}
