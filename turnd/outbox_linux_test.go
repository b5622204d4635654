package turnd

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
)

// TestOutbox: packets of all lengths leave in order, whether they are sent as runs or not.
func TestOutbox(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	for _, singly := range []bool{false, true} {
		sock, err := openFast(s.pollers[0], netip.MustParseAddrPort("127.0.0.1:0"), false, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer sock.close()
		sock.singly.Store(singly)
		p := newPeer(t)
		var o outbox
		o.init()
		o.to(sock, p.addr())
		var want []string
		for i, n := range []int{100, 100, 100, 40, 40, 41, 41, 1400, 1400, 1500, 1500, 1, 0, 1, 1} {
			head, body := []byte(fmt.Sprint(i % 10))[:min(n, 1)], bytes.Repeat([]byte{'p'}, max(n-1, 0))
			want = append(want, string(head)+string(body))
			if !o.add(head, body) {
				t.Fatal("no room")
			}
		}
		headers := o.count
		if sent, failed := o.send(sock); sent != len(want) || failed != 0 {
			t.Fatalf("singly %v: sent %d, failed %d", singly, sent, failed)
		}
		for i, w := range want {
			if got, _ := p.receive(); got != w {
				t.Fatalf("singly %v: packet %d has %d bytes, want %d", singly, i, len(got), len(w))
			}
		}
		if singly && headers != len(want) || !singly && headers > len(want)/2+2 {
			t.Errorf("singly %v: %d headers for %d packets", singly, headers, len(want))
		}
	}
}

// TestRunRefused: a run that the kernel does not take goes packet by packet, and if that is not because of the length of its packets, no other is tried.
func TestRunRefused(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	sock, err := openFast(s.pollers[0], netip.MustParseAddrPort("127.0.0.1:0"), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sock.close()
	if err := unix.SetsockoptInt(sock.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil { // runs need checksums
		t.Fatal(err)
	}
	p := newPeer(t)
	var o outbox
	o.init()
	for round, size := range []int{1000, anyPath - 1, anyPath - 1} {
		body := strings.Repeat("b", size)
		o.to(sock, p.addr())
		for i := range 5 {
			o.add([]byte{'0' + byte(i)}, []byte(body))
		}
		if sent, failed := o.send(sock); sent != 5 || failed != 0 {
			t.Fatalf("sent %d, failed %d", sent, failed)
		}
		for i := range 5 {
			if got, _ := p.receive(); got != fmt.Sprint(i)+body {
				t.Fatalf("packet %d: %q", i, got)
			}
		}
		if singly := sock.singly.Load(); singly != (round > 0) {
			t.Fatalf("round %d: no more runs from this socket: %v", round, singly)
		}
	}
}

// TestFullSocket: what a full socket does not take is lost and counted, nothing waits, and what comes later goes. (Two sockets of one
// machine's loopback interface are never full in this way, two of the Unix domain are.)
func TestFullSocket(t *testing.T) {
	p := newPath(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	sock := &fastSocket{fd: pair[0], poller: p.server.pollers[0], done: make(chan struct{})}
	defer sock.close()
	sock.singly.Store(true)
	var b batch
	if err := b.init(p.server); err != nil {
		t.Fatal(err)
	}
	defer b.in.free()
	const n, each = 600, 100 // more than one outbox takes, and more than the kernel lets wait
	round := func() (sent uint64) {
		before := p.alloc.traffic.sentPackets.Load()
		b.aim(p.alloc, toPeers, sock, p.peer.addr())
		b.out.nameLen = 0 // the pair has no names
		for range n {
			b.add(nil, make([]byte, each), each)
		}
		b.flush()
		return p.alloc.traffic.sentPackets.Load() - before
	}
	sent := round()
	if sent == 0 || sent == n {
		t.Fatalf("%d packets of %d were sent", sent, n)
	}
	if lost := testutil.ToFloat64(p.server.count.drops[SendFailed]); lost != float64(n-sent) {
		t.Errorf("%v packets are counted as lost, %d are", lost, n-sent)
	}
	if got := p.alloc.traffic.sentBytes.Load(); got != sent*each {
		t.Errorf("%d bytes are counted, of %d packets", got, sent)
	}
	for got, space := uint64(0), make([]byte, 2*each); ; got++ {
		if size, err := unix.Read(pair[1], space); err != nil {
			if got != sent {
				t.Errorf("%d packets came, %d were sent", got, sent)
			}
			break
		} else if size != each {
			t.Fatalf("a packet of %d bytes", size)
		}
	}
	if again := round(); again != sent {
		t.Errorf("%d packets went when there was room again, %d before", again, sent)
	}
}

// TestSpace: when there is no more room for copies, what was made is sent before its memory is used again.
func TestSpace(t *testing.T) {
	p := newPath(t)
	other := newPeer(t)
	if code := p.device.request(permissionRequest, wantPeers(other.addr())); code != 0 {
		t.Fatalf("CreatePermission: %d", code)
	}
	if err := p.device.conn.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	var b batch
	if err := b.init(p.server); err != nil {
		t.Fatal(err)
	}
	defer b.in.free()
	const each, size = 40, 1399
	for run := range 2 {
		payload := make([]byte, headroom, headroom+each*size+4)
		for i := range each {
			payload = append(payload, bytes.Repeat([]byte{byte(run*each + i)}, size)...)
		}
		p.alloc.relay.fromPeers(&b, payload, size, other.addr())
	}
	b.flush()
	for i := range 2 * each {
		var m message
		got := p.device.receive()
		if !m.parse(got) || !bytes.Equal(m.data, bytes.Repeat([]byte{byte(i)}, size)) {
			t.Fatalf("indication %d is wrong: %.60x", i, got)
		}
	}
}
