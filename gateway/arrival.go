package gateway

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"linecard.example/internal/link"
)

// arrival is a session on its way to a loop of this process.
type arrival struct {
	record
	landed bool
}

// adopt gives the sessions of a checked page a place in this process: each socket a loop, each record a slot. It takes the sockets, waits
// until all are in place, wipes the records, and returns how many there are: a client may have gone meanwhile.
func (g *Gateway) adopt(records []byte, fds []int) (landed int) {
	type landing struct {
		*arrival
		result <-chan gnet.RegisteredResult
	}
	var all []landing
	rest := records
	for _, fd := range fds {
		a := new(arrival)
		var err error
		if rest, err = decodeRecord(rest, &a.record); err != nil {
			closeAll([]int{fd})
			continue
		}
		if result, err := g.enrol(fd, a); err == nil {
			all = append(all, landing{a, result})
		} else {
			g.log.Debug("enrolling a session", "err", err)
		}
	}
	for _, l := range all {
		<-l.result
		if l.landed {
			landed++
		}
		l.record = record{}
	}
	clear(records)
	return landed
}

// enrol hands a socket to gnet, whose OnOpen finds a on it. It takes fd.
//
// net.FileConn has the kernel probe the peer every 15 s, a setting of the socket that outlives this descriptor: idle sessions would no
// longer be idle, and a client out of reach for three minutes would be gone. Who is there is the protocol's to find out.
func (g *Gateway) enrol(fd int, a *arrival) (<-chan gnet.RegisteredResult, error) {
	f := os.NewFile(uintptr(fd), "session")
	c, err := net.FileConn(f)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	}
	_ = f.Close()
	if err != nil {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
		return nil, err
	}
	if c.RemoteAddr() == nil { // reset by the client
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	result, err := g.engine.Register(gnet.NewNetConnContext(gnet.NewContext(context.Background(), a), c))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return result, nil
}

// arrive makes a session of an arrival. Loop only.
func (l *loop) arrive(a *arrival, c gnet.Conn) gnet.Action {
	c.SetContext(nil)
	forgetSafeContext(c) // it is a
	slot, gen, s, ok := l.slots.Alloc()
	if !ok || putInbound(c, a.inbound) != nil {
		if ok {
			l.slots.Release(slot)
		}
		l.g.log.Warn("no place for a session that was handed over")
		return gnet.Close
	}
	l.fill(s, &a.record)
	s.self = l.idx<<slotBits | slot
	l.setConn(slot, c)
	c.SetContext(s)
	forgetAddresses(c)
	l.g.open.Add(1)
	l.g.metrics.connections.Inc()
	l.g.metrics.sessions.Inc()
	l.idle.Arm(slot, gen, 1+int(slot%checkEvery)) // all came at once: their looks are spread over the minute
	if s.unacked > 0 {
		l.armBusy(s)
	}
	if n := len(a.inbound); n > 0 {
		l.notePartial(s, n, true)
	}
	a.landed = true
	if len(a.outbound) > 0 {
		if _, err := c.Write(a.outbound); err != nil { // and the session has ended
			return gnet.None
		}
		l.written(s, c)
	}
	l.settleIn(s, gen, a.unanswered)
	return gnet.None
}

// settleIn says where the session is now: to the router, so that deliveries come here, and to the client if answers to its messages went
// where it is no more.
func (l *loop) settleIn(s *session, gen uint32, unanswered uint8) {
	if !l.rebindMoved(s, gen) {
		l.moved = append(l.moved, slotUse{s.slot(), gen})
	}
	if unanswered > 0 {
		l.scratch = appendRetryAll(l.scratch[:0])
		l.push(s, l.scratch)
	}
	l.wake()
}

// rebindMoved tells the router under which name a session lives now.
func (l *loop) rebindMoved(s *session, gen uint32) (sent bool) {
	l.env = l.rebindOf(s, gen)
	return !errors.Is(l.g.send(&l.env), link.ErrNoCredit) // without a leader: the next one asks for every session
}

// slotUse names a use of a slot of this loop.
type slotUse struct{ slot, gen uint32 }

// rebindOwed tells routers of moved sessions for which there was no credit before.
func (l *loop) rebindOwed() {
	owed := l.moved
	for len(owed) > 0 {
		if s := l.slots.Get(owed[0].slot, owed[0].gen); s != nil && s.state == stateBound && !l.rebindMoved(s, owed[0].gen) {
			break
		}
		owed = owed[1:]
	}
	if l.moved = owed; len(owed) == 0 {
		l.moved = nil
	}
}

// fill makes r's session in a fresh slot.
func (l *loop) fill(s *session, r *record) {
	s.rx, s.tx, s.rxNonce, s.txNonce = r.rx, r.tx, r.rxNonce, r.txNonce
	s.account, s.device, s.serial, s.epoch = r.account, uint16(r.device), r.serial, r.epoch
	s.base, s.written, s.unacked, s.noted = r.base, r.written, r.unacked, r.noted
	s.send, s.lookups, s.tokenTime = min(r.send, uint16(l.g.cfg.SendBurst)), min(r.lookups, uint8(l.g.cfg.LookupBurst)), uint16(l.tick)
	s.lastSeen, s.progress = l.sec16()-r.silent, l.sec8()-r.stuck
	s.setInterval(uint64(r.interval), l.g.cfg.DefaultPing.D())
	s.state = stateBound
	if r.warned {
		s.flags |= flagWarned
	}
}
