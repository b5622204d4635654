package turnd

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// The steps of a script: the step's byte, whose two high bits say which guest, then its arguments.
const (
	stepPacket   = iota // chunk: a packet as it is
	stepMessage         // type (two bytes), chunk: a message with these attributes
	stepSealed          // user, how, request, chunk: a request with these attributes, and credentials
	stepAllocate        // user, what
	stepPeers           // user, how many, peers
	stepChannel         // user, number, peer
	stepRefresh         // user, minutes
	stepData            // number, length, chunk: ChannelData
	stepSend            // peer, chunk: a Send indication
	stepPeer            // peer, chunk: a packet from a peer to the guest's relay
	stepTime            // minutes
	stepEnd             // of the guest's connection
	fuzzSteps
)

// mostSteps bounds a script, so that the fuzzer does not spend its time on one.
const mostSteps = 48

// How a request is sealed.
const (
	howStamped   = 1 << iota // with a fingerprint
	howStolen                // with the nonce of the guest before
	howBare                  // without integrity
	howFollowed              // with another peer after the integrity
	howRepeated              // sent twice
	howOtherName             // with another name in front of that of the user
)

func (w *world) step() {
	b := w.byte()
	g := w.guests[b>>6]
	switch b & 0x3f % fuzzSteps {
	case stepPacket:
		g.packet(w.chunk())
	case stepMessage:
		id := [12]byte{w.byte()}
		typ := msgType(binary.BigEndian.Uint16([]byte{w.byte(), w.byte()})) & 0x3fff
		m := append(begin(nil, typ, &id), w.chunk()...)
		g.packet(length(m, 0))
	case stepSealed:
		w.sealed(g)
	case stepAllocate:
		user, what := w.byte(), w.byte()
		g.ask(user, allocateRequest, func(b []byte, id *[12]byte) []byte {
			if b = wantUDP(b, id); what&1 != 0 {
				b = attr(b, attrEvenPort, what&2<<6)
			}
			if what&4 != 0 {
				b = attr(b, attrReservation, w.guests[what>>6].token...)
			}
			return b
		})
	case stepPeers:
		user, n := w.byte(), w.byte()%(maxPeers+2)
		g.ask(user, permissionRequest, func(b []byte, id *[12]byte) []byte {
			for range n {
				b = attrAddr(b, attrPeer, fuzzPeers[int(w.byte())%len(fuzzPeers)], id)
			}
			return b
		})
	case stepChannel:
		user, number, peer := w.byte(), minChannel+uint16(w.byte()), fuzzPeers[int(w.byte())%len(fuzzPeers)]
		g.ask(user, channelRequest, wantChannel(number, peer))
	case stepRefresh:
		g.ask(w.byte(), refreshRequest, wantLifetime(60*uint32(w.byte())))
	case stepData:
		head := []byte{minChannel >> 8, w.byte(), 0, w.byte()}
		g.packet(append(head, w.chunk()...))
	case stepSend:
		id, peer := [12]byte{}, fuzzPeers[int(w.byte())%len(fuzzPeers)]
		g.packet(attr(attrAddr(begin(nil, sendIndication, &id), attrPeer, peer, &id), attrData, w.chunk()...))
	case stepPeer:
		from, payload := fuzzPeers[int(w.byte())%len(fuzzPeers)], w.chunk()
		if a := g.f.table.get(g.addr); a != nil {
			a.relay.sock.(*fakePort).receive(from, payload)
		}
	case stepTime:
		w.pass(time.Duration(w.byte()) * time.Minute)
	case stepEnd:
		w.end(g)
	}
}

// sealed is a request with attributes of any kind.
func (w *world) sealed(g *guest) {
	user, how := w.users[int(w.byte())%len(w.users)], w.byte()
	typ := []msgType{allocateRequest, refreshRequest, permissionRequest, channelRequest}[w.byte()%4]
	id := [12]byte{w.byte(), 1}
	b := append(begin(nil, typ, &id), w.chunk()...)
	if len(b)%4 != 0 {
		b = append(b, make([]byte, 4-len(b)%4)...)
	}
	nonce := g.nonce
	if how&howStolen != 0 {
		nonce = w.guests[(slices.Index(w.guests, g)+1)%len(w.guests)].nonce
	}
	if how&howOtherName != 0 {
		b = attr(b, attrUsername, []byte("bert")...)
	}
	b = attr(b, attrUsername, []byte(user[0])...)
	b = attr(b, attrRealm, []byte("linecard")...)
	b = attr(b, attrNonce, nonce...)
	if how&howBare == 0 {
		b = seal(b, longTermKey(user[0], "linecard", user[1]))
	}
	if how&howFollowed != 0 {
		b = attrAddr(b, attrPeer, fuzzPeers[0], &id)
	}
	if how&howStamped != 0 {
		b = stamp(b)
	}
	g.packet(b)
	if how&howRepeated != 0 {
		g.packet(b)
	}
}

// ask is a request that is in order, as far as its arguments are; the first one of a guest learns its nonce.
func (g *guest) ask(user byte, typ msgType, add func([]byte, *[12]byte) []byte) {
	if g.nonce == nil {
		g.packet(begin(nil, allocateRequest, &[12]byte{0xff}))
		g.w.settle()
	}
	u := g.w.users[int(user)%len(g.w.users)]
	id := [12]byte{user, byte(typ), byte(len(g.w.script)), byte(len(g.w.script) >> 8)}
	b := add(begin(nil, typ, &id), &id)
	b = attr(b, attrUsername, []byte(u[0])...)
	b = attr(b, attrRealm, []byte("linecard")...)
	b = attr(b, attrNonce, g.nonce...)
	g.packet(seal(b, longTermKey(u[0], "linecard", u[1])))
}

// FuzzFront plays whole scripts of packets from clients and peers, right and wrong, with credentials and without: whatever comes, strangers have no more
// than what they are due, quotas hold, nothing is sent where it may not, and nothing is left.
func FuzzFront(f *testing.F) {
	for _, script := range frontScripts() {
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t, script)
		for i := 0; i < mostSteps && len(w.script) > 0; i++ {
			w.step()
			w.settle()
			w.check()
		}
	})
}

// frontScripts are such scripts.
func frontScripts() [][]byte {
	chunk := func(p string) []byte { return append([]byte{0, byte(len(p))}, p...) }
	relay := []byte{stepAllocate, 0, 0, stepPeers, 0, 2, 0, 2, stepChannel, 0, 1, 0}
	var id [12]byte
	attrs := attrAddr(attr(begin(nil, 0, &id), attrChannel, 0x40, 2, 0, 0), attrPeer, fuzzPeers[1], &[12]byte{3, 1})[headerSize:]
	permit := attrAddr(begin(nil, 0, &id), attrPeer, fuzzPeers[2], &[12]byte{9, 1})[headerSize:]
	scripts := [][]byte{
		slices.Concat(relay, []byte{stepData, 1, 5}, chunk("hello"), []byte{stepSend, 2}, chunk("hi"), []byte{stepPeer, 0}, chunk("back"), []byte{stepPeer, 2},
			chunk("too"), []byte{stepRefresh, 0, 5, stepRefresh, 0, 0}),
		slices.Concat(relay, []byte{stepTime, 6, stepSend, 2}, chunk("late"), []byte{stepData, 1, 5}, chunk("still"), []byte{stepTime, 60, stepRefresh, 0, 5}),
		{stepAllocate, 0, 3, stepAllocate | 1<<6, 0, 4, stepAllocate | 2<<6, 1, 4, stepAllocate | 3<<6, 4, 0, stepEnd | 3<<6, stepAllocate | 3<<6, 5, 0},
		slices.Concat(relay, []byte{stepSealed, 1, 0, 1, 3}, chunk(""), []byte{stepSealed, 0, howFollowed | howStamped, 3, 3}, chunk(string(attrs)),
			[]byte{stepSealed, 0, howStolen | howRepeated, 0, 3}, chunk("\x00\x19\x00\x04\x11\x00\x00\x00")),
		slices.Concat([]byte{stepAllocate | 3<<6, 4, 0, stepAllocate, 1, 0, stepPeers, 1, 1, 3, stepPeers | 3<<6, 4, 1, 4}, []byte{stepSend, 4}, chunk("to a relay")),
		slices.Concat([]byte{stepAllocate, 0, 0, stepSealed, 0, howFollowed, 2, 9}, chunk(string(permit)), []byte{stepSend, 0}, chunk("what follows the integrity grants nothing")),
		slices.Concat([]byte{stepPacket}, chunk("no STUN"), []byte{stepMessage, 1, 0, 1}, chunk("\x00\x24\x00\x04abcd"), []byte{stepMessage, 1, 0, 3}, chunk("")),
	}
	for peer := range fuzzPeers {
		scripts = append(scripts, slices.Concat([]byte{stepAllocate, 0, 0, stepPeers, 0, 1, byte(peer), stepChannel, 0, 1, byte(peer), stepSend, byte(peer)}, chunk("a"),
			[]byte{stepData, 1, 1}, chunk("b")))
	}
	return scripts
}

// TestScripts: the scripts relay what they should, so that what is mutated gets through.
func TestScripts(t *testing.T) {
	w := newWorld(t, frontScripts()[0])
	for len(w.script) > 0 {
		if w.step(); w.script != nil {
			w.settle()
		}
		if a := w.guests[0].f.table.get(w.guests[0].addr); a != nil && a.traffic.recvPackets.Load() == 2 && a.traffic.sentPackets.Load() == 2 {
			return
		}
	}
	t.Error("the script relays nothing")
}
