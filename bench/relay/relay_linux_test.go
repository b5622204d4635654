package relay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// fakeRelay is a TURN server for one client: it wants credentials, but does not look at them.
type fakeRelay struct {
	client, relayed *net.UDPConn
	t               *testing.T
	busy            int // how many clients it says to that it has allocations of theirs
}

func newFakeRelay(t *testing.T) *fakeRelay {
	t.Helper()
	open := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	return &fakeRelay{client: open(), relayed: open(), t: t}
}

// serve answers requests and relays the channel's packets, both ways, until the sockets are closed.
func (f *fakeRelay) serve() {
	peer := make(chan netip.AddrPort, 1)
	var client netip.AddrPort
	buf := make([]byte, 2048)
	for {
		n, from, err := f.client.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p := buf[:n]
		if client = from; p[0]>>6 == 1 {
			to := <-peer
			peer <- to
			_, _ = f.relayed.WriteToUDPAddrPort(p[4:], to)
			continue
		}
		typ := binary.BigEndian.Uint16(p)
		_, _ = f.client.WriteToUDPAddrPort(f.answer(typ, p, peer), from)
		if _, signed := find(p, attrIntegrity); typ == channelBind && signed > 0 && signed < n {
			go f.back(client)
		}
	}
}

// answer refuses what has no credentials, and grants the rest.
func (f *fakeRelay) answer(typ uint16, p []byte, peer chan netip.AddrPort) []byte {
	r := request{append([]byte(nil), p[:headerSize]...)}
	binary.BigEndian.PutUint16(r.b, typ|success)
	if _, at := find(p, attrIntegrity); at == 0 {
		binary.BigEndian.PutUint16(r.b, typ|failure)
		r.attr(attrError, 0, 0, 4, 1)
		r.attr(attrRealm, []byte("here")...)
		r.attr(attrNonce, []byte("once")...)
		return r.b
	}
	if typ == allocate && f.busy > 0 {
		f.busy--
		binary.BigEndian.PutUint16(r.b, typ|failure)
		r.attr(attrError, 0, 0, taken/100, taken%100)
		return r.b
	}
	if typ == allocate {
		r.attr(attrRelayed, address(f.relayed.LocalAddr().(*net.UDPAddr).AddrPort())...)
	}
	if v, _ := find(p, attrPeer); v != nil {
		ip := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(v[4:])^cookie)
		peer <- netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip)), binary.BigEndian.Uint16(v[2:])^cookie>>16)
	}
	return r.b
}

// back sends what peers send to the client.
func (f *fakeRelay) back(client netip.AddrPort) {
	buf := make([]byte, 2048)
	for {
		n, err := f.relayed.Read(buf[4:])
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(buf, channel)
		binary.BigEndian.PutUint16(buf[2:], uint16(n))
		_, _ = f.client.WriteToUDPAddrPort(buf[:4+n], client)
	}
}

func address(a netip.AddrPort) []byte {
	var r request
	r.b = make([]byte, headerSize)
	r.peer(a)
	return r.b[headerSize+4:]
}

func find(p []byte, want uint16) (v []byte, at int) {
	for at = headerSize; at+4 <= len(p); {
		typ, n := binary.BigEndian.Uint16(p[at:]), int(binary.BigEndian.Uint16(p[at+2:]))
		if typ == want {
			return p[at+4 : at+4+n], at
		}
		at += 4 + (n+3)&^3
	}
	return nil, 0
}

// TestRun: a run gets an allocation, from another port where the server has one of that already, and a channel; what it sends comes back, at
// a rate and flat out.
func TestRun(t *testing.T) {
	for name, load := range map[string]Options{"rate": {Rate: 2000}, "flat out": {Window: 4}} {
		f := newFakeRelay(t)
		f.busy = 2
		go f.serve()
		o := load
		o.Server = f.client.LocalAddr().(*net.UDPAddr).AddrPort()
		o.User, o.Password, o.Sessions, o.Size, o.Time = "u", "p", 1, 200, 300*time.Millisecond
		r, err := Run(o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.Packets < 2 || r.P50 <= 0 || r.Worst < r.P50 {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestDirect: without a relay packets reach the other end and come back, with nobody asked for an allocation.
func TestDirect(t *testing.T) {
	r, err := Run(Options{Direct: true, Sessions: 3, Size: 200, Window: 2, Time: 50 * time.Millisecond})
	if err != nil || r.Packets < 2 || r.P999 < r.P50 || r.Lost != 0 {
		t.Errorf("%v, %v", r, err)
	}
}

// TestHold: memory is read with no session, with some, and with all, which packets have gone through.
func TestHold(t *testing.T) {
	none, few, all, err := Hold(Options{Direct: true, Sessions: 4, Size: 200, Rate: 1000, Time: 50 * time.Millisecond, PIDs: []int{os.Getpid()}}, 2)
	if err != nil || none.PSS == 0 || few.PSS == 0 || all.PSS == 0 {
		t.Errorf("%v, %v, %v, %v", none, few, all, err)
	}
}

// TestRefused: a server that refuses ends the run with its code.
func TestRefused(t *testing.T) {
	f := newFakeRelay(t)
	go func() {
		buf := make([]byte, 2048)
		n, from, err := f.client.ReadFromUDPAddrPort(buf)
		if err != nil || n < headerSize {
			return
		}
		r := request{buf[:headerSize]}
		binary.BigEndian.PutUint16(r.b, allocate|failure)
		r.attr(attrError, 0, 0, 4, 86)
		_, _ = f.client.WriteToUDPAddrPort(r.b, from)
	}()
	_, err := Run(Options{Server: f.client.LocalAddr().(*net.UDPAddr).AddrPort(), Sessions: 1, Size: 200, Rate: 10, Time: time.Second})
	if err == nil || err.Error() != "session 0: relay bench: allocate: relay bench: refused: 486" {
		t.Errorf("%v", err)
	}
}
