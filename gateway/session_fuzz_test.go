package gateway

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// play is one connection from message 3 to its end on a bench's loop, driven by the bytes of a fuzzer. The handshake's result is given,
// so that what is mutated is the plaintext, and gets through.
type play struct {
	*bench
	t      *testing.T
	conn   *keptConn
	last   []byte // the frame sealed last
	script []byte
	route  *link.Stream
}

// The steps of a script: the step's byte, then its arguments. A chunk is two bytes of length and so many bytes.
const (
	stepFrame  = iota // chunk: sealed into a frame
	stepPieces        // cut, chunk: the same in two pieces, with a turn between
	stepRaw           // chunk: as it is
	stepTamper        // where, chunk: sealed, one bit flipped
	stepReplay        // the frame before, again
	stepFrom          // kind, id, epoch, which (a reason, or the length of a delivery): an envelope for the session
	stepTime          // tenths of a second
	stepLeader        // another term of the directory, which sweeps over the sessions
	steps
)

// mostSteps bounds a script, so that the fuzzer does not spend its time on one.
const mostSteps = 64

func (p *play) byte() byte {
	if len(p.script) == 0 {
		return 0
	}
	b := p.script[0]
	p.script = p.script[1:]
	return b
}

func (p *play) chunk() []byte {
	n := min(int(p.byte())<<8|int(p.byte()), len(p.script), wire.MaxPlain)
	b := p.script[:n]
	p.script = p.script[n:]
	return b
}

// chunk is what play.chunk reads.
func chunk(parts ...[]byte) []byte {
	b := slices.Concat(parts...)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// begin has the loop take a connection whose handshake ended with that payload.
func (p *play) begin(payload []byte) {
	p.conn = &keptConn{stubConn: stubConn{loop: (*p.l.el.Load()).(gnet.EventLoop)}}
	h := &handshake{conn: p.conn, opened: p.l.tick}
	p.conn.context = h
	p.l.early.add(h)
	p.tx = 0
	r, reason := p.l.g.parseRequest(payload)
	if p.l.admit(h, &wire.Finish{}, &r, reason) == gnet.Close {
		p.l.closeConn(p.conn)
	}
	p.s, _ = p.conn.context.(*session)
	if p.s != nil {
		p.gen = p.l.slots.Gen(p.s.slot())
	}
}

// over reports whether the connection has ended.
func (p *play) over() bool { return p.conn.context == nil }

func (p *play) sealed(plain []byte) []byte {
	p.last = p.seal.AppendSealedFrame(nil, new([wire.KeySize]byte), p.tx, plain)
	p.tx++
	return p.last
}

// read has the session read in behind what it has left, as gnet would.
func (p *play) read(in []byte) {
	if p.over() || len(in) == 0 {
		return
	}
	p.conn.in = slices.Concat(p.conn.in, in)
	p.l.onSession(p.s, p.conn)
}

func (p *play) step() {
	switch p.byte() % steps {
	case stepFrame:
		p.read(p.sealed(p.chunk()))
	case stepPieces:
		cut := int(p.byte())
		frame := p.sealed(p.chunk())
		cut = min(cut, len(frame))
		p.read(frame[:cut])
		p.l.turn()
		p.read(frame[cut:])
	case stepRaw:
		p.read(p.chunk())
	case stepTamper:
		at := int(p.byte())
		frame := slices.Clone(p.sealed(p.chunk()))
		frame[at%len(frame)] ^= 1 << (at % 8)
		p.read(frame)
	case stepReplay:
		p.read(p.last)
	case stepFrom:
		p.envelope()
	case stepTime:
		p.clock.Advance(time.Duration(p.byte()) * tickLength)
	case stepLeader:
		r := p.g.routeOf(stanza.DirGroup(1))
		p.g.hello(r.stream.Load(), &link.Envelope{Kind: link.KindHello, Group: stanza.DirGroup(1), Term: r.term + 1})
	}
	p.l.turn()
}

// envelope gives the session an envelope as a router or an offline might send it: any kind and numbers, with the stanza of its kind.
func (p *play) envelope() {
	kind, id, epoch, which := link.Kind(p.byte()), uint64(p.byte()), link.Fence(p.byte()), p.byte()
	if p.over() {
		return
	}
	payload := delivery(id, string(make([]byte, int(which)<<8)))
	switch kind {
	case link.KindBound:
		payload = boundPayload(&stanza.Bound{Account: 5, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18})
	case link.KindRefused:
		payload = (&stanza.Refused{ID: id, Reason: stanza.ReasonBusy}).Append(nil)
	case link.KindResult:
		payload = (&stanza.QueryError{ID: id, Reason: stanza.ReasonUnknownAccount}).Append(nil)
	}
	p.l.receive(p.route, &link.Envelope{
		Kind: kind, Group: stanza.QueueGroup(1), Slot: p.s.self, Gen: p.gen, Account: 5, Device: 1, ID: id, Epoch: epoch, Serial: epoch,
		Charge: uint32(id) * 64, Reason: stanza.Reason(which), Payload: payload,
	})
}

// check holds what must be true after each step.
func (p *play) check() {
	p.t.Helper()
	waits := 0
	if !p.over() {
		if p.s.state != stateClosing {
			waits = len(p.conn.in)
		}
		if p.s.state < stateBinding || p.s.state > stateClosing || int(p.s.inflight) > 2*p.g.cfg.WindowIDs || int(p.s.charged) > p.g.windowUnits {
			p.t.Fatalf("state %d, %d unanswered, %d units", p.s.state, p.s.inflight, p.s.charged)
		}
	}
	if p.l.partials.bytes != waits || waits > wire.MaxBody+wire.LenSize {
		p.t.Fatalf("%d bytes wait, %d are counted", waits, p.l.partials.bytes)
	}
	if p.l.dirty != 0 {
		p.t.Fatalf("%d outboxes after a turn", p.l.dirty)
	}
}

// written checks everything that the client got: frames in order, whole stanzas, at most one bound, and nothing behind a close.
func (p *play) written() {
	p.t.Helper()
	bound, closed := 0, false
	for out, nonce := p.conn.out, uint64(0); len(out) > 0; nonce++ {
		n, ok := wire.FrameLen(out)
		if !ok || len(out) < wire.LenSize+n {
			p.t.Fatalf("half a frame: %x", out)
		}
		plain, err := p.seal.Open(nil, new([wire.KeySize]byte), nonce, out[wire.LenSize:wire.LenSize+n])
		if err != nil {
			p.t.Fatalf("frame %d: %v", nonce, err)
		}
		if err := stanza.DecodeFrame(plain, func(v stanza.View) error {
			if closed || bound == 0 && v.Tag != stanza.TagClose && v.Tag != stanza.TagBound {
				p.t.Errorf("%v, closed %v, bound %d", v.Tag, closed, bound)
			}
			closed = v.Tag == stanza.TagClose
			if v.Tag == stanza.TagBound {
				bound++
			}
			return nil
		}); err != nil {
			p.t.Fatalf("frame %d: %x: %v", nonce, plain, err)
		}
		out = out[wire.LenSize+n:]
	}
	if bound > 1 {
		p.t.Errorf("bound %d times", bound)
	}
}

// FuzzSession plays whole connections from message 3 on: sealed frames whole and in pieces, noise, tampered and repeated frames, envelopes
// from behind, time. Whatever comes, the counts stay within their bounds, the client is written only what it can read in the order of
// the protocol, and the end leaves nothing behind.
func FuzzSession(f *testing.F) {
	for _, script := range sessionScripts() {
		f.Add(script)
	}
	b := newBench(f)
	b.g.sources.registrations.rate, b.g.sources.registrations.burst = 1e9, 1e9
	b.l.connClosed(b.s)
	f.Fuzz(func(t *testing.T, script []byte) {
		p := &play{bench: b, t: t, script: script, route: b.g.routeOf(stanza.QueueGroup(1)).stream.Load()}
		used := p.l.slots.Len()
		p.begin(p.chunk())
		defer func() { // also after a failure: the fuzzer goes on with this bench to find a shorter input
			if !p.over() {
				p.l.closeConn(p.conn)
			}
		}()
		p.l.turn()
		for i := 0; i < mostSteps && len(p.script) > 0 && !p.over(); i++ {
			p.step()
			p.check()
		}
		p.written()
		if !p.over() {
			p.l.closeConn(p.conn)
		}
		if n := p.l.slots.Len() - used; n != 0 || p.l.partials.bytes != 0 || len(p.l.claims) != 0 {
			t.Fatalf("%d slots, %d bytes, %d claims left", n, p.l.partials.bytes, len(p.l.claims))
		}
	})
}

// sessionScripts are whole sessions.
func sessionScripts() [][]byte {
	bind := chunk((&stanza.Bind{Account: 5, Device: 1}).Append(nil))
	register := chunk((&stanza.Register{Handle: []byte("bob"), Invite: []byte("s3cret"), ID: 4}).Append(nil))
	from := func(kind link.Kind, id, epoch, payload byte) []byte {
		return []byte{stepFrom, byte(kind), id, epoch, payload}
	}
	frame := func(stanzas ...[]byte) []byte {
		return append([]byte{stepFrame}, chunk(append([][]byte{{0}}, stanzas...)...)...)
	}
	bound := append(slices.Clone(bind), from(link.KindBound, 1, 1, 1)...)
	ping := stanza.Ping{}.Append(nil)
	ids := stanza.AppendPacked(nil, []uint64{3})
	var many []byte
	for id := range uint64(70) {
		many = append(many, message(id+1, 6, "more than the window takes")...)
	}
	return [][]byte{
		slices.Concat(bound, frame(many), frame(many)),
		slices.Concat(bound, frame(message(1, 6, "hi"), message(2, 6, "there")), from(link.KindAck, 1, 0, 0), from(link.KindRefused, 2, 0, 2)),
		slices.Concat(bound, from(link.KindDeliver, 1, 1, 0), from(link.KindDeliver, 2, 1, 0), frame((&stanza.DeliveryAck{Count: 2}).Append(nil)),
			from(link.KindDeliver, 1, 2, 0), from(link.KindDeliver, 9, 2, 0), from(link.KindDeliver, 3, 1, 0)),
		slices.Concat(bound, frame((&stanza.Query{ID: 1, Op: stanza.OpLookup, Handle: []byte("bob")}).Append(nil)), from(link.KindResult, 1, 0, 3)),
		slices.Concat(bound, frame((&stanza.ReadUp{ID: 2, Account: 6, Device: 1, IDs: ids}).Append(nil), ping), []byte{stepTime, 255}),
		slices.Concat(bound, []byte{stepPieces, 5}, chunk([]byte{0}, ping), []byte{stepTime, 50}, []byte{stepRaw}, chunk([]byte{0, 40, 1, 2}), []byte{stepTime, 110}),
		slices.Concat(bound, []byte{stepTamper, 9}, chunk([]byte{0}, ping), []byte{stepTime, 30}),
		slices.Concat(bound, frame(ping), []byte{stepReplay}),
		slices.Concat(bound, []byte{stepLeader}, frame(message(1, 5, "x")), []byte{stepLeader, stepTime, 255, stepTime, 255}),
		slices.Concat(bound, from(link.KindDeliver, 1, 1, 240), from(link.KindDeliver, 2, 1, 240), from(link.KindClose, 0, 0, 1), frame(ping)),
		slices.Concat(bound, from(link.KindDeliver, 1, 1, 0), slices.Repeat([]byte{stepTime, 100}, 6)),
		slices.Concat(bind, from(link.KindDeliver, 1, 1, 0), from(link.KindBound, 1, 1, 1), frame((&stanza.Close{Reason: stanza.ReasonInternal}).Append(nil))),
		slices.Concat(bind, frame(ping)),
		slices.Concat(bind, from(link.KindNotLeader, 0, 0, 4)),
		slices.Concat(bind, slices.Repeat([]byte{stepTime, 60}, 3)),
		slices.Concat(register, from(link.KindRedeemed, 0, 0, 0), from(link.KindBound, 0, 1, 1), frame(ping)),
		slices.Concat(register, from(link.KindRedeemed, 0, 0, 26)),
		chunk(ping),
	}
}
