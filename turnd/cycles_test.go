package turnd

import (
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestCycles: allocations that come and go leave nothing: no goroutine, descriptor, timer or memory. LINECARD_LONG=1 makes it 200,000 of them.
func TestCycles(t *testing.T) {
	n := 2000
	if os.Getenv("LINECARD_LONG") != "" {
		n = 200_000
	}
	s := start(t, testConfig(), Deps{})
	p := newPeer(t)
	const clients = 8
	devices := make([]*device, clients)
	for i := range devices {
		devices[i] = dial(t, s.Addrs("udp")[0], "anna", "secret-a")
		devices[i].greet()
	}
	cycle := func(d *device) {
		d.send(d.build(allocateRequest, d.id(), wantUDP))
		d.send(d.build(channelRequest, d.id(), wantChannel(oneChan, p.addr())))
		d.send(d.build(refreshRequest, d.id(), wantLifetime(0)))
		for _, typ := range []msgType{allocateRequest, channelRequest, refreshRequest} {
			var m message
			if got := d.receive(); !m.parse(got) || m.typ != typ.success() {
				t.Fatalf("want %#x, got %x", typ.success(), got)
			}
		}
	}
	for i := range 200 {
		cycle(devices[i%clients])
	}
	before := held(t)
	for i := range n {
		cycle(devices[i%clients])
	}
	noMore(t, s, before)
}

// TestConnectionCycles: the same for connections, whose clients go without a word, and for those that never allocate.
func TestConnectionCycles(t *testing.T) {
	s := start(t, allConfig(t), Deps{})
	cycle := func() { // a test of its own, which does not hold its clients to the end
		t.Run("", func(t *testing.T) {
			for _, transport := range []string{"tcp", "tls", "dtls"} {
				d := connect(t, s, transport, "anna", "secret-a")
				d.allocate()
				_ = d.conn.SetDeadline(time.Time{}) // which is a timer of DTLS's, here too
				d.conn.Close()
				connect(t, s, transport, "anna", "secret-a").conn.Close()
			}
		})
	}
	for range 20 {
		cycle()
	}
	eventually(t, "all have ended", func() bool { return s.doors.count() == 0 && s.Allocations() == 0 })
	before := held(t)
	for range 100 {
		cycle()
	}
	eventually(t, "all have ended", func() bool { return s.doors.count() == 0 && s.Allocations() == 0 })
	noMore(t, s, before)
}

// TestChurn: allocations end, by their client and by the end of the server, while packets for them come from both sides.
func TestChurn(t *testing.T) {
	s := start(t, testConfig(), Deps{})
	addr := s.Addrs("udp")[0]
	p := newPeer(t)
	var all sync.WaitGroup
	for range 4 {
		d := dial(t, addr, "anna", "secret-a")
		d.greet()
		relayed := make(chan netip.AddrPort, 1)
		all.Go(func() { // what the peer sends: not so much that answers find no room at the client
			for to := range relayed {
				for range 20 {
					_, _ = p.conn.WriteToUDPAddrPort(make([]byte, 100), to)
				}
			}
		})
		all.Go(func() {
			defer close(relayed)
			in := make([]byte, 2048)
			for range 300 {
				for _, b := range [][]byte{
					d.build(allocateRequest, d.id(), wantUDP), d.build(channelRequest, d.id(), wantChannel(oneChan, p.addr())),
					channelData(oneChan, "x"), d.build(refreshRequest, d.id(), wantLifetime(0)), channelData(oneChan, "y"),
				} {
					_, _ = d.conn.Write(b)
				}
				for answers := 0; answers < 3; {
					_ = d.conn.SetReadDeadline(time.Now().Add(patience))
					n, err := d.conn.Read(in)
					if err != nil {
						t.Errorf("no answer: %v", err)
						return
					}
					var m message
					if !m.parse(in[:n]) || m.typ == dataIndication {
						continue
					}
					if answers++; m.typ&classError == classError {
						t.Errorf("an answer has code %d", m.errorCode)
					}
					if m.relayed.IsValid() {
						select {
						case relayed <- m.relayed:
						default:
						}
					}
				}
			}
		})
	}
	all.Wait()
	eventually(t, "all have come and gone", func() bool { return value(s.count.ends[Released]) == 4*300 })
}

// TestEndWhileBinding: a connection that ends right behind its requests ends its allocation while they are granted. With pion's lists of
// permissions and channels that is a race, and may be the end of the process.
func TestEndWhileBinding(t *testing.T) {
	cfg := allConfig(t)
	cfg.SourceConnections, cfg.AccountAllocations = cfg.Connections, 200
	s := start(t, cfg, Deps{})
	for range 100 {
		d := connect(t, s, "tcp", "anna", "secret-a")
		d.allocate()
		var all []byte
		for i := range 8 {
			other := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}), 5000)
			all = append(all, d.build(permissionRequest, d.id(), wantPeers(other))...)
			all = append(all, d.build(channelRequest, d.id(), wantChannel(oneChan+uint16(i), other))...)
		}
		d.send(all)
		d.conn.Close()
	}
	eventually(t, "all have ended", func() bool { return s.doors.count() == 0 && s.Allocations() == 0 })
}

// noMore fails unless the process comes to hold no more than before.
func noMore(t *testing.T, s *Server, before holding) {
	t.Helper()
	var after holding
	eventually(t, "what it held is free", func() bool {
		after = held(t)
		return after.goroutines <= before.goroutines && after.files <= before.files
	})
	t.Logf("before: %+v, after: %+v", before, after)
	if grown := int64(after.heap) - int64(before.heap); grown > 1<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	for _, f := range s.fronts {
		if n := len(f.table.all()); n != 0 {
			t.Errorf("%d are in the table of %s", n, f.transport)
		}
	}
}

type holding struct {
	goroutines, files int
	heap              uint64
}

func held(t *testing.T) holding {
	t.Helper()
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/dev/fd")
	return holding{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}
