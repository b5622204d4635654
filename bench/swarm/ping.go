package swarm

import (
	"math"
	"time"
)

// pinging is an order for pings under way.
type pinging struct {
	o        Ping
	ended    func()
	started  int64
	next     int // session to ask next
	fed      int
	open     map[uint32]asked // asked, without an answer
	result   Pinged
	finished bool
}

type asked struct {
	gen   uint32
	ahead bool // a ping by schedule is under way, and its pong comes first
	at    int64
}

// end is behind the last session to ask.
func (p *pinging) end(l *loop) int { return min(p.o.From+p.o.Count, l.slots.Len()) }

// beginPing starts to ask.
func (l *loop) beginPing(o Ping, ended func()) (*pinging, error) {
	if err := l.check(o.Range); err != nil {
		return nil, err
	}
	if l.pings != nil {
		return nil, errBusy
	}
	l.pings = &pinging{o: o, ended: ended, started: l.now(), next: o.From, open: map[uint32]asked{}}
	return l.pings, nil
}

// feedPings asks the sessions that are due.
func (l *loop) feedPings() {
	p := l.pings
	if p == nil || p.finished {
		return
	}
	now := l.now()
	most := math.MaxInt
	if p.o.Rate > 0 {
		most = int(float64(now-p.started)/1e9*p.o.Rate) + 1
	}
	end := p.end(l)
	for ; p.next < end && p.fed < most && len(p.open) < l.cfg.Handshakes; p.next += max(1, p.o.Step) {
		n := uint32(p.next)
		s := l.slots.At(n)
		if s.phase != bound || s.has(deaf) {
			continue
		}
		p.fed++
		p.result.Asked++
		p.open[n] = asked{gen: s.gen, ahead: s.has(pinged), at: now}
		s.set(pingNow)
		l.markDirty(n, s)
	}
	for n, a := range p.open { // few: at most Handshakes
		if l.slots.At(n).gen != a.gen || now-a.at > int64(pongWait) {
			delete(p.open, n)
		}
	}
	if p.next >= end && len(p.open) == 0 {
		p.finished = true
		p.result.Elapsed = time.Duration(now - p.started)
		p.ended()
	}
}

// nextPings is when feedPings has something to do that no event brings about.
func (l *loop) nextPings(now int64) int64 {
	p := l.pings
	if p == nil || p.finished {
		return math.MaxInt64
	}
	if p.next < p.end(l) && len(p.open) < l.cfg.Handshakes {
		if p.o.Rate <= 0 {
			return now
		}
		return p.started + int64(float64(p.fed)/p.o.Rate*1e9)
	}
	return now + int64(tick)
}

// pongOf notes a pong.
func (l *loop) pongOf(n uint32, s *session) {
	p := l.pings
	if p == nil {
		return
	}
	switch a, ok := p.open[n]; {
	case !ok || a.gen != s.gen:
	case a.ahead:
		a.ahead = false
		p.open[n] = a
	default:
		delete(p.open, n)
		p.result.Pongs++
		p.result.RTT.Record(time.Duration(l.now() - a.at))
	}
}

// endPing takes an order off the loop, done or given up.
func (l *loop) endPing(p *pinging) {
	if p.result.Elapsed == 0 {
		p.result.Elapsed = time.Duration(l.now() - p.started)
	}
	l.pings = nil
}
