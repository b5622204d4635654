package tuning

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// udp opens a socket on a port of the loopback device that the kernel chooses; buffer is what it asks for, 0: nothing.
func (s *sockets) udp(buffer int) (fd, port int) {
	s.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.fds = append(s.fds, fd)
	if buffer > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		s.t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		s.t.Fatal(err)
	}
	return fd, at.(*unix.SockaddrInet4).Port
}

// TestMeasureRelayBuffer: how many packets of a call wait at a socket that nobody reads. net.core.rmem_max bounds what a socket asks for.
func TestMeasureRelayBuffer(t *testing.T) {
	const n, size = 20_000, 200
	waiting := func(buffer int) (count int) {
		inNamespace(t, func() {
			s := &sockets{t: t}
			defer s.closeAll()
			to, port := s.udp(buffer)
			from, _ := s.udp(0)
			packet := make([]byte, size)
			for range n {
				_ = unix.Sendto(from, packet, 0, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
			}
			for {
				if _, _, err := unix.Recvfrom(to, packet, 0); err != nil {
					return
				}
				count++
			}
		})
		return count
	}
	plain, small, large := waiting(0), waiting(212992), waiting(relayBuffer)
	t.Logf("of %d packets of %d B that nobody reads, %d wait in a buffer as it comes, %d in one of 212992, %d in one of %d", n, size, plain, small, large, relayBuffer)
	if plain == 0 || small <= plain || large < 10*small {
		t.Error("a larger buffer does not hold more")
	}
}

// TestMeasureReservedPorts: others who ask for any port do not get those of relays when these are reserved.
func TestMeasureReservedPorts(t *testing.T) {
	const n = 2000
	taken := func(reserved string) (count int) {
		inNamespace(t, func() {
			set(t, "net.ipv4.ip_local_reserved_ports", reserved)
			s := &sockets{t: t}
			defer s.closeAll()
			for range n {
				if _, port := s.udp(0); port >= relayFirstPort && port <= relayLastPort {
					count++
				}
			}
		})
		return count
	}
	p := plan{Target: Target{Allocations: 1}}
	var want string
	for _, k := range linuxRelay {
		if k.rule == covering {
			want = k.want(p)
		}
	}
	without, with := taken(""), taken(want)
	t.Logf("of %d sockets of others, %d took a port of relays; %d with ip_local_reserved_ports=%s", n, without, with, want)
	if without == 0 || with != 0 {
		t.Errorf("%d and %d", without, with)
	}
}

// TestMeasureTracking: what connection tracking costs a packet of a call, and what of that the printed rules save.
func TestMeasureTracking(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("no nft here")
	}
	printed, err := os.ReadFile("testdata/linux/etc/nftables.d/linecard-notrack.nft")
	if err != nil {
		t.Fatal(err)
	}
	const stateful = "table inet t { chain input { type filter hook input priority filter; policy accept; ct state established accept; }; }\n"
	const calls = 500
	n := 10_000
	if os.Getenv("LINECARD_LONG") != "" {
		n = 400_000
	}
	var unloaded error
	cost := func(rules string) (perPacket time.Duration, tracked int) {
		inNamespace(t, func() {
			cmd := exec.Command(nft, "-f", "-") // in the namespace of this thread
			cmd.Stdin = strings.NewReader(rules)
			if out, err := cmd.CombinedOutput(); err != nil {
				unloaded = fmt.Errorf("%w: %s", err, out)
				return
			}
			set(t, "net.ipv4.ip_local_port_range", "49152 65535") // these are relays
			s := &sockets{t: t}
			defer s.closeAll()
			var from, to [calls]int
			var at [calls]unix.SockaddrInet4
			for i := range calls {
				from[i], _ = s.udp(0)
				to[i], at[i].Port = s.udp(0)
				at[i].Addr = [4]byte{127, 0, 0, 1}
			}
			packet := make([]byte, 200)
			var before, after unix.Rusage
			_ = unix.Getrusage(unix.RUSAGE_THREAD, &before)
			for i := range n {
				_ = unix.Sendto(from[i%calls], packet, 0, &at[i%calls])
				_, _, _ = unix.Recvfrom(to[i%calls], packet, 0)
			}
			_ = unix.Getrusage(unix.RUSAGE_THREAD, &after)
			perPacket = time.Duration(after.Stime.Nano()-before.Stime.Nano()+after.Utime.Nano()-before.Utime.Nano()) / time.Duration(n)
			if rules != "" {
				tracked, _ = strconv.Atoi(sysctlOf(t, "net.netfilter.nf_conntrack_count"))
			}
		})
		return perPacket, tracked
	}
	none, _ := cost("")
	with, flows := cost(stateful)
	if unloaded != nil {
		t.Skip("this kernel has no rules that look at states: ", unloaded)
	}
	without, left := cost(stateful + string(printed))
	t.Logf("a packet of %d calls: %v without rules, %v with a rule that looks at states (%d flows), %v with linecard-notrack.nft besides (%d flows)",
		calls, none, with, flows, without, left)
	if flows < calls || left != 0 || unloaded != nil {
		t.Errorf("%d and %d flows are tracked: %v", flows, left, unloaded)
	}
}
