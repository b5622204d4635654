package turnd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
)

// TestReadsAll: what one call does not read is said to be left.
func TestReadsAll(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	sock, err := openFast(s.pollers[0], netip.MustParseAddrPort("127.0.0.1:0"), false, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer sock.close()
	p := newPeer(t)
	const n = 2*slots + 3
	for i := range n {
		p.send(fmt.Sprint(i), sock.local())
	}
	var got []string
	sock.handle = func(_ *batch, b []byte, segment int, from netip.AddrPort) {
		if from != p.addr() || segment != len(b)-headroom {
			t.Errorf("from %v, segment %d of %d", from, segment, len(b)-headroom)
		}
		got = append(got, string(b[headroom:]))
	}
	var b batch
	if err := b.init(s); err != nil {
		t.Fatal(err)
	}
	defer b.in.free()
	for i, want := range []bool{true, true, false} {
		if more := b.read(sock); more != want {
			t.Errorf("call %d: more is %v", i, more)
		}
	}
	for i := range n {
		if i >= len(got) || got[i] != fmt.Sprint(i) {
			t.Fatalf("%d packets were read, number %d is wrong", len(got), i)
		}
	}
}

// TestCloseInBacklog: a socket that was closed is not read any more, however much it has: its port is free, and nothing is relayed.
func TestCloseInBacklog(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	sock, err := openFast(s.pollers[0], netip.MustParseAddrPort("127.0.0.1:0"), false, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t)
	for range 3 * slots {
		p.send("x", sock.local())
	}
	n := 0
	_ = sock.serve(func(*batch, []byte, int, netip.AddrPort) {
		if n++; n == 1 {
			sock.close()
		}
	})
	eventually(t, "it is closed", func() bool { return sock.refs.Load() < 0 })
	if n != slots {
		t.Errorf("%d packets were read, want those of one call", n)
	}
}

// TestBacklog: a socket with more than one call reads is read to its end, though the kernel tells of it once.
func TestBacklog(t *testing.T) {
	p := newPath(t)
	hold := make(chan struct{})
	blocker, err := openFast(p.server.pollers[0], netip.MustParseAddrPort("127.0.0.1:0"), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	go blocker.serve(func(*batch, []byte, int, netip.AddrPort) { <-hold })
	defer blocker.close()
	for { // until the poller stands still
		p.peer.send("stop", blocker.local())
		p.server.pollers[0].mu.Lock()
		known := p.server.pollers[0].sockets[int32(blocker.fd)] != nil
		p.server.pollers[0].mu.Unlock()
		if known {
			break
		}
		runtime.Gosched()
	}
	const n = 3*slots + 1
	for i := range n {
		p.device.send(channelData(pathChannel, fmt.Sprint(i)))
	}
	close(hold)
	for i := range n {
		if got, _ := p.peer.receive(); got != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", got, i)
		}
	}
}

// TestFastClose: a socket that is in use is closed when it is not any more, by whoever was last, and its descriptor is not used after that.
func TestFastClose(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	p := newPeer(t)
	for range 200 {
		sock, err := openFast(s.pollers[0], netip.MustParseAddrPort("127.0.0.1:0"), false, 0)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- sock.serve(func(*batch, []byte, int, netip.AddrPort) {}) }()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for sock.send([]byte("x"), p.addr()) == nil {
				}
			})
		}
		all.Go(sock.close)
		all.Go(sock.close)
		all.Wait()
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Fatalf("serve: %v", err)
		}
		if sock.hold() {
			t.Fatal("a closed socket can be held")
		}
		eventually(t, "it is closed", func() bool { return sock.refs.Load() < 0 })
	}
	eventually(t, "the poller has the listeners only", func() bool {
		s.pollers[0].mu.Lock()
		defer s.pollers[0].mu.Unlock()
		return len(s.pollers[0].sockets) == len(s.fronts)
	})
}

// TestAlone: pollers that keep their processors leave one, relay, and do not stand in the way of the collector or of the end.
func TestAlone(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	cfg := testConfig()
	cfg.Sockets = 2
	s := start(t, cfg, Deps{Alone: true})
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("GOMAXPROCS is %d for two pollers", n)
	}
	relayOnce(t, s)
	for range 20 {
		runtime.GC()
	}
	relayOnce(t, s)
}
