package link

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func BenchmarkEnvelope(b *testing.B) {
	e, buf := message(1<<20), []byte(nil)
	buf = AppendEnvelope(buf, e)
	b.Run("append", func(b *testing.B) {
		for b.Loop() {
			buf = AppendEnvelope(buf[:0], e)
		}
	})
	b.Run("decode", func(b *testing.B) {
		var out Envelope
		for b.Loop() {
			if _, err := DecodeEnvelope(buf, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkInbox(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			box, batch := NewInbox(nil), make([]Envelope, n)
			for i := range batch {
				batch[i] = *message(1)
			}
			for i := 0; i < b.N; i += n {
				box.Push(nil, batch...)
				box.Done(box.Drain())
			}
		})
	}
}

// counter is a receiver that credits back at once and tells when a number has come.
type counter struct {
	up      chan *Stream
	reached chan struct{}
	target  atomic.Int64
	got     int64
}

func (c *counter) Up(s *Stream) { c.up <- s }
func (c *counter) Receive(s *Stream, batch []Envelope) {
	n := 0
	for i := range batch {
		n += batch[i].Size()
	}
	s.Done(batch[0].Group, n)
	before := c.got
	c.got += int64(len(batch))
	if t := c.target.Load(); before < t && c.got >= t {
		c.reached <- struct{}{}
	}
}
func (c *counter) Down(*Stream, error) {}

func newCounter() *counter {
	return &counter{up: make(chan *Stream, 1), reached: make(chan struct{}, 1)}
}

// flow sends b.N envelopes n at a time; the next n go when the last have arrived. It reports, besides the time, the CPU of the whole
// process per envelope: both ends, the receiver's crediting and the waiting included.
func flow(b *testing.B, s *Stream, to *counter, n int) {
	e := message(1 << 20)
	cpu := cpuTime(b)
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= n {
		k := min(n, left)
		to.target.Add(int64(k))
		for range k {
			for err := s.Send(e); err != nil; err = s.Send(e) {
				if !errors.Is(err, ErrNoCredit) {
					b.Fatal(err)
				}
				time.Sleep(100 * time.Microsecond) // the grant is on its way, and wakes nobody who has not sent
			}
		}
		<-to.reached
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func flows(b *testing.B, s *Stream, to *counter) {
	for _, n := range []int{1, 8, 64, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { flow(b, s, to, n) })
	}
}

func BenchmarkPair(b *testing.B) {
	from, to := newCounter(), newCounter()
	defer Connect(NewEndpoint(info(RoleGateway), from, Options{}), NewEndpoint(info(RoleRouter), to, Options{}))()
	flows(b, <-from.up, to)
}

func BenchmarkGRPC(b *testing.B) {
	ca, from, to := newAuthority(b), newCounter(), newCounter()
	addr, _ := serve(b, "127.0.0.1:0", ca.config(b), NewEndpoint(info(RoleRouter), to, Options{}))
	dial(b, NewEndpoint(info(RoleGateway), from, Options{}), addr, RoleRouter, ca.config(b))
	flows(b, <-from.up, to)
}
