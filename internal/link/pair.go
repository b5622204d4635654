package link

import (
	"errors"
	"sync"
	"time"
)

// Connect makes a stream between two endpoints of this process, as if a had dialled b; a and b may be the same endpoint, which then
// sees both ends. Everything but the network is as with Dial: credits, batches, one sender goroutine per direction, and a stream that
// fails is made again after a pause. Both Handlers' Up have returned when Connect returns. If the two do not fit together (Info), that
// is logged by both and stop does nothing.
//
// stop ends the stream in order: it refuses further envelopes, delivers what is pending, calls Down on both ends and returns after
// that. It may be called more than once, but not from a Handler.
func Connect(a, b *Endpoint) (stop func()) {
	p, err := meet(a, b)
	if err != nil {
		a.refused(b.info.Role.String(), err)
		b.refused(a.info.Role.String(), err)
		return func() {}
	}
	p.start()
	stopping := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() { p.keep(stopping) })
	var once sync.Once
	return func() {
		once.Do(func() { close(stopping) })
		done.Wait()
	}
}

// pair is one stream within the process: its two ends.
type pair struct {
	a, b    *Stream
	senders sync.WaitGroup
}

// keep looks after p and those that follow it, until stopping is closed.
func (p *pair) keep(stopping <-chan struct{}) {
	for attempt := 1; ; attempt++ {
		began := time.Now()
		if p.supervise(stopping) {
			return
		}
		if time.Since(began) >= steady {
			attempt = 1
		}
		pause := time.NewTimer(backoff(attempt, p.a.ep.jitter()))
		select {
		case <-pause.C:
		case <-stopping:
			pause.Stop()
			return
		}
		next, err := meet(p.a.ep, p.b.ep)
		if err != nil {
			return // the two met before: they have not changed
		}
		p = next
		p.start()
	}
}

// meet goes through the introductions, encoded as on the network, and returns the two ends.
func meet(a, b *Endpoint) (*pair, error) {
	ia, ib := a.intro(b.info.Role), b.intro(a.info.Role)
	atB, err := parseIntro(appendIntro(nil, &ia))
	if err != nil {
		return nil, err
	}
	atA, err := parseIntro(appendIntro(nil, &ib))
	if err != nil {
		return nil, err
	}
	if err = atB.check(&ib, 0); err != nil {
		return nil, err
	}
	if err = atA.check(&ia, b.info.Role); err != nil {
		return nil, err
	}
	p := &pair{a: newStream(a, atA, false), b: newStream(b, atB, true)}
	p.a.local, p.b.local = true, true
	return p, nil
}

func (p *pair) start() {
	p.a.up()
	p.b.up()
	p.sender(p.a, p.b)
	p.sender(p.b, p.a)
}

// sender starts what hands the batches of s to its twin. Faults and roads may make that wait, which no turn must.
func (p *pair) sender(s, twin *Stream) {
	if s.ep.opts.Turns && s.ep.faults == nil && s.ep.road == nil {
		s.hold(twin)
		p.senders.Go(s.handLoop)
		return
	}
	p.senders.Go(func() { s.sendLoop(s.carried(func(x *batch) error { return hand(x, twin) })) })
}

// hand gives a batch to the twin. The receiver keeps the bytes, so it gets a copy of exactly the size and the buffer is used again:
// copying 64 envelopes costs less than growing a fresh buffer, and a payload that is kept pins no spare capacity.
func hand(x *batch, twin *Stream) error {
	data := append([]byte(nil), x.buf...)
	x.box.recycle(x)
	err := twin.receive(data)
	if err != nil {
		twin.fail(err)
	}
	return err
}

// supervise waits for the stream's end and brings both ends down. It reports whether that was in order.
func (p *pair) supervise(stopping <-chan struct{}) (inOrder bool) {
	err := ErrStopped
	select {
	case <-stopping:
		p.a.out.drain()
		p.b.out.drain()
	case <-p.a.failed:
		err = p.a.failErr
	case <-p.b.failed:
		err = p.b.failErr
	}
	if inOrder = errors.Is(err, ErrStopped); !inOrder {
		p.a.out.end(outboxClosed) // what is pending is counted in down
		p.b.out.end(outboxClosed)
		p.a.fail(err)
		p.b.fail(err)
	}
	p.senders.Wait()
	p.a.release()
	p.b.release()
	p.a.fail(err)
	p.b.fail(err)
	p.a.down()
	p.b.down()
	return inOrder
}
