package turnd

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
)

// The way of payloads between UDP clients and peers. Packets are looked up and sent in batches; one that is no ChannelData goes the way
// that packets of all other transports go (front.packet).

// batch is what a poller's goroutine has in hand: what one call read, and packets for one address that wait to be sent with those that
// follow. Nothing waits from one call that reads to the next.
type batch struct {
	server *Server
	in     inbox
	out    outbox
	now    int64

	// what was sent since gather looked
	packets, runs int

	// what out is for
	alloc *allocation // nil: out is empty
	sock  *fastSocket
	to    netip.AddrPort
	dir   int
	bytes int // of payload

	space []byte // headers and messages that have no room where their payload is; in use until out is sent
	free  int
}

// spaceSize is enough for one message of any length, and the headers of runs.
const spaceSize = 1<<16 + 4096

func (b *batch) init(s *Server) error {
	b.server, b.space = s, make([]byte, spaceSize)
	b.out.init()
	return b.in.init()
}

// read relays what a socket has, as far as one call reads it; true: there may be more.
func (b *batch) read(s *fastSocket) bool {
	n, more := b.in.receive(s.fd)
	b.now = b.server.now()
	for i := range n {
		p, segment, from := b.in.packet(i)
		if segment == 0 {
			b.server.count.drop(NotTURN)
			continue
		}
		s.handle(b, p, segment, from)
	}
	b.flush()
	return more
}

// aim says where the packets go that are added next, from which socket; what is there for another address is sent.
func (b *batch) aim(a *allocation, dir int, s *fastSocket, to netip.AddrPort) {
	if b.alloc == a && b.sock == s && b.to == to && b.dir == dir {
		return
	}
	b.flush()
	b.alloc, b.dir, b.sock, b.to = a, dir, s, to
	b.out.to(s, to)
}

// add adds a packet to out. It borrows head and body until flush; size bytes of them are payload.
func (b *batch) add(head, body []byte, size int) {
	if !b.out.add(head, body) {
		b.send()
		b.out.add(head, body)
	}
	b.bytes += size
}

// flush sends what is in out; what was borrowed is free.
func (b *batch) flush() {
	if b.alloc != nil {
		b.send()
		b.alloc, b.sock = nil, nil
	}
	b.free = 0
}

func (b *batch) send() {
	b.runs += b.out.count
	sent, failed := b.out.send(b.sock)
	b.packets += sent + failed
	bytes := b.bytes
	if failed > 0 {
		bytes = bytes * sent / (sent + failed) // which ones, nobody knows
		b.server.count.drops[SendFailed].Add(float64(failed))
	}
	b.alloc.traffic.add(b.dir, sent, bytes)
	b.bytes = 0
}

// room returns n bytes that are out's until flush. It is called between aim and add.
func (b *batch) room(n int) []byte {
	if b.free+n > len(b.space) {
		b.send()
		b.free = 0
	}
	p := b.space[b.free : b.free+n : b.free+n]
	b.free += n
	return p
}

// add counts packets that went.
func (t *traffic) add(dir, packets, bytes int) {
	if dir == toPeers {
		t.sentPackets.Add(uint64(packets))
		t.sentBytes.Add(uint64(bytes))
		return
	}
	t.recvPackets.Add(uint64(packets))
	t.recvBytes.Add(uint64(bytes))
}

// packets handles what a client sent, which came by a poller's socket: segments of one length, and a last one that may be shorter.
func (f *front) packets(b *batch, via *fastSocket, p []byte, segment int, from netip.AddrPort) {
	var a *allocation
	known := false
	for p, more := p[headroom:], true; more; more = len(p) > 0 {
		var one []byte
		one, p = cut(p, segment)
		if len(one) < 4 || one[0]>>6 != 1 {
			b.flush() // what came before it goes before it
			f.packet(one, from, via)
			known = false
			continue
		}
		if !known {
			a, known = f.table.get(from), true
		}
		f.channelPacket(b, a, one)
	}
}

// cut cuts the first segment off.
func cut(p []byte, segment int) (one, rest []byte) {
	n := min(segment, len(p))
	return p[:n], p[n:]
}

// channelPacket relays a ChannelData message (RFC 5766 11.6) of a UDP client's allocation, nil if it has none.
func (f *front) channelPacket(b *batch, a *allocation, p []byte) {
	s := f.server
	payload, peer, why := a.channelled(p, b.now)
	if why != OK {
		s.count.drop(why)
		return
	}
	sock, ok := a.relay.sock.(*fastSocket)
	if !ok { // it was reserved, for whatever client would come
		b.flush()
		a.send(payload, peer, b.now)
		return
	}
	if !a.pay(len(payload), b.now) {
		s.count.drop(Bandwidth)
		return
	}
	b.aim(a, toPeers, sock, peer)
	b.add(nil, payload, len(payload))
}

// fromPeers handles what a peer sent to the allocation of a UDP client, in segments as packets does.
func (r *relay) fromPeers(b *batch, p []byte, segment int, from netip.AddrPort) {
	a, s := r.owner, r.server
	list := a.peers.Load()
	number, bound := list.byPeer(from, b.now)
	if !list.permitted(from.Addr(), b.now) {
		s.count.drops[NoPermission].Add(float64(max(1, (len(p)-headroom+segment-1)/segment)))
		return
	}
	whole, alone := p, len(p)-headroom <= segment
	b.aim(a, fromPeers, a.via.(*fastSocket), a.client)
	for p, more := p[headroom:], true; more; more = len(p) > 0 {
		var one []byte
		one, p = cut(p, segment)
		if !a.pay(len(one), b.now) {
			s.count.drop(Bandwidth)
			continue
		}
		switch {
		case len(one) > maxPayload:
			s.count.drop(TooLarge)
		case bound:
			head := whole[headroom-4 : headroom]
			if !alone {
				head = b.room(4)
			}
			channelHead(head, number, len(one))
			b.add(head, one, len(one))
		case alone:
			b.add(nil, r.indication(whole, from), len(one))
		default:
			b.add(nil, r.indication(b.copied(one), from), len(one))
		}
	}
}

// maxPayload is how long a payload may be so that the message with it fits a UDP packet.
const maxPayload = 65507 - headroom - 4

func channelHead(p []byte, number uint16, n int) {
	binary.BigEndian.PutUint16(p, number)
	binary.BigEndian.PutUint16(p[2:], uint16(n))
}

// copied returns a payload's copy with headroom before it and room for padding behind it.
func (b *batch) copied(p []byte) []byte {
	q := b.room(headroom + len(p) + 4)
	return q[:headroom+copy(q[headroom:], p)]
}

// relay has a relay handle what its poller reads.
func (s *fastSocket) relay(r *relay) error { return s.serve(r.fromPeers) }

// openPort opens the socket of a relay: with the poller of its client, if it has one. via is nil for a port that is reserved.
func (s *Server) openPort(via carrier, at netip.AddrPort) (port, error) {
	if c, ok := via.(*fastSocket); ok {
		return openFast(c.poller, at, false, 0)
	}
	return openSocket(s.count, "udp4", at.String(), false, 0)
}

// canBatch says that there are batches here.
const canBatch = true

// startFast opens n more pollers.
func (s *Server) startFast(n int) error {
	if s.deps.Alone { // one for everything else. Any more than there are cores wake threads that look for work, on the pollers' cores
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), len(s.pollers)+n+1))
	}
	for range n {
		p, err := newPoller(s)
		if err != nil {
			return fmt.Errorf("poller: %w", err)
		}
		s.watch(&p.turning, "poller "+strconv.Itoa(len(s.pollers)))
		s.pollers = append(s.pollers, p)
		s.closers = append(s.closers, p.close)
		s.loops = append(s.loops, p.run)
	}
	return nil
}

// listenFast opens the sockets of one UDP address, and a front for all of them.
func (s *Server) listenFast(at netip.AddrPort) error {
	n := s.sockets()
	if missing := n - len(s.pollers); missing > 0 {
		if err := s.startFast(missing); err != nil {
			return err
		}
	}
	var f *front
	for i := range n {
		sock, err := openFast(s.pollers[i], at, n > 1, socketBuffer)
		if err != nil {
			return err
		}
		if f == nil {
			at = sock.local() // port 0 is the first one's
			f = s.addFront("udp", net.UDPAddrFromAddrPort(at), false)
		}
		s.closers = append(s.closers, sock.close)
		s.loops = append(s.loops, func() error {
			return sock.serve(func(b *batch, p []byte, segment int, from netip.AddrPort) { f.packets(b, sock, p, segment, from) })
		})
	}
	return nil
}
