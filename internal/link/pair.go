package link

import (
	"errors"
	"sync"
)

// Connect makes a stream between two endpoints of this process, as if a had dialled b; a and b may be the same endpoint, which then
// sees both ends. Everything but the network is as with Dial: credits, batches, one sender goroutine per direction. Both Handlers'
// Up have returned when Connect returns. If the two do not fit together (Info), that is logged by both and stop does nothing.
//
// stop ends the stream in order: it refuses further envelopes, delivers what is pending, calls Down on both ends and returns after
// that. It may be called more than once, but not from a Handler.
func Connect(a, b *Endpoint) (stop func()) {
	p := &pair{stopping: make(chan struct{})}
	var err error
	if p.a, p.b, err = meet(a, b); err != nil {
		a.refused(b.info.Role.String(), err)
		b.refused(a.info.Role.String(), err)
		return func() {}
	}
	p.a.up()
	p.b.up()
	p.senders.Go(func() { p.a.sendLoop(func(x *batch) error { return hand(x, p.b) }) })
	p.senders.Go(func() { p.b.sendLoop(func(x *batch) error { return hand(x, p.a) }) })
	p.done.Go(p.supervise)
	var once sync.Once
	return func() {
		once.Do(func() { close(p.stopping) })
		p.done.Wait()
	}
}

type pair struct {
	a, b     *Stream
	stopping chan struct{}
	senders  sync.WaitGroup
	done     sync.WaitGroup
}

// meet goes through the introductions, encoded as on the network, and returns the two ends.
func meet(a, b *Endpoint) (sa, sb *Stream, err error) {
	ia, ib := a.intro(b.info.Role), b.intro(a.info.Role)
	atB, err := parseIntro(appendIntro(nil, &ia))
	if err != nil {
		return nil, nil, err
	}
	atA, err := parseIntro(appendIntro(nil, &ib))
	if err != nil {
		return nil, nil, err
	}
	if err = atB.check(b.info, 0); err != nil {
		return nil, nil, err
	}
	if err = atA.check(a.info, b.info.Role); err != nil {
		return nil, nil, err
	}
	sa, sb = newStream(a, atA, false), newStream(b, atB, true)
	sa.local, sb.local = true, true
	return sa, sb, nil
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

// supervise waits for the stream's end and brings both ends down.
func (p *pair) supervise() {
	err := ErrStopped
	select {
	case <-p.stopping:
		p.a.out.drain()
		p.b.out.drain()
	case <-p.a.failed:
		err = p.a.failErr
	case <-p.b.failed:
		err = p.b.failErr
	}
	if !errors.Is(err, ErrStopped) {
		p.a.out.close()
		p.b.out.close()
	}
	p.senders.Wait()
	p.a.fail(err)
	p.b.fail(err)
	p.a.down()
	p.b.down()
}
