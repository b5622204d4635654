package swarm

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is level-triggered epoll. Loop only.
type poller struct {
	fd     int
	events [pollBatch]unix.EpollEvent
	coarse bool // no epoll_pwait2: waits are whole milliseconds
}

// ready is one event. A hang-up shows as readable: reading says what it is.
type ready struct {
	fd      int
	in, out bool
	hangup  bool // the connection is over in both directions
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("swarm: epoll: %w", err)
	}
	return &poller{fd: fd}, nil
}

func interest(in, out bool) (events uint32) {
	if in {
		events |= unix.EPOLLIN
	}
	if out {
		events |= unix.EPOLLOUT
	}
	return events
}

// add begins to watch fd. Closing fd ends it.
func (p *poller) add(fd int, in, out bool) error {
	ev := unix.EpollEvent{Events: interest(in, out), Fd: int32(fd)}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &ev)
}

// set changes what is watched for.
func (p *poller) set(fd int, in, out bool) error {
	ev := unix.EpollEvent{Events: interest(in, out), Fd: int32(fd)}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &ev)
}

// wait calls each for what is ready, after at most d; below 0 means for ever.
func (p *poller) wait(d time.Duration, each func(ready)) error {
	n, err := p.epollWait(d)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("swarm: epoll wait: %w", err)
	}
	for _, ev := range p.events[:n] {
		over := ev.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0
		each(ready{fd: int(ev.Fd), in: ev.Events&unix.EPOLLIN != 0 || over, out: ev.Events&unix.EPOLLOUT != 0, hangup: over})
	}
	return nil
}

// epollWait waits with the resolution of the kernel's timers: a schedule of messages that is late by up to a millisecond would show
// that millisecond as latency. Kernels before 5.11 wait in whole milliseconds, rounded down.
func (p *poller) epollWait(d time.Duration) (int, error) {
	if d <= 0 || d >= time.Second || p.coarse {
		ms := -1
		if d >= 0 {
			ms = int(min(d/time.Millisecond, 1<<30))
		}
		return unix.EpollWait(p.fd, p.events[:], ms)
	}
	ts := unix.NsecToTimespec(int64(d))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)),
		uintptr(unsafe.Pointer(&ts)), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOSYS:
		p.coarse = true
		return p.epollWait(d)
	}
	return 0, errno
}

func (p *poller) close() error { return unix.Close(p.fd) }
