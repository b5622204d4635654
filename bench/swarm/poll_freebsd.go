package swarm

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// poller is level-triggered kqueue. Loop only.
type poller struct {
	fd     int
	events [pollBatch]unix.Kevent_t
}

// ready is one event. A hang-up shows as readable: reading says what it is.
type ready struct {
	fd      int
	in, out bool
	hangup  bool // the connection is over in both directions
}

func newPoller() (*poller, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, fmt.Errorf("swarm: kqueue: %w", err)
	}
	unix.CloseOnExec(fd)
	return &poller{fd: fd}, nil
}

// change enables or disables one filter. Disabling one that was never added is no fault.
func (p *poller) change(fd, filter int, on bool) error {
	flags := unix.EV_DELETE
	if on {
		flags = unix.EV_ADD
	}
	var ev [1]unix.Kevent_t
	unix.SetKevent(&ev[0], fd, filter, flags)
	_, err := unix.Kevent(p.fd, ev[:], nil, nil)
	if err == unix.ENOENT && !on {
		return nil
	}
	return err
}

// add begins to watch fd. Closing fd ends it.
func (p *poller) add(fd int, in, out bool) error {
	if in {
		if err := p.change(fd, unix.EVFILT_READ, true); err != nil {
			return err
		}
	}
	if out {
		return p.change(fd, unix.EVFILT_WRITE, true)
	}
	return nil
}

// set changes what is watched for.
func (p *poller) set(fd int, in, out bool) error {
	if err := p.change(fd, unix.EVFILT_READ, in); err != nil {
		return err
	}
	return p.change(fd, unix.EVFILT_WRITE, out)
}

// wait calls each for what is ready, after at most d; below 0 means for ever.
func (p *poller) wait(d time.Duration, each func(ready)) error {
	var timeout *unix.Timespec
	if d >= 0 {
		ts := unix.NsecToTimespec(int64(d))
		timeout = &ts
	}
	n, err := unix.Kevent(p.fd, nil, p.events[:], timeout)
	if err == unix.EINTR {
		return nil
	}
	if err != nil {
		return fmt.Errorf("swarm: kevent: %w", err)
	}
	for _, ev := range p.events[:n] {
		each(ready{
			fd: int(ev.Ident), in: ev.Filter == unix.EVFILT_READ, out: ev.Filter == unix.EVFILT_WRITE,
			hangup: ev.Flags&unix.EV_EOF != 0 && ev.Fflags != 0,
		})
	}
	return nil
}

func (p *poller) close() error { return unix.Close(p.fd) }
