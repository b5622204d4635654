package mediad

import (
	"errors"
	"hash"
	"io"
	"os"
	"time"
)

// pace is the slowest that a body may come or go: it may stand still for stall, and what it moves at rate earns that time again, never
// more. Only time that is spent waiting for the client counts: a slow disk is not its fault. A client that sends a byte now and then is
// ended after one stall.
type pace struct {
	stall  time.Duration
	rate   int64 // bytes per second
	credit time.Duration
	until  time.Time // the deadline that is set
}

func (q *request) pace() pace {
	stall := q.s.cfg.Stall.D()
	return pace{stall: stall, rate: int64(q.s.cfg.MinRate), credit: stall}
}

// earned is the time that n bytes may take.
func (p *pace) earned(n int64) time.Duration {
	return time.Duration(float64(n) / float64(p.rate) * float64(time.Second))
}

// took counts n bytes that were waited for; false when the client was too slow.
func (p *pace) took(n int64, waited time.Duration) bool {
	p.credit = min(p.credit-waited+p.earned(n), p.stall)
	return p.credit > 0
}

// arm sets the deadline of the next Read, if the one that is set is not near enough the right one: setting one costs more than a Read
// of little. False when the body was cut.
func (p *pace) arm(q *request, now time.Time) bool {
	want := now.Add(p.credit)
	if d := want.Sub(p.until); d >= 0 && d < p.stall/4 {
		return true
	}
	p.until = want
	return q.armRead(want)
}

// intake moves the request's body into dst, and into sum unless it is nil, until it ends. What it moved stays moved, whatever it returns.
//
// It waits with a tiny buffer. When that comes back full there is more, and it goes on with a big one, until a Read shows that it has
// all that was there: less than a quarter, unless it is just what net/http had read ahead.
func (q *request) intake(dst *upload, sum hash.Hash) error {
	q.broken = true
	_ = q.rc.SetWriteDeadline(time.Time{}) // HTTP/2 would end the whole stream by it, however well the body comes
	q.s.work.enter(q)
	defer q.s.work.leave(q)
	l := &lease{from: q.s.buffers}
	defer l.shrink()
	pace, buf := q.pace(), l.tiny[:]
	for {
		began := time.Now()
		if !pace.arm(q, began) {
			return fail(q.wasCut())
		}
		n, err := q.r.Body.Read(buf)
		fast := pace.took(int64(n), time.Since(began))
		if n > 0 {
			q.s.count.bytesIn.Add(float64(n))
			if sum != nil {
				sum.Write(buf[:n])
			}
			if err := dst.write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			q.broken = false
			return nil
		case err != nil:
			return q.ended(err)
		case !fast:
			return fail(TooSlow)
		case n == len(buf):
			if buf = l.grow(); len(buf) == smallBuffer {
				q.s.count.slowBuffers.Inc()
			}
		case n < len(buf)/4 && n != readAhead-tinyBuffer:
			buf = l.shrink()
		}
	}
}

// ended says why a body ended before its end.
func (q *request) ended(err error) error {
	if why := q.wasCut(); why != OK {
		return fail(why)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &fault{TooSlow, err}
	}
	if reasonOf(err) == TooLarge {
		return err
	}
	return &fault{Interrupted, err}
}
