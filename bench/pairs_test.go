package bench

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// counter counts over all pairs. Written by every reader, so each has a cache line of its own.
type counter struct {
	atomic.Int64
	_ [56]byte
}

// until says when a message is no longer under way.
type until int

const (
	untilReceipt  until = iota // acked, and its delivered receipt is shown
	untilDelivery              // acked, and delivered
	untilAck                   // acked
)

// load is many pairs on one server.
type load struct {
	s     *system
	pairs []*pair
	until until
	most  uint64 // no message above this number is sent; changed only while the loop stands

	running  atomic.Bool // the closed loop turns
	sampling atomic.Bool // latencies are kept

	acked, delivered, receipted, receipts counter // messages; receipts counts stanzas
}

// newLoad makes pairs of devices that are not registered yet.
func newLoad(s *system, n int, u until) *load {
	l := &load{s: s, until: u, most: math.MaxUint64}
	for i := range n {
		d := newDevices(s, 2*i, 2)
		l.pairs = append(l.pairs, newPair(l, d[0], d[1]))
	}
	return l
}

// register connects all devices.
func (l *load) register() {
	l.s.each(2*len(l.pairs), func(i int) error {
		p := l.pairs[i/2]
		d := p.a
		if i%2 == 1 {
			d = p.b
		}
		return d.Connect()
	})
}

// turn starts the closed loop: every pair has perPair messages under way until stop.
func (l *load) turn() {
	l.running.Store(true)
	for _, p := range l.pairs {
		p.kick()
	}
}

// settled reports whether nothing is under way any more; where the recipients ack few deliveries, receipts are not waited for.
func (l *load) settled() bool {
	for _, p := range l.pairs {
		p.a.Lock()
		open := p.sent != p.acked || p.sent != p.delivered || (l.until != untilDelivery && p.sent != p.receipted)
		p.a.Unlock()
		if open {
			return false
		}
	}
	return true
}

// stop ends the closed loop and waits until every message has arrived: lost ones fail the benchmark.
func (l *load) stop() {
	l.s.b.Helper()
	l.running.Store(false)
	l.s.until("messages under way", l.settled)
}

// completed is how many messages went all the way that l.until names.
func (l *load) completed() int64 {
	switch l.until {
	case untilReceipt:
		return l.receipted.Load()
	case untilDelivery:
		return l.delivered.Load()
	default:
		return l.acked.Load()
	}
}

// window measures the server while the load goes on by itself.
func (l *load) window(d time.Duration) (c cost, messages int64) {
	l.s.b.Helper()
	before := l.completed()
	c = l.s.costOf(func() { l.s.rest(d) })
	return c, l.completed() - before
}

// pacer sends at a fixed rate, the pairs in turn, whatever the server does.
type pacer struct {
	load *load
	gap  time.Duration
	stop chan struct{}
	done chan struct{}

	late   samples      // from when a message was due to when it was sent
	full   atomic.Int64 // messages not sent: the pair had perPair under way
	passed atomic.Int64 // messages sent
}

// pace starts a pacer; close its stop and wait for its done.
func (l *load) pace(perSecond int) *pacer {
	r := &pacer{load: l, gap: time.Second / time.Duration(perSecond), stop: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r
}

func (r *pacer) run() {
	defer close(r.done)
	due := time.Now()
	for i := 0; ; i++ {
		select {
		case <-r.stop:
			return
		default:
		}
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		r.one(r.load.pairs[i%len(r.load.pairs)], due)
		due = due.Add(r.gap)
	}
}

func (r *pacer) one(p *pair, due time.Time) {
	p.a.Lock()
	defer p.a.Unlock()
	if p.sent-p.done() >= perPair {
		r.full.Add(1)
		return
	}
	now := time.Now()
	if r.load.sampling.Load() {
		r.late = append(r.late, int64(now.Sub(due)))
	}
	p.send(now)
	r.passed.Add(1)
	if err := p.a.Flush(); err != nil {
		r.load.s.fail(err)
	}
}

// end stops the pacer and waits until every message has arrived.
func (r *pacer) end() {
	close(r.stop)
	<-r.done
	r.load.stop()
}

// gather joins the samples of all pairs. Nothing may be under way.
func (l *load) gather(of func(p *pair) samples) (all samples) {
	for _, p := range l.pairs {
		p.a.Lock()
		all = append(all, of(p)...)
		p.a.Unlock()
	}
	slices.Sort(all)
	return all
}
