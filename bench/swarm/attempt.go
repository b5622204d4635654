package swarm

import (
	"crypto/ed25519"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

const (
	dialTimeout  = 10 * time.Second
	boundTimeout = 20 * time.Second
)

// hello is what a session has while it is not bound.
type hello struct {
	begun      int64
	noise      wire.CrowdHello
	transcript []byte // before an XX that follows use-XX
}

func localAddrs(list []netip.Addr) []unix.Sockaddr {
	var out []unix.Sockaddr
	for _, a := range list {
		out = append(out, sockaddr(netip.AddrPortFrom(a, 0)))
	}
	return out
}

// enqueue has the session connect as soon as there is room among the handshakes.
func (l *loop) enqueue(n uint32, s *session) {
	s.phase = queued
	l.queue.push(n)
}

// connectsAPass bounds what one pass of the loop begins, and pollBatch what it handles: who has traffic while others shake hands waits for
// that long, a few milliseconds. Latencies of the rest during a storm want an engine of their own all the same.
const (
	connectsAPass = 16
	pollBatch     = 128
)

func (l *loop) connectQueued() {
	for begun := 0; begun < connectsAPass && l.queue.len() > 0 && len(l.hellos) < l.cfg.Handshakes; begun++ {
		n := l.queue.pop()
		if s := l.slots.At(n); s.phase == queued {
			l.connect(n, s)
		}
	}
}

// connect begins an attempt.
func (l *loop) connect(n uint32, s *session) {
	now := l.now()
	l.count.Attempts++
	if l.watch != nil && s.has(watched) {
		l.watch.result.Attempts++
	}
	s.began = uint32(now / int64(time.Microsecond))
	var source unix.Sockaddr
	if len(l.sources) > 0 {
		source = l.sources[int(n)%len(l.sources)]
	}
	l.hellos[n] = &hello{begun: now}
	fd, err := dial(l.servers[int(n)%len(l.servers)], source, s.has(far))
	s.fd, s.phase = int32(fd), connecting
	s.opened, s.sealed, s.due = 0, 0, 0
	if err == nil {
		l.own(fd, n)
		err = l.poll.add(fd, true, true)
	}
	if err != nil {
		l.ended(n, s, dialCause(err))
	}
}

// dialCause names why TCP failed, as far as it tells the load's faults from the server's.
func dialCause(err error) cause {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EADDRINUSE):
		return lostNetwork("no_port")
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return lostNetwork("no_descriptor")
	case errors.Is(err, unix.ECONNREFUSED):
		return lostNetwork("connection_refused")
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return lostNetwork("no_memory")
	}
	return lostNetwork("connect")
}

// connected begins the handshake on a TCP connection that has been made, or has failed.
func (l *loop) connected(n uint32, s *session) {
	if err := dialError(int(s.fd)); err != nil {
		l.ended(n, s, dialCause(err))
		return
	}
	if err := l.poll.set(int(s.fd), true, false); err != nil {
		l.ended(n, s, lostNetwork("poll"))
		return
	}
	h := l.hellos[n]
	out := append(l.out[:0], wire.Preamble[:]...)
	var err error
	if ticket, psk, ok := l.tickets.get(n); ok && !s.has(byXX) && !s.has(anew) {
		s.phase = resuming
		out, err = l.crowd.AppendResume(&h.noise, out, wire.Preamble[:], ticket, &psk)
		h.transcript = append([]byte(nil), out...)
	} else {
		out, err = l.greet(s, h, out, wire.Preamble[:])
	}
	l.out = out
	if err != nil {
		l.ended(n, s, lostNetwork("handshake"))
		return
	}
	l.write(n, s, out)
}

// greet appends XX's message 1.
func (l *loop) greet(s *session, h *hello, out, transcript []byte) ([]byte, error) {
	s.phase = greeting
	return l.crowd.AppendHello(&h.noise, out, transcript)
}

// handshake handles a frame before the session has keys.
func (l *loop) handshake(n uint32, s *session, body []byte) {
	h := l.hellos[n]
	kind, err := wire.FrameKind(body)
	switch {
	case err != nil:
	case kind == wire.KindRefused:
		l.refusedFrame(n, s, body)
		return
	case kind == wire.KindUseXX && s.phase == resuming:
		l.useXX(n, s, h)
		return
	case s.phase == resuming:
		err = l.finishResume(n, s, h, body)
	default:
		err = l.finish(n, s, h, body)
	}
	if err != nil {
		l.ended(n, s, lostNetwork("handshake"))
	}
}

// refusedFrame obeys a hint that anybody may have written: "never" counts as a lost network.
func (l *loop) refusedFrame(n uint32, s *session, body []byte) {
	reason, after, err := wire.ParseRefused(body)
	if err != nil {
		l.ended(n, s, lostNetwork("handshake"))
		return
	}
	c := cause{name: reason.String(), retry: reason.Retry(), after: after}
	if c.retry == stanza.RetryNever {
		c.retry = stanza.RetryBackoff
	}
	l.ended(n, s, c)
}

// useXX goes on with XX on the same connection; the prologue holds the failed resumption.
func (l *loop) useXX(n uint32, s *session, h *hello) {
	l.count.UseXX++
	h.transcript = wire.AppendUseXX(h.transcript)
	out, err := l.greet(s, h, l.out[:0], h.transcript)
	l.out = out
	if err != nil {
		l.ended(n, s, lostNetwork("handshake"))
		return
	}
	l.write(n, s, out)
}

// finish reads XX's message 2, judges the server and writes message 3.
func (l *loop) finish(n uint32, s *session, h *hello, body []byte) error {
	l.plain = l.introduce(n, s, l.plain[:0])
	private := l.names.private(n)
	out, keys, err := l.crowd.AppendFinish(&h.noise, l.out[:0], body, l.verify, &private, l.plain)
	if err != nil {
		return err
	}
	l.out = out
	s.rx, s.tx, s.phase = keys.RX, keys.TX, finishing
	s.clear(byTicket)
	h.transcript = nil
	l.write(n, s, out)
	return nil
}

// finishResume reads the answer to a ticket and writes the bind, which proves who is there.
func (l *loop) finishResume(n uint32, s *session, h *hello, body []byte) error {
	keys, err := l.crowd.ReadAnswer(&h.noise, body)
	if err != nil {
		return err
	}
	s.rx, s.tx, s.phase = keys.RX, keys.TX, finishing
	s.set(byTicket)
	h.transcript = nil
	l.plain = l.introduce(n, s, append(l.plain[:0], 0))
	l.out = l.seal(s, l.out[:0], l.plain)
	l.write(n, s, l.out)
	return nil
}

// introduce appends bind, or register.
func (l *loop) introduce(n uint32, s *session, dst []byte) []byte {
	if s.account != 0 && !s.has(anew) {
		b := stanza.Bind{Account: stanza.Account(s.account), Device: stanza.Device(s.device), ID: s.top, Interval: l.interval}
		return b.Append(dst)
	}
	var handle [stanza.MaxHandle]byte
	r := stanza.Register{Handle: l.names.appendHandle(handle[:0], n), ID: s.top, Interval: l.interval}
	return r.Append(dst)
}

// verify judges the server's certificate. One that was good before is good: the check is a third of a handshake's cost.
func (l *loop) verify(static, cert []byte) error {
	if k := l.known; len(k) == len(static)+len(cert) && string(k[:len(static)]) == string(static) && string(k[len(static):]) == string(cert) {
		return nil
	}
	if _, _, err := wire.VerifyCertificate(cert, static, []ed25519.PublicKey{l.root}, l.cluster, time.Now()); err != nil {
		return err
	}
	l.known = append(append(l.known[:0], static...), cert...)
	return nil
}

// expireHellos gives up attempts that take too long.
func (l *loop) expireHellos(now int64) {
	for n, h := range l.hellos {
		s := l.slots.At(n)
		age := time.Duration(now - h.begun)
		switch {
		case s.phase == connecting && age >= dialTimeout:
			l.ended(n, s, lostNetwork("connect_timeout"))
		case age >= boundTimeout:
			l.ended(n, s, lostNetwork("bound_timeout"))
		}
	}
}

// onBound takes the session over from its handshake.
func (l *loop) onBound(n uint32, s *session, v stanza.View) error {
	b, err := stanza.ParseBound(v)
	if err != nil {
		return err
	}
	if s.account != 0 && !s.has(anew) && (uint64(b.Account) != s.account || uint16(b.Device) != s.device) {
		return errForeign
	}
	s.account, s.device = uint64(b.Account), uint16(b.Device)
	s.top = max(s.top, b.ID+idAhead)
	l.keepTicket(n, v)
	now := l.now()
	s.phase, s.since = bound, uint32(now/int64(time.Millisecond))
	s.nows = 0
	s.clear(anew | byXX | pinged | pingDue | pingNow | pongCheck)
	delete(l.hellos, n)
	l.count.Binds++
	if s.has(byTicket) {
		l.count.Resumes++
	}
	l.arm(n, s, time.Duration(l.jitter()*float64(l.cfg.Ping)))
	l.boundOfWatch(s, now)
	if s.flow != 0 {
		l.flowUp(n, s)
	}
	return nil
}

// idAhead is how far below the first id of a session a client counts: the next one is 2,048 above the highest that the server noted.
const idAhead = 2047

// errForeign: the server bound somebody else.
var errForeign = errors.New("swarm: bound as another device")
