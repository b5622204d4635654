package turnd

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// crowdClient is a client of TestCrowd with its peer. It reports errors: it is on a goroutine of its own.
type crowdClient struct {
	d      *device
	peer   *peer
	number uint32 // in what it sends
	count  uint32 // sent, and back
	space  [2048]byte
}

const (
	crowdChannel = 0x4001
	crowdSize    = 200
	crowdTurn    = 16 // clients of a worker that send before the first of them is read
	crowdRefresh = 64 // packets of a client between two refreshes of its allocation and channel
)

// send sends the client's next packet.
func (c *crowdClient) send() error {
	p := c.space[:4+crowdSize]
	binary.BigEndian.PutUint16(p, crowdChannel)
	binary.BigEndian.PutUint16(p[2:], crowdSize)
	binary.BigEndian.PutUint32(p[4:], c.number)
	binary.BigEndian.PutUint32(p[8:], c.count)
	_, err := c.d.conn.Write(p)
	return err
}

// echo has the peer send back what it gets.
func (c *crowdClient) echo() error {
	n, from, err := c.peer.conn.ReadFromUDPAddrPort(c.space[:])
	if err == nil {
		_, err = c.peer.conn.WriteToUDPAddrPort(c.space[:n], from)
	}
	return err
}

// back reads the client's packet, which must be the one that it sent.
func (c *crowdClient) back() error {
	p, err := c.next()
	if err != nil {
		return err
	}
	if len(p) != 4+crowdSize || binary.BigEndian.Uint16(p) != crowdChannel || binary.BigEndian.Uint32(p[4:]) != c.number || binary.BigEndian.Uint32(p[8:]) != c.count {
		return fmt.Errorf("client %d, packet %d: got %.16x", c.number, c.count, p)
	}
	c.count++
	return nil
}

// next returns the next message.
func (c *crowdClient) next() ([]byte, error) {
	for have := 0; ; {
		n, err := c.d.conn.Read(c.space[have:])
		if err != nil {
			return nil, err
		}
		have += n
		if !c.d.framed {
			return c.space[:have], nil
		}
		if n, err := frame(c.space[:have]); n > 0 || err != nil {
			return c.space[:n], err
		}
	}
}

// request is device.request.
func (c *crowdClient) request(typ msgType, add func(b []byte, id *[12]byte) []byte) error {
	if _, err := c.d.conn.Write(c.d.build(typ, c.d.id(), add)); err != nil {
		return err
	}
	p, err := c.next()
	if err != nil {
		return err
	}
	var m message
	if !m.parse(p) || m.typ != typ.success() {
		return fmt.Errorf("client %d: request %#x: type %#x, code %d", c.number, typ, m.typ, m.errorCode)
	}
	return nil
}

// refresh is what a client does every few minutes.
func (c *crowdClient) refresh() error {
	if err := c.request(refreshRequest, nil); err != nil {
		return err
	}
	return c.request(channelRequest, wantChannel(crowdChannel, c.peer.addr()))
}

// work moves packets of some clients until the end, and of each once at least.
func work(list []*crowdClient, end time.Time) error {
	for at, whole := 0, false; !whole || time.Now().Before(end); at += crowdTurn {
		if at >= len(list) {
			at, whole = 0, true
		}
		some := list[at:min(at+crowdTurn, len(list))]
		for _, step := range []func(*crowdClient) error{(*crowdClient).send, (*crowdClient).echo, (*crowdClient).back} {
			for _, c := range some {
				if err := step(c); err != nil {
					return err
				}
			}
		}
		for _, c := range some {
			if c.count%crowdRefresh == 0 {
				if err := c.refresh(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// TestCrowd: many clients over UDP and TCP, flat out, with refreshes between: each gets its own packets back, all of them and in order, nothing
// is dropped, memory does not grow with packets, and in the end nothing is left. LINECARD_LONG=1 has 4,000 of UDP and 400 of TCP for three minutes.
func TestCrowd(t *testing.T) {
	udp, tcp, last := 64, 16, 500*time.Millisecond
	if os.Getenv("LINECARD_LONG") != "" {
		udp, tcp, last = 4000, 400, 3*time.Minute
	}
	cfg := testConfig()
	cfg.TCP = []string{"127.0.0.1:0"}
	cfg.AccountAllocations, cfg.SourceConnections = udp+tcp, tcp
	cfg.MinPort, cfg.MaxPort = 10000, 32000
	processors := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(processors) })
	s := start(t, cfg, Deps{Alone: true})
	run := func(last time.Duration) { // a test of its own, which does not hold its clients to the end
		t.Run("", func(t *testing.T) { crowd(t, s, udp, tcp, last) })
		eventually(t, "all allocations have ended", func() bool { return s.Allocations() == 0 && s.doors.count() == 0 })
	}
	run(last / 100) // tables grow, and stay as large
	before := held(t)
	run(last)
	noMore(t, s, before)
}

// crowd has so many clients of each transport move packets for a while.
func crowd(t *testing.T, s *Server, udp, tcp int, last time.Duration) {
	patient := time.Now().Add(last + 2*time.Minute)
	clients := make([]*crowdClient, udp+tcp)
	for i := range clients {
		transport := "udp"
		if i%(udp/tcp+1) == 0 {
			transport = "tcp"
		}
		c := &crowdClient{d: connect(t, s, transport, "anna", "secret-a"), peer: newPeer(t), number: uint32(i)}
		m := c.d.ask(c.d.build(allocateRequest, c.d.id(), wantUDPAndPay))
		c.d.nonce, c.d.realm = m.nonce, string(m.realm)
		c.d.allocate()
		if code := c.d.request(channelRequest, wantChannel(crowdChannel, c.peer.addr())); code != 0 {
			t.Fatalf("ChannelBind: %d", code)
		}
		_ = c.d.conn.SetReadDeadline(patient)
		_ = c.peer.conn.SetReadDeadline(patient)
		clients[i] = c
	}
	before := held(t)
	load(t, clients, time.Now().Add(last))
	if grown := int64(held(t).heap) - int64(before.heap); grown > 1<<20 {
		t.Errorf("the heap has grown by %d bytes with packets", grown)
	}
	if n := s.Allocations(); n != len(clients) {
		t.Errorf("%d allocations of %d", n, len(clients))
	}
	for why, c := range s.count.drops {
		if c != nil && value(c) > 0 {
			t.Errorf("%v packets were dropped: %v", value(c), Reason(why))
		}
	}
	for _, c := range clients { // over TCP the end of the connection is the allocation's
		if c.d.framed {
			_ = c.d.conn.Close()
		} else if err := c.request(refreshRequest, wantLifetime(0)); err != nil {
			t.Error(err)
		}
	}
}

// wantUDPAndPay is wantUDP with as many bytes as the answer has: all clients are one source, which gets no more than that for long.
func wantUDPAndPay(b []byte, id *[12]byte) []byte {
	return attr(wantUDP(b, id), 0x8022, make([]byte, 128)...) // SOFTWARE
}

// load has workers move packets until the end, and says how many there were.
func load(t *testing.T, clients []*crowdClient, end time.Time) {
	t.Helper()
	const workers = 8
	var all sync.WaitGroup
	from := time.Now()
	for w := range workers {
		all.Go(func() {
			if err := work(clients[w*len(clients)/workers:(w+1)*len(clients)/workers], end); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	total, least := 0, clients[0].count
	for _, c := range clients {
		total, least = total+int(c.count), min(least, c.count)
	}
	if least == 0 {
		t.Error("a client got nothing back")
	}
	t.Logf("%d clients: %d packets relayed, %.0f/s, at least %d of each", len(clients), 2*total, 2*float64(total)/time.Since(from).Seconds(), 2*least)
}
