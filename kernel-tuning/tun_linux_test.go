package tuning

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTun makes a tun device with the address 10.0.0.1/8 in this thread's namespace; packets written to it arrive from there, and
// what is sent there goes nowhere.
func openTun(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := unix.NewIfreq("lc0")
	if err != nil {
		t.Fatal(err)
	}
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		t.Fatal(err)
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(control)
	for _, step := range []struct {
		request uint
		address [4]byte
	}{{unix.SIOCSIFADDR, [4]byte{10, 0, 0, 1}}, {unix.SIOCSIFNETMASK, [4]byte{255, 0, 0, 0}}} {
		if err := r.SetInet4Addr(step.address[:]); err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlIfreq(control, step.request, r); err != nil {
			t.Fatal(err)
		}
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, r); err != nil {
		t.Fatal(err)
	}
	return fd
}

// listenAny listens on all addresses.
func (s *sockets) listenAny(backlog int) (fd, at int) {
	s.t.Helper()
	fd = s.open()
	if err := unix.Listen(fd, backlog); err != nil { // binds to a free port by itself
		s.t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		s.t.Fatal(err)
	}
	return fd, sa.(*unix.SockaddrInet4).Port
}

// syn is the IPv4 packet that asks for a connection from the i-th address of 10.1.0.0/16 to 10.0.0.1.
func syn(i uint32, port uint16) []byte {
	p := make([]byte, 40)
	ip, tcp := p[:20], p[20:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(p)))
	copy(ip[12:], []byte{10, 1, byte(i >> 8), byte(i)})
	copy(ip[16:], []byte{10, 0, 0, 1})
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], port)
	binary.BigEndian.PutUint32(tcp[4:], 1000+i)
	tcp[12], tcp[13] = 5<<4, 2 // 20 bytes, SYN
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	pseudo := append(append([]byte{}, ip[12:20]...), 0, unix.IPPROTO_TCP, 0, 20)
	binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))
	return p
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// halfOpen counts the sockets of this thread's namespace that wait for the end of a handshake.
func halfOpen(t *testing.T) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) > 3 && f[3] == "03" { // TCP_SYN_RECV
			n++
		}
	}
	return n
}
