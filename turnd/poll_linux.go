package turnd

import (
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller reads sockets and relays what they have, on one goroutine: a UDP listener's socket, and the relays of its clients, so that a packet
// is on one processor from where it comes in to where it goes out. Nothing on it may wait: not for a connection, not for long for a lock.
type poller struct {
	server *Server
	fd     int
	wake   int // an eventfd that ends it

	mu      sync.Mutex
	sockets map[int32]*fastSocket // by descriptor
	running bool
	closed  bool

	turning turning // the goroutine tells

	// the goroutine's
	list  [events]unix.EpollEvent // not on its stack, which moves
	batch batch
	naps  naps
	quiet int           // waits in a row that found nothing
	more  []*fastSocket // held: the last call did not read all that they had
	spare []*fastSocket
}

// events is how many sockets one look finds.
const events = 128

// rounds is how many looks find something before other goroutines have their turn.
const rounds = 64

// quietRounds is after how many waits in a row without a packet a poller gives its processor away; each is as long as it takes the
// runtime to ask for something, 10 ms, or longest, in milliseconds, where it does not.
const (
	quietRounds = 2
	longest     = 100
)

func newPoller(s *Server) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	p := &poller{server: s, fd: fd, sockets: map[int32]*fastSocket{}}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("eventfd", err)
	}
	err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, p.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.wake)})
	if err == nil {
		err = p.batch.init(s)
	}
	if err != nil {
		_ = unix.Close(p.wake)
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return p, nil
}

// add has the poller read a socket.
func (p *poller) add(s *fastSocket) error {
	if !s.hold() {
		return nil
	}
	defer s.release()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	p.sockets[int32(s.fd)] = s
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(s.fd)}))
}

// remove is called before a socket is closed, which takes it from the kernel's list.
func (p *poller) remove(s *fastSocket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sockets[int32(s.fd)] == s {
		delete(p.sockets, int32(s.fd))
	}
}

// get returns a socket that has something, held; nil: it is gone, and if there is another one with its descriptor it does not matter that
// that one is looked at too.
func (p *poller) get(fd int32) *fastSocket {
	p.mu.Lock()
	s := p.sockets[fd]
	p.mu.Unlock()
	if s == nil || !s.hold() { // outside of the lock: the last one to let go of a socket calls remove
		return nil
	}
	return s
}

// run reads until close, and frees what the poller has.
func (p *poller) run() error {
	var errno syscall.Errno
	p.mu.Lock()
	p.running = !p.closed
	start := p.running
	p.mu.Unlock()
	if start {
		errno = p.loop()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closed = true
		p.free()
	}
	if errno != 0 {
		return os.NewSyscallError("epoll_pwait", errno)
	}
	return nil
}

// The kernel tells of a socket once (EPOLLET), and again when more comes; what one call did not read is read in the next round.
func (p *poller) loop() syscall.Errno {
	for round, n := 0, 0; ; round++ {
		var err syscall.Errno
		p.turning.waits()
		if n, err = p.wait(n > 1); err != 0 && err != unix.EINTR {
			return err // only a descriptor that is none can be the reason
		}
		p.turning.works(p.server.now())
		p.more, p.spare = p.spare[:0], p.more
		for _, s := range p.spare {
			s.more = false
			p.read(s)
		}
		for i := range n {
			if p.list[i].Fd == int32(p.wake) {
				p.drop()
				return 0
			}
			if s := p.get(p.list[i].Fd); s != nil {
				p.read(s)
			}
		}
		p.gather()
		if round%rounds == 0 && !p.server.deps.Alone {
			runtime.Gosched()
		}
	}
}

// gather lets packets come together where there are many (naps).
func (p *poller) gather() {
	b := &p.batch
	if wanted := p.naps.note(b.packets, b.runs, b.now); wanted && len(p.more) == 0 {
		from := p.server.now()
		_ = nap(p.server.deps.Alone) // a signal may end it
		now := p.server.now()
		p.naps.took(now-from, now)
	}
	b.packets, b.runs = 0, 0
}

// read reads a socket once, which must be held. What is to be closed is let go instead: who sends to it without a pause would keep it, and its port.
func (p *poller) read(s *fastSocket) {
	if !s.closing() && p.batch.read(s) && !s.more {
		s.more = true
		p.more = append(p.more, s)
		return
	}
	s.release()
}

// drop lets go of what is held.
func (p *poller) drop() {
	for _, s := range p.more {
		s.release()
	}
}

// wait finds sockets that have something, and returns how many are in list.
//
// A system call that waits costs little in Go, but the runtime's monitor, which looks for threads in system calls every 20 us as long as it
// finds some, costs as much as 5,000 packets per second each. So a poller that has work keeps its processor while it waits, without
// telling the scheduler: the runtime interrupts such a call with a signal whenever it wants something (a collection, a preemption), and then
// it ends with EINTR. That is only done where the process has processors to spare for it (Deps.Alone).
func (p *poller) wait(busy bool) (int, syscall.Errno) {
	timeout := uintptr(0)
	keep := p.server.deps.Alone && p.quiet < quietRounds
	if keep && len(p.more) == 0 {
		timeout = longest
	}
	if keep || busy || len(p.more) > 0 {
		n, _, err := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.list)), events, timeout, 0, 0)
		if err != 0 || n == 0 {
			p.quiet++
		} else {
			p.quiet = 0
		}
		if err != 0 {
			return 0, err
		}
		if n > 0 || len(p.more) > 0 || timeout > 0 {
			return int(n), 0
		}
	}
	p.quiet = 0
	forever := -1
	n, _, err := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.list)), events, uintptr(forever), 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(n), 0
}

// close ends run; without it, it frees what the poller has.
func (p *poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	if !p.running {
		p.free()
		return
	}
	one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1}
	_, _ = unix.Write(p.wake, one[:])
}

func (p *poller) free() {
	_ = unix.Close(p.fd)
	_ = unix.Close(p.wake)
	p.batch.in.free()
}
