package turnd

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// FuzzRuns: runs of packets, from a client or a peer, are relayed as those packets would be one by one, in their order.
func FuzzRuns(f *testing.F) {
	p := newPath(f)
	via := p.alloc.via.(*fastSocket)
	b := &batch{server: p.server, space: make([]byte, spaceSize)} // as a poller's, whose sockets may be used by others
	b.out.init()
	data := channelData(pathChannel, "four")
	f.Add(slices.Concat(data, data, data), uint16(len(data)-1), byte(0))
	f.Add(slices.Concat(data, channelData(pathChannel+1, "none"), channelData(pathChannel, "5"), []byte{1, 2}), uint16(len(data)-1), byte(0))
	f.Add(slices.Concat(data, channelData(pathChannel, "fou"), []byte{0}, data), uint16(len(data)-1), byte(0)) // a shorter one ends what goes together
	f.Add(slices.Repeat([]byte{'p'}, 5000), uint16(1200), byte(1))
	f.Add(slices.Repeat([]byte{'p'}, 300), uint16(7), byte(2))
	renewed := time.Now()
	f.Fuzz(func(t *testing.T, payload []byte, segment uint16, kind byte) {
		size := 1 + int(segment)%segmentLimit
		p.device.t, p.peer.t = t, t
		if time.Since(renewed) > time.Minute { // long runs outlast permissions
			renewed = time.Now()
			p.device.request(channelRequest, wantChannel(pathChannel, p.peer.addr()))
			p.device.request(refreshRequest, wantLifetime(600))
		}
		ones := segments(payload, size)
		if len(payload) > slotSize/2 || len(ones) > runSegments || slices.ContainsFunc(ones, isSTUN) {
			return // none of these comes as a run, and requests are for another target
		}
		whole := make([]byte, headroom, headroom+len(payload)+4)
		whole = append(whole, payload...)
		b.now = p.server.now()
		if kind%3 == 0 {
			p.alloc.front.packets(b, via, whole, size, p.device.client())
			b.flush()
			for i, one := range ones {
				if len(one) < 4 || binary.BigEndian.Uint16(one) != pathChannel || int(binary.BigEndian.Uint16(one[2:])) > len(one)-4 {
					continue
				}
				want := one[4 : 4+binary.BigEndian.Uint16(one[2:])]
				if got, _ := p.peer.receive(); got != string(want) {
					t.Fatalf("packet %d: the peer gets %x, want %x", i, got, want)
				}
			}
			return
		}
		from := p.peer.addr()
		if kind%3 == 2 {
			from = netip.AddrPortFrom(from.Addr(), from.Port()^1) // has the permission and no channel
		}
		p.alloc.relay.fromPeers(b, whole, size, from)
		b.flush()
		for i, one := range ones {
			got := p.device.receive()
			var m message
			if kind%3 == 1 && string(got) == string(channelData(pathChannel, string(one))) {
				continue
			}
			if kind%3 != 2 || !m.parse(got) || m.typ != dataIndication || string(m.data) != string(one) || len(m.peers) != 1 || m.peers[0] != from {
				t.Fatalf("packet %d: the client gets %x of %x", i, got, one)
			}
		}
	})
}

// segments cuts a run; an empty one is one packet.
func segments(p []byte, size int) (list [][]byte) {
	for len(p) > size {
		list = append(list, p[:size])
		p = p[size:]
	}
	return append(list, p)
}
