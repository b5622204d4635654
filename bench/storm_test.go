package bench

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/internal/wire"
)

const (
	stormRate     = 1000 // messages per second beside the storm: little, so that what they wait for is the storm
	stormInFlight = 64
	stormFor      = 5 * time.Second
)

// BenchmarkStorm measures what messages of established sessions wait for while strangers storm the server: they send message 1, take
// message 2, for which the server has computed three Diffie-Hellmans, and are gone. It costs them next to nothing, so that the CPU of the
// handshakes is the server's alone.
func BenchmarkStorm(b *testing.B) {
	l := newLoad(start(b), *pairsFlag, untilReceipt)
	l.register()
	r := l.pace(stormRate)
	l.s.rest(warmUp)
	quiet := l.sample(stormFor)
	end := l.storm()
	l.s.rest(warmUp)
	before := l.s.usage()
	profiled := l.s.profile(stormFor - time.Second)
	stormed := l.sample(stormFor)
	profiled()
	c, done := l.s.usage().since(before), end()
	r.end()
	name := "message, 1000, beside a storm"
	b.ReportMetric(quiet.percentile(99), "quiet-p99-ms")
	b.ReportMetric(stormed.percentile(99), "storm-p99-ms")
	table.add("message, 1000: send to ack before a storm of handshakes, p50 / p99", "-", "%s", quiet)
	table.add("  during it, p50 / p99", "-", "%s", stormed)
	table.add("  99th percentile, times the quiet one", "5", "%.1f", stormed.percentile(99)/quiet.percentile(99))
	table.add("  handshakes begun per second; server CPU for each, messages included", "-", "%.0f; %.0f us",
		float64(done)/(stormFor+warmUp).Seconds(), micros(c.server())/(float64(done)*stormFor.Seconds()/(stormFor+warmUp).Seconds()))
	table.chart(quiet.histogram(name + ", before: send to ack"))
	table.chart(stormed.histogram(name + ", during: send to ack"))
	reportShares(b, "a handshake's first half", micros(c.server())/(float64(done)*stormFor.Seconds()/(stormFor+warmUp).Seconds()))
}

// sample returns the times from sending to the ack over d, while a pacer sends.
func (l *load) sample(d time.Duration) samples {
	for _, p := range l.pairs {
		p.a.Lock()
		p.ackTimes = p.ackTimes[:0]
		p.a.Unlock()
	}
	l.sampling.Store(true)
	l.s.rest(d)
	l.sampling.Store(false)
	return l.gather(func(p *pair) samples { return p.ackTimes })
}

// storm starts strangers; end stops them and returns how many handshakes they began.
func (l *load) storm() (end func() int64) {
	key, err := wire.GenerateKeypair(nil)
	if err != nil {
		l.s.b.Fatal(err)
	}
	hello, err := wire.NewInitiator(key, nil).AppendHello(append([]byte(nil), wire.Preamble[:]...), wire.Preamble[:])
	if err != nil {
		l.s.b.Fatal(err)
	}
	var done atomic.Int64
	var stop atomic.Bool
	var strangers sync.WaitGroup
	for range stormInFlight {
		strangers.Go(func() {
			for !stop.Load() {
				if err := stranger(l.s.Server, hello); err != nil {
					l.s.fail(err)
					return
				}
				done.Add(1)
			}
		})
	}
	return func() int64 {
		stop.Store(true)
		strangers.Wait()
		return done.Load()
	}
}

// stranger takes one handshake to message 2.
func stranger(addr string, hello []byte) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := nc.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := nc.Write(hello); err != nil {
		return err
	}
	var head [wire.LenSize]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return err
	}
	size, _ := wire.FrameLen(head[:])
	_, err = io.CopyN(io.Discard, nc, int64(size))
	return err
}
