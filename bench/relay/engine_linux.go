package relay

import (
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// engine moves packets. One goroutine's.
type engine struct {
	o        Options
	sessions []*session
	poll     int
	timer    int // ticks for each packet to send; -1 flat out
	next     int // session
	out, in  []byte
	start    time.Time

	relayed, lost int64
	trips         *hdrhistogram.Histogram
}

// stuck is how long nothing may come back to a session before what is under way is taken for lost.
const stuck = int64(200 * time.Millisecond)

// maxBurst bounds how many packets are sent at once when the timer was missed.
const maxBurst = 64

func newEngine(o Options, sessions []*session) (*engine, error) {
	e := &engine{o: o, sessions: sessions, timer: -1, out: frame(o.Size), in: make([]byte, 2048), start: time.Now(), trips: newTrips()}
	var err error
	if e.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("relay bench: poller: %w", err)
	}
	for i, s := range sessions {
		if s.clientFD, err = e.watch(s.client, 2*i); err != nil {
			return nil, err
		}
		if s.peerFD, err = e.watch(s.peer, 2*i+1); err != nil {
			return nil, err
		}
	}
	if o.Rate > 0 {
		return e, e.pace()
	}
	return e, nil
}

// watch has the poller tell of a socket under a number. The descriptor stays the connection's, which lives longer.
func (e *engine) watch(c *net.UDPConn, number int) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(d uintptr) {
		fd = int(d)
		failed = unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(number)})
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return 0, fmt.Errorf("relay bench: poller: %w", err)
	}
	return fd, nil
}

// pace starts the timer: one tick for each echo, which is two packets.
func (e *engine) pace() (err error) {
	if e.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return fmt.Errorf("relay bench: timer: %w", err)
	}
	every := unix.NsecToTimespec(2e9 / int64(e.o.Rate))
	if err = unix.TimerfdSettime(e.timer, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return fmt.Errorf("relay bench: timer: %w", err)
	}
	if err = unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, e.timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		return fmt.Errorf("relay bench: timer: %w", err)
	}
	return nil
}

func (e *engine) close() {
	unix.Close(e.poll)
	if e.timer >= 0 {
		unix.Close(e.timer)
	}
}

func (e *engine) now() int64 { return int64(time.Since(e.start)) }

// reset begins the time that is measured.
func (e *engine) reset() {
	e.relayed, e.lost = 0, 0
	e.trips.Reset()
}

// run moves packets for a while.
func (e *engine) run(d time.Duration) error {
	runtime.LockOSThread() // one thread, so that it has a processor as long as it has something to do
	defer runtime.UnlockOSThread()
	events := make([]unix.EpollEvent, 256)
	end := e.now() + int64(d)
	for look := int64(0); ; {
		now := e.now()
		if now >= end {
			return nil
		}
		if now >= look {
			look = now + stuck/4
			e.refill(now)
		}
		n, err := unix.EpollWait(e.poll, events, 20)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("relay bench: poller: %w", err)
		}
		for _, v := range events[:max(n, 0)] {
			switch {
			case v.Fd < 0:
				e.tick()
			case v.Fd%2 == 1:
				e.echo(e.sessions[v.Fd/2])
			default:
				e.back(e.sessions[v.Fd/2])
			}
		}
	}
}

// refill gives sessions their window, and those that are stuck another one.
func (e *engine) refill(now int64) {
	for _, s := range e.sessions {
		if s.underWay > 0 && now-s.last > stuck {
			e.lost += int64(s.underWay)
			s.underWay, s.last = 0, now
		}
		if e.o.Rate == 0 {
			for s.underWay < e.o.Window {
				e.send(s, now)
			}
		}
	}
}

// tick sends what the timer says.
func (e *engine) tick() {
	var b [8]byte
	if _, err := unix.Read(e.timer, b[:]); err != nil {
		return
	}
	for range min(binary.NativeEndian.Uint64(b[:]), maxBurst) {
		s := e.sessions[e.next]
		e.next = (e.next + 1) % len(e.sessions)
		e.send(s, e.now())
	}
}

func (e *engine) send(s *session, now int64) {
	binary.BigEndian.PutUint64(e.out[4:], uint64(now))
	if s.underWay == 0 {
		s.last = now
	}
	s.underWay++
	_, _ = unix.Write(s.clientFD, e.out) // what is not sent counts as lost
}

// burst is how many packets are read from a socket before the others have their turn.
const burst = 16

// echo sends back what a peer got.
func (e *engine) echo(s *session) {
	for range burst {
		n, err := unix.Read(s.peerFD, e.in)
		if err != nil {
			return
		}
		e.relayed++
		_, _ = unix.Write(s.peerFD, e.in[:n])
		if e.o.Rate > 0 {
			return // one is all that there is, nearly always
		}
	}
}

// back takes what came back to a client; flat out the next one follows.
func (e *engine) back(s *session) {
	for range burst {
		n, err := unix.Read(s.clientFD, e.in)
		if err != nil {
			return
		}
		if n < 12 || e.in[0]>>6 != 1 {
			continue
		}
		now := e.now()
		e.relayed++
		s.underWay = max(s.underWay-1, 0)
		s.last = now
		_ = e.trips.RecordValue(now - int64(binary.BigEndian.Uint64(e.in[4:])))
		if e.o.Rate > 0 {
			return
		}
		e.send(s, now)
	}
}
