package gateway

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"linecard.example/internal/stanza"
)

// page is some sessions that leave a loop together. The loop fills it.
type page struct {
	from    uint32 // slot to begin at
	next    uint32 // slot to go on at, 0: that was all
	last    bool   // sessions that are still being bound are closed
	records []byte
	fds     []int
	begun   atomic.Bool // by the loop; or given up by who asked, before that
	done    chan struct{}
}

// takePage has the loop fill p.
func (l *loop) takePage(ctx context.Context, p *page) error {
	p.done = make(chan struct{})
	l.post(notice{page: p})
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if p.begun.CompareAndSwap(false, true) {
		return errors.New("this process ends") // and its sessions stay where they are, to be drained
	}
	<-p.done // the loop is at it
	return nil
}

// fillPage takes sessions off the loop: after it not a byte of theirs is read or written here. Loop only.
func (l *loop) fillPage(p *page) {
	if !p.begun.CompareAndSwap(false, true) {
		return
	}
	defer close(p.done)
	l.flush()
	stopped := false
	p.next = l.slots.Scan(p.from, pageSessions, func(slot, _ uint32, s *session) {
		switch {
		case stopped:
		case len(p.records) >= pageBytes:
			stopped, p.from = true, slot
		case s.state == stateBound:
			l.depart(p, s)
		case s.state == stateBinding && p.last:
			l.closeSession(s, stanza.ReasonDraining, l.g.farewell())
		}
	})
	if stopped {
		p.next = p.from
	}
}

// depart puts one session into a page and lets it go here. One that cannot be put there stays, and is drained when the process ends.
func (l *loop) depart(p *page, s *session) {
	c := l.conn(s.slot())
	fd, err := c.Dup()
	if err != nil {
		l.g.log.Warn("a session cannot be handed over", "err", err)
		return
	}
	r := l.recordOf(s)
	if c.InboundBuffered() > 0 {
		r.inbound, _ = c.Peek(-1) // everything
	}
	if r.outbound, err = takeOutbound(l.out[:0], c); err != nil {
		closeAll([]int{fd})
		l.g.log.Warn("a session cannot be handed over", "err", err)
		return
	}
	p.records = appendRecord(roomFor(p.records, &r), &r)
	p.fds = append(p.fds, fd)
	r.rx, r.tx = [len(r.rx)]byte{}, [len(r.tx)]byte{}
	l.g.metrics.sessions.Dec()
	l.forgive(s)
	l.partials.drop(s)
	s.state = stateClosing // and nobody is told: the session lives
	l.closeConn(c)         // no end of the connection shows: fd holds it
}

// recordOf is what s has in its slot.
func (l *loop) recordOf(s *session) record {
	l.refill(s)
	return record{
		rx: s.rx, tx: s.tx, rxNonce: s.rxNonce, txNonce: s.txNonce,
		account: s.account, device: s.dev(), serial: s.serial, epoch: s.epoch, base: s.base, written: s.written,
		unacked: s.unacked, unanswered: s.inflight, noted: s.noted, send: s.send, lookups: s.lookups,
		interval: uint16(time.Duration(s.interval) * pingUnit / time.Second), silent: l.sec16() - s.lastSeen, stuck: l.sec8() - s.progress,
		warned: s.flags&flagWarned != 0,
	}
}
