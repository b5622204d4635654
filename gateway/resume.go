package gateway

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/panjf2000/gnet/v2"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// resumption is what a connection with a good ticket has besides its handshake, until the client has proved by its first frame that it
// is the one that the ticket was given to. Before that it may be anybody who has recorded a resume: nothing is bound or displaced for it.
type resumption struct {
	ticket wire.Ticket
	keys   wire.Keys // once it is answered
}

// ticketLife bounds the life of a ticket. What ends it, too, is the rotation of the keys, see router.ticket_rotation: this is for tickets of a cluster
// whose keys rotate slowly, or not at all because dir/0 has no leader.
const ticketLife = 7 * 24 * time.Hour

// proofLife is how long a device comes back by tickets before it has to prove its static key again. Each session by a ticket brings the
// next one: without a bound, whoever has copied one once, or made one with a stolen key, would be that device for good.
const proofLife = 30 * 24 * time.Hour

// proofSkew is how far the clocks of gateways may be apart.
const proofSkew = time.Hour

// cause is why a resume is sent back to XX.
type cause uint8

const (
	causeNoKeys  cause = iota // the directory has not told this gateway any key yet
	causeKey                  // sealed with a key that is gone, or of another cluster
	causeExpired              // by its own dates
	causeGarbage              // no ticket
	causeLimit                // the account resumes too often
	causes
)

var causeNames = [causes]string{"no_keys", "unknown_key", "expired", "malformed", "limit"}

func (c cause) String() string { return causeNames[c] }

// ticketKeys is the set of keys as a leader of dir/0 told it. Immutable.
type ticketKeys struct {
	term uint64
	keys []wire.TicketKey // newest first

	signer *wire.GrantSigner // of grants for media
	relay  wire.RelaySecret  // of credentials for relays
}

// takeTicketKeys notes the keys of tickets, unless they come from a leader that was replaced. A lower term is none if hello has taken it for the
// leader's: then dir/0 has lost its disk, and its terms begin again.
func (g *Gateway) takeTicketKeys(s *link.Stream, e *link.Envelope) {
	keys, err := wire.ParseTicketKeys(e.Payload)
	if err != nil || s.Peer().Role != link.RoleRouter {
		g.metrics.drops.Inc(stanza.ReasonInternal)
		return
	}
	g.routeMu.Lock()
	defer g.routeMu.Unlock()
	dir := &g.dirs[0]
	if old := g.tickets.Load(); old == nil || e.Term >= old.term || e.Term == dir.term && s == dir.stream.Load() {
		signing := wire.SigningKey(keys)
		grants := signing.GrantKey()
		g.tickets.Store(&ticketKeys{term: e.Term, keys: keys, signer: grants.Signer(), relay: signing.RelaySecret()})
	}
}

// resume looks at a whole resume frame, length prefix included. The ticket is opened here, for a microsecond, before any
// Diffie-Hellman: one that is not good costs no more than the answer.
func (l *loop) resume(h *handshake, frame []byte) gnet.Action {
	body := frame[wire.LenSize:]
	sealed, _, err := wire.ParseResume(body)
	if err != nil {
		return l.turnAway(h, stanza.ReasonBadFrame, 0)
	}
	h.resumed = true
	if l.g.awaitsKeys() {
		return l.turnAway(h, stanza.ReasonUnavailable, time.Duration(jitter(l.g.cfg.RetryAfter.D()))*time.Millisecond)
	}
	r := &resumption{}
	if why := l.g.openTicket(&r.ticket, sealed); why != causes {
		return l.useXX(h, frame, why)
	}
	h.resume = r
	reason := stanza.ReasonUnavailable // said now and not by ask: all that come while a router restarts cost next to nothing
	if l.g.routeOf(l.g.dirOf(r.ticket.Account)).stream.Load() != nil {
		if l.steps.room(stepResume) {
			return l.submit(h, body, stageResumeStep)
		}
		reason = stanza.ReasonOverload
	}
	// The account did not get what it would pay for, and should not have to do XX instead.
	l.g.sources.resumes.giveBack(accountKey(r.ticket.Account), l.g.tickNow())
	return l.turnAway(h, reason, time.Duration(jitter(l.g.cfg.RetryAfter.D()))*time.Millisecond)
}

// keysGrace is how long after its start a gateway has those who come with a ticket come again, rather than with a full handshake, while it
// waits for the keys. When everything restarts, everybody comes back: the keys are there within a second or so, and XX for all is minutes.
const keysGrace = 10 * time.Second

// awaitsKeys reports whether ticket keys are likely to come in a moment.
func (g *Gateway) awaitsKeys() bool {
	return g.tickets.Load() == nil && g.clock().Sub(g.start) < keysGrace
}

// openTicket opens a ticket and takes a token of its account; causes when it is good.
//
// The limit is the account's and not the source's: who comes back with a ticket is a client. It keeps who has recorded one resume from
// having it answered all day; above it the account's devices still have XX, and what limits that.
func (g *Gateway) openTicket(t *wire.Ticket, sealed []byte) cause {
	have := g.tickets.Load()
	if have == nil {
		return causeNoKeys
	}
	now := g.clock()
	switch err := wire.OpenTicket(t, have.keys, sealed, now.Unix()); {
	case errors.Is(err, wire.ErrTicketKey):
		return causeKey
	case errors.Is(err, wire.ErrTicketExpired):
		return causeExpired
	case err != nil:
		return causeGarbage
	case t.Proved > now.Add(proofSkew).Unix() || t.Proved <= now.Add(-proofLife).Unix():
		return causeExpired
	case !g.sources.resumes.allowOne(accountKey(t.Account), g.tickNow()):
		return causeLimit
	}
	return causes
}

// useXX sends a resume back to XX on the same connection; both frames stay in the transcript.
func (l *loop) useXX(h *handshake, frame []byte, why cause) gnet.Action {
	h.transcript = append(h.transcript, frame...)
	at := len(h.transcript)
	h.transcript = wire.AppendUseXX(h.transcript)
	l.g.metrics.useXX[why].Inc()
	_, _ = h.conn.Write(h.transcript[at:])
	return gnet.None
}

// answerResume answers a resume whose ticket was good.
func (l *loop) answerResume(h *handshake, body []byte) gnet.Action {
	answer, keys, err := wire.AnswerResume(make([]byte, 0, wire.AnswerSize), h.transcript, body, &h.resume.ticket.PSK, nil)
	if err != nil {
		return l.stepFailed(h, err)
	}
	h.resume.keys = keys
	clear(keys.RX[:])
	clear(keys.TX[:])
	h.stage, h.transcript = stageBind, nil
	if _, err := h.conn.Write(answer); err != nil {
		return gnet.None // closed already
	}
	return l.onHandshake(h, h.conn)
}

// resumedFrame reads the client's first frame after a resumption: exactly one bind, of the device that the ticket was given to. Only
// now the client is who it says: whoever repeats a recorded resume does not get here.
func (l *loop) resumedFrame(h *handshake, c gnet.Conn, frame []byte) gnet.Action {
	f := wire.Finish{RX: h.resume.keys.RX, TX: h.resume.keys.TX}
	defer wipe(&f)
	plain, err := l.sealer.Open(l.plain[:0], &f.RX, 0, frame[wire.LenSize:])
	_, _ = c.Discard(len(frame))
	if err != nil {
		return l.turnAwaySealed(h, &f, stanza.ReasonDecryptFailed, 0)
	}
	r, reason := l.g.parseResumed(plain, &h.resume.ticket)
	return l.admit(h, &f, &r, reason)
}

// parseResumed reads the plaintext of that frame.
func (g *Gateway) parseResumed(plain []byte, t *wire.Ticket) (request, stanza.Reason) {
	var first stanza.View
	count := 0
	err := stanza.DecodeFrame(plain, func(v stanza.View) error {
		if count++; count == 1 {
			first = v
		}
		return nil
	})
	switch {
	case err != nil:
		return request{}, stanza.ReasonBadStanza
	case count != 1 || first.Tag != stanza.TagBind:
		return request{}, stanza.ReasonEarlyData
	}
	r, reason := g.parseRequest(first.Raw())
	if reason == 0 && (r.account != t.Account || r.device != t.Device) {
		reason = stanza.ReasonForbidden
	}
	r.resumed, r.hash, r.proved = true, t.Hash, t.Proved
	return r, reason
}

// wipe forgets the secrets of a resumption whose connection is a session now, or over.
func (r *resumption) wipe() {
	if r != nil {
		*r = resumption{}
	}
}

// relayBound gives the client the router's bound, with a ticket to resume with in it, when there is a key to seal one. proved is when the
// device has proved its static key, unix seconds, 0: just now.
func (l *loop) relayBound(s *session, hash [wire.HashSize]byte, proved int64, raw []byte) {
	have := l.g.tickets.Load()
	v, rest, err := stanza.Decode(raw)
	if have == nil || err != nil || len(rest) > 0 || v.Tag != stanza.TagBound {
		l.relay(s, raw, stanza.TagBound)
		return
	}
	now := l.g.clock().Unix()
	if proved == 0 {
		proved = now
	}
	t := wire.Ticket{Account: s.account, Device: s.dev(), Hash: hash, Proved: proved, Expiry: now + int64(ticketLife/time.Second)}
	var random [wire.TicketRandom]byte
	_, _ = rand.Read(random[:]) // never fails
	_, _ = rand.Read(t.PSK[:])
	l.ticket = wire.AppendTicketValue(l.ticket[:0], &have.keys[0], &t, &random)
	l.scratch = v.AppendWith(l.scratch[:0], stanza.AttrTicket, l.ticket)
	l.push(s, l.scratch)
	clear(t.PSK[:])
}
