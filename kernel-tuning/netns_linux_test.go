package tuning

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread in a network namespace of its own with a loopback device, where any sysctl of the network that a
// namespace has may be set: nothing of it is seen outside, and it ends with the thread. It needs the rights of root.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = loopbackUp()
		}
		if err != nil {
			done <- err
			return
		}
		defer close(done) // also when a test ends by FailNow
		f()
	}()
	if err := <-done; errors.Is(err, unix.EPERM) {
		t.Skip("a network namespace needs root")
	} else if err != nil {
		t.Fatal(err)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// eventually polls for what the kernel does in its own time, which is long on a machine with much else to do.
func eventually(done func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// set writes a sysctl of this thread's namespace.
func set(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile(sysctlPath(name), []byte(value), 0); err != nil {
		t.Errorf("%s = %s: %v", name, value, err)
	}
}

// sysctlOf reads a sysctl of this thread's namespace.
func sysctlOf(t *testing.T, name string) string {
	t.Helper()
	h := &host{os: "linux", live: true}
	v, err := h.sysctl(name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return v
}

// counter returns a number of /proc/net/netstat or snmp, such as TcpExt ListenDrops, of this thread's namespace.
func counter(t *testing.T, group, name string) int {
	t.Helper()
	for _, file := range []string{"/proc/thread-self/net/netstat", "/proc/thread-self/net/snmp"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			return -1
		}
		var names []string
		for line := range bytes.Lines(text) {
			f := strings.Fields(string(line))
			if f[0] != group+":" {
				continue
			}
			if names == nil {
				names = f
				continue
			}
			for i := range names {
				if names[i] == name {
					n, _ := strconv.Atoi(f[i])
					return n
				}
			}
		}
	}
	t.Errorf("no counter %s %s", group, name)
	return -1
}

// sockstat returns a number of the TCP line of /proc/net/sockstat.
func sockstat(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/sockstat")
	if err != nil {
		t.Error(err)
		return -1
	}
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		for i := 1; f[0] == "TCP:" && i+1 < len(f); i += 2 {
			if f[i] == name {
				n, _ := strconv.Atoi(f[i+1])
				return n
			}
		}
	}
	t.Errorf("no %s in sockstat", name)
	return -1
}

// slab returns the size of an object of a kernel cache, 0 where it cannot be seen.
func slab(cache string) int {
	text, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) > 3 && f[0] == cache {
			n, _ := strconv.Atoi(f[3])
			return n
		}
	}
	return 0
}

// sockets opens and closes raw sockets: no poller of Go's between a test and the kernel.
type sockets struct {
	t   *testing.T
	fds []int
}

func (s *sockets) closeAll() {
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	s.fds = nil
}

func (s *sockets) open() int {
	s.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.fds = append(s.fds, fd)
	return fd
}

var loopback = [4]byte{127, 0, 0, 1}

// listen listens on a port of the loopback, 0 for a free one, and returns the port.
func (s *sockets) listen(port, backlog int) (fd, at int) {
	s.t.Helper()
	fd = s.open()
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: loopback})
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		s.t.Fatal(err)
	}
	return fd, sa.(*unix.SockaddrInet4).Port
}

// dial starts a connection.
func (s *sockets) dial(port int) int {
	s.t.Helper()
	fd := s.open()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: loopback}); err != nil && err != unix.EINPROGRESS {
		s.t.Fatal(err)
	}
	return fd
}

// accept takes everything that a listener has.
func (s *sockets) accept(listener int) []int {
	var got []int
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			s.fds = append(s.fds, got...)
			return got
		}
		got = append(got, fd)
	}
}

// pairs makes n connections and returns their client and server ends.
func (s *sockets) pairs(n int) (clients, servers []int) {
	s.t.Helper()
	listener, port := s.listen(0, 1<<15)
	for range n {
		clients = append(clients, s.dial(port))
		if len(clients)%64 == 0 {
			servers = append(servers, s.accept(listener)...)
		}
	}
	if !eventually(func() bool {
		servers = append(servers, s.accept(listener)...)
		return len(servers) == n
	}) {
		s.t.Fatalf("%d of %d connections came", len(servers), n)
	}
	return clients, servers
}

// connected reports whether a connection is established at this end.
func connected(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == 1
}

// fill writes pieces of size bytes until the kernel takes no more, and returns how many bytes it took.
func fill(fd, size int) int {
	piece, total := make([]byte, size), 0
	for {
		n, err := unix.Write(fd, piece)
		if err != nil {
			return total
		}
		total += n
	}
}
