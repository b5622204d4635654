package swarm

import (
	"fmt"
	"math"
	"time"
)

// watch follows the sessions of an Open or a Cut until each of them is bound or has stopped.
type watch struct {
	ended   func()
	started int64
	cpu     time.Duration
	result  Opened
	cut     int
	back    Histogram
	closes  map[string]uint64

	// what has not been begun yet
	next, end uint32
	step      uint32
	mode      Mode
	rate      float64
	far       bool
	fed       int
}

func (l *loop) newWatch(ended func()) (*watch, error) {
	if l.watch != nil {
		return nil, errBusy
	}
	l.watch = &watch{ended: ended, started: l.now(), cpu: cpuTime(), closes: map[string]uint64{}}
	return l.watch, nil
}

// beginOpen starts to connect the sessions of an order.
func (l *loop) beginOpen(o Open, ended func()) (*watch, error) {
	if err := l.check(o.Range); err != nil {
		return nil, err
	}
	switch o.Mode {
	case "":
		o.Mode = Register
	case Register, Bind, Resume:
	default:
		return nil, fmt.Errorf("swarm: mode %q", o.Mode)
	}
	if top := o.From + o.Count; o.From > l.slots.Len() || o.Step > 1 && top > l.slots.Len() {
		return nil, fmt.Errorf("swarm: sessions %d to %d: only %d were opened before them", o.From, top-1, l.slots.Len())
	}
	w, err := l.newWatch(ended)
	if err != nil {
		return nil, err
	}
	w.next, w.end, w.step, w.mode = uint32(o.From), uint32(o.From+o.Count), uint32(max(1, o.Step)), o.Mode
	w.rate, w.far = o.Rate, o.Far
	w.result.Asked = o.count()
	l.feed()
	l.watchDone()
	return w, nil
}

// feed begins the sessions that are due by the rate of an Open.
func (l *loop) feed() {
	w := l.watch
	if w == nil || w.next >= w.end {
		return
	}
	most := math.MaxInt
	if w.rate > 0 {
		most = int(float64(l.now()-w.started)/1e9*w.rate) + 1
	}
	for w.next < w.end && w.fed < most && l.queue.len()+len(l.hellos) < l.cfg.Handshakes {
		n := w.next
		w.next += w.step
		w.fed++
		l.begin(n, w)
	}
}

// begin has one session connect for a watch.
func (l *loop) begin(n uint32, w *watch) {
	if n == l.slotCount() {
		_, _, s, ok := l.slots.Alloc()
		if !ok {
			l.count.Failed["no_memory"]++
			w.result.Stopped++
			w.result.Stopped += int(w.end - w.next) // the numbers behind it have no slot either; the step is 1
			w.next = w.end
			l.watchDone()
			return
		}
		s.fd = -1
	}
	s := l.slots.At(n)
	if s.phase != off && s.phase != stopped {
		if s.phase == bound {
			w.result.Bound++
			l.watchDone()
			return
		}
		s.set(watched)
		return
	}
	s.set(watched)
	s.losses, s.nows = 0, 0
	s.clear(far)
	if w.far {
		s.set(far)
	}
	switch w.mode {
	case Register:
		s.set(anew)
	case Bind:
		s.set(byXX)
	}
	l.enqueue(n, s)
}

// nextFeed is when feed has something to do.
func (l *loop) nextFeed(now int64) int64 {
	w := l.watch
	switch {
	case l.queue.len() > 0 && len(l.hellos) < l.cfg.Handshakes:
		return now
	case w == nil || w.next >= w.end || l.queue.len()+len(l.hellos) >= l.cfg.Handshakes:
		return math.MaxInt64
	case w.rate <= 0:
		return now
	}
	return w.started + int64(float64(w.fed)/w.rate*1e9)
}

// boundOfWatch notes a session that is bound.
func (l *loop) boundOfWatch(s *session, now int64) {
	if !s.has(watched) {
		return
	}
	s.clear(watched)
	w := l.watch
	if w == nil {
		return
	}
	w.result.Bound++
	if s.has(byTicket) {
		w.result.Resumed++
	}
	w.result.Setup.Record(time.Duration(uint32(now/int64(time.Microsecond))-s.began) * time.Microsecond)
	w.back.Record(time.Duration(now - w.started))
	l.watchDone()
}

// stoppedOfWatch notes a session that will not be bound.
func (l *loop) stoppedOfWatch(s *session) {
	if !s.has(watched) {
		return
	}
	s.clear(watched)
	if l.watch != nil {
		l.watch.result.Stopped++
		l.watchDone()
	}
}

func (l *loop) watchDone() {
	if w := l.watch; w.result.Bound+w.result.Stopped >= w.result.Asked {
		w.finish(l)
		w.ended()
	}
}

func (w *watch) finish(l *loop) {
	w.result.Elapsed = time.Duration(l.now() - w.started)
	w.result.CPU = cpuTime() - w.cpu
}

// endWatch takes an order off the loop, done or given up. Sessions of it that are not bound yet go on trying.
func (l *loop) endWatch(w *watch) {
	if l.watch != w {
		return
	}
	if w.result.Elapsed == 0 { // given up: what comes late is not of the next order
		w.finish(l)
		for n := range l.slotCount() {
			l.slots.At(n).clear(watched)
		}
	}
	l.watch = nil
}

// beginCut closes the connections of an order and has their sessions come back.
func (l *loop) beginCut(c Cut, ended func()) (*watch, error) {
	if err := l.check(c.Range); err != nil {
		return nil, err
	}
	w, err := l.newWatch(ended)
	if err != nil {
		return nil, err
	}
	for n := range l.slotsOf(c.Range) {
		s := l.slots.At(n)
		if s.phase != bound {
			continue
		}
		if c.Reset {
			reset(int(s.fd))
		}
		l.drop(n, s)
		s.losses, s.nows = 1, 0 // the attempt at once is the one that follows
		s.set(watched)
		if c.Mode == Bind {
			s.set(byXX)
		}
		w.cut++
		l.enqueue(n, s)
	}
	w.started = l.now() // all are cut: coming back begins
	w.result.Asked = w.cut
	l.watchDone()
	return w, nil
}

// counters returns the totals with what is so now.
func (l *loop) counters() Counters {
	c := l.count
	c.Lost, c.Failed = cloneCounts(c.Lost), cloneCounts(c.Failed)
	for n := range l.slotCount() {
		switch l.slots.At(n).phase {
		case off:
			continue
		case bound:
			c.Bound++
		case waiting, queued:
			c.Waiting++
		case stopped:
			c.Stopped++
		default:
			c.Connecting++
		}
		c.Sessions++
	}
	return c
}

func cloneCounts(m map[string]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
