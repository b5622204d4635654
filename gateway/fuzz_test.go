package gateway

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// FuzzStanzas feeds a bound session the plaintext of a frame: it ends in order or goes on, and its counts stay within their bounds.
func FuzzStanzas(f *testing.F) {
	b := newBench(f)
	f.Add(append([]byte{0}, message(1, 6, "x")...))
	f.Add(append([]byte{0}, stanza.Ping{}.Append(nil)...))
	f.Add(append([]byte{0}, (&stanza.DeliveryAck{Count: 1}).Append(nil)...))
	f.Add(append([]byte{0}, (&stanza.Query{ID: 1, Op: stanza.OpLookup, Handle: []byte("bob")}).Append(nil)...))
	f.Add(append([]byte{0}, (&stanza.ReadUp{ID: 2, Account: 6, Device: 1, IDs: stanza.AppendPacked(nil, []uint64{3})}).Append(nil)...))
	f.Add([]byte{1, 5, 0})
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) > wire.MaxPlain {
			return
		}
		b.again()
		b.l.deliver(b.s, &link.Envelope{Kind: link.KindDeliver, Group: stanza.QueueGroup(1), Epoch: 1, ID: 1, Payload: delivery(1, "x")})
		b.feed(nil, plain, 1)
		b.l.flush()
		if b.s.state != stateBound && b.s.state != stateClosing {
			t.Fatalf("state %d", b.s.state)
		}
		if int(b.s.inflight) > 2*b.g.cfg.WindowIDs || int(b.s.charged) > b.g.windowUnits || b.s.unacked > 1 {
			t.Fatalf("%d unanswered, %d units, %d unacknowledged", b.s.inflight, b.s.charged, b.s.unacked)
		}
		if b.l.dirty != 0 || len(b.conn.in) != 0 {
			t.Fatalf("%d outboxes and %d bytes left", b.l.dirty, len(b.conn.in))
		}
	})
}

// again replaces the session by a fresh one.
func (b *bench) again() {
	b.l.connClosed(b.s)
	b.tx = 0
	var fin wire.Finish
	b.s, b.gen = b.l.newSession(&handshake{conn: b.conn}, &fin, &request{account: 5, device: 1})
	bound := stanza.Bound{Account: 5, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1 << 18}
	b.l.bound(b.s, &link.Envelope{Account: 5, Device: 1, Serial: 1, Gen: b.gen, Payload: boundPayload(&bound)})
	b.l.flush()
}

// FuzzHandshakeBytes feeds a new connection, of a client or of a balancer, bytes in two pieces: it never keeps more than it may, all of it is
// counted, and nothing of it stays counted at the end.
func FuzzHandshakeBytes(f *testing.F) {
	b := newBench(f)
	b.g.sources.handshakes.rate, b.g.sources.handshakes.burst = 1e9, 1e9
	hello, _ := wire.NewInitiator(b.g.deps.Static, nil).AppendHello(nil, wire.Preamble[:])
	resume := wire.AppendResume(append([]byte(nil), wire.Preamble[:]...), make([]byte, 40), make([]byte, 48))
	key, ticket := ticketKey(9), wire.Ticket{Account: 5, Device: 1, Proved: b.clock.Now().Unix(), Expiry: 1 << 40}
	b.g.tickets.Store(&ticketKeys{keys: []wire.TicketKey{key}})
	b.g.sources.resumes.rate, b.g.sources.resumes.burst = 1e9, 1e9
	sealed := wire.AppendTicket(nil, &key, &ticket, new([wire.TicketRandom]byte))
	good, _ := wire.NewResumer(nil).AppendResume(append([]byte(nil), wire.Preamble[:]...), wire.Preamble[:], sealed, &ticket.PSK)
	client := proxyHeader(netip.MustParseAddr("192.0.2.1"))
	f.Add(slices.Concat(wire.Preamble[:], hello), 10, false)
	f.Add(resume, 3, false)
	f.Add(good, len(good), false)
	f.Add(append(good, 0, 20), len(good), false)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 1, false)
	f.Add(slices.Concat(client, wire.Preamble[:], hello), 30, true)
	f.Add(slices.Concat(proxyHeader(netip.Addr{}), resume), 16, true)
	f.Add([]byte("PROXY TCP4 192.0.2.1 198.51.100.1 33333 7400\r\n"), 0, true)
	f.Fuzz(func(t *testing.T, in []byte, cut int, balancer bool) {
		h, conn := b.dial(balancer)
		conn.loop = (*b.l.el.Load()).(gnet.EventLoop)
		cut = max(0, min(cut, len(in)))
		for _, part := range [][]byte{in[:cut], in[cut:]} {
			if h.gone {
				break
			}
			conn.in = slices.Concat(conn.in, part)
			if b.l.onHandshake(h, conn) == gnet.None {
				b.l.steps.left = turnSteps
				b.l.doSteps()
			}
			if n := len(conn.in); !h.gone && (n > maxEarly+wire.LenSize || n != b.l.partials.bytes) {
				t.Errorf("%d bytes kept, %d counted", n, b.l.partials.bytes)
			}
		}
		if len(h.transcript) > wire.MaxTranscript {
			t.Errorf("%d bytes of transcript", len(h.transcript))
		}
		b.l.handshakeClosed(h)
		if h := b.l.steps.next(); h != nil {
			t.Errorf("a step of a connection that has gone, stage %d", h.stage)
		}
		if b.l.partials.bytes != 0 || b.l.partials.first() >= 0 {
			t.Errorf("%d bytes stay counted", b.l.partials.bytes)
		}
	})
}

func TestNonces(t *testing.T) {
	b := newBench(t)
	ping := append([]byte{0}, stanza.Ping{}.Append(nil)...)
	b.s.rxNonce, b.tx = maxNonce-1, maxNonce-1
	b.feed(nil, ping, 2)
	if b.s.state != stateClosing {
		t.Fatalf("state %d after the last nonce of its frames", b.s.state)
	}
	b.l.flush()
	b.again()
	slot, gen := b.s.slot(), b.gen
	b.s.txNonce = maxNonce - 1
	b.feed(nil, ping, 1)
	b.l.flush()
	if b.l.live(b.s.self, gen) == nil {
		t.Fatal("ended before its last frame")
	}
	b.conn.context = b.s
	b.feed(nil, ping, 1)
	b.l.flush()
	if b.l.slots.Get(slot, gen) != nil {
		t.Fatal("lives on without nonces")
	}
}

// TestTokens: no fraction is lost, however often tokens are refilled.
func TestTokens(t *testing.T) {
	for _, rate := range []int{1, 3, 7, 20, 5000} {
		sum := uint64(0)
		for tick := uint64(0); tick < 1000; tick++ {
			sum += gained(rate, tick, tick+1)
		}
		if want := uint64(rate) * 1000 / ticksPerSecond; sum != want {
			t.Errorf("rate %d: %d in 100 s, want %d", rate, sum, want)
		}
	}
}

func TestIntervals(t *testing.T) {
	for seconds, want := range map[uint64]int{0: 60*3/2 + 30, 1: 120, 60: 120, 61: 75 + 37 + 30, 600: 930, 900: 1380, 1 << 40: 1380} {
		var s session
		s.setInterval(seconds, minPing)
		if got := s.idleLimit(); got != want {
			t.Errorf("%d s: idle limit %d, want %d", seconds, got, want)
		}
	}
}
