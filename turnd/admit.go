package turnd

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

const protocolUDP = 17

// The channel numbers that there are (RFC 5766 11; RFC 8656 has fewer).
const (
	minChannel = 0x4000
	maxChannel = 0x7FFF
)

// admitAllocate is RFC 5766 6.2, in its order. a is what the client has already.
func (f *front) admitAllocate(q *request, a *allocation) Reason {
	s := f.server
	switch {
	case a != nil && a.owner.name != q.owner:
		return WrongOwner
	case a != nil && a.id == q.id: // its answer was lost: pion gives it again
		q.lifetime = f.lifetime(q)
		return OK
	case a != nil:
		return AllocationExists
	case q.transport == nil:
		return Malformed
	case q.transport[0] != protocolUDP:
		return TransportUnsupported
	case q.reservation != nil && q.evenPort != nil:
		return Malformed
	case q.family != nil && q.reservation != nil:
		return Malformed
	case q.family != nil && q.family[0] != familyIPv4:
		return FamilyUnsupported
	case s.draining.Load():
		return Draining
	}
	q.lifetime = f.lifetime(q)
	return f.place(q)
}

// place takes what an Allocate needs of its owner's quota: one place, two if it has the next port reserved, none if it names a reservation.
func (f *front) place(q *request) (why Reason) {
	s := f.server
	if q.reservation != nil {
		if q.kept = s.reservations.take(portToken(q.reservation), q.owner); q.kept == nil {
			return NoReservation
		}
		return OK
	}
	if q.place, why = s.accounts.take(q.owner); why != OK {
		return why
	}
	if q.wantsNext() {
		if q.next, why = s.accounts.take(q.owner); why != OK {
			s.accounts.give(q.place)
			q.place = nil
		}
	}
	return why
}

// wantsNext reports whether an Allocate wants the port after its own reserved, too.
func (q *request) wantsNext() bool { return q.evenPort != nil && q.evenPort[0]&0x80 != 0 }

// admitRefresh is RFC 5766 7.2.
func (f *front) admitRefresh(q *request, a *allocation) Reason {
	if q.family != nil && q.family[0] != familyIPv4 {
		return FamilyMismatch
	}
	if q.lifetime == nil || binary.BigEndian.Uint32(q.lifetime) != 0 {
		q.lifetime = f.lifetime(q)
		return OK
	}
	a.reason.CompareAndSwap(0, uint32(Released)) // pion ends it before it answers
	return OK
}

// lifetime is how long an allocation may last, in an attribute: what was asked for, within the limits. RFC 5766 has no
// shorter one than the default; here the configured one is the longest, too.
func (f *front) lifetime(q *request) []byte {
	limit := f.server.cfg.Lifetime.D()
	want := limit
	if q.lifetime != nil {
		want = time.Duration(binary.BigEndian.Uint32(q.lifetime)) * time.Second
	}
	if want < limit && want < minLifetime {
		want = min(minLifetime, limit)
	}
	return binary.BigEndian.AppendUint32(nil, uint32(min(want, limit)/time.Second))
}

// minLifetime is the shortest that is granted, so that nobody keeps the server busy with refreshes.
const minLifetime = time.Minute

// admitPermission is RFC 5766 9.2: all peers, or none.
func (f *front) admitPermission(q *request, a *allocation) Reason {
	if len(q.peers) == 0 {
		return Malformed
	}
	for i := range q.peers {
		ip := q.peers[i].Addr()
		if !ip.Is4() {
			return FamilyMismatch
		}
		if !f.server.policy.address(ip) {
			return PeerForbidden
		}
		q.peers[i] = netip.AddrPortFrom(f.server.policy.inward(ip), q.peers[i].Port())
	}
	now := f.server.now()
	if len(a.peers.Load().with(now, addresses(q.peers), channel{}).permits) > maxPermissions {
		return TooManyPeers
	}
	return OK
}

// addresses returns those of peers, each once.
func addresses(peers []netip.AddrPort) []netip.Addr {
	list := make([]netip.Addr, 0, len(peers))
	for _, p := range peers {
		if !slices.Contains(list, p.Addr()) {
			list = append(list, p.Addr())
		}
	}
	return list
}

// admitChannel is RFC 5766 11.2.
func (f *front) admitChannel(q *request, a *allocation) Reason {
	if len(q.channel) != 4 || len(q.peers) != 1 {
		return Malformed
	}
	number := binary.BigEndian.Uint16(q.channel)
	if number < minChannel || number > maxChannel {
		return Malformed
	}
	if !q.peers[0].Addr().Is4() {
		return FamilyMismatch
	}
	peer, ok := f.server.policy.endpoint(q.peers[0])
	if !ok {
		return PeerForbidden
	}
	q.peers[0] = peer
	now := f.server.now()
	list := a.peers.Load()
	if other, ok := list.byNumber(number, now); ok && other != peer {
		return ChannelTaken
	}
	if other, ok := list.byPeer(peer, now); ok && other != number {
		return ChannelTaken
	}
	next := list.with(now, []netip.Addr{peer.Addr()}, channel{number: number})
	if len(next.channels) > maxChannels || len(next.permits) > maxPermissions {
		return TooManyPeers
	}
	return OK
}

// learn is for a request that pion has granted; false: the allocation has ended meanwhile.
func (f *front) learn(q *request) bool {
	q.granted = true
	if q.made == nil {
		return true
	}
	if !f.table.put(q.made) {
		return false
	}
	f.server.started(q.made)
	if q.via.gone() {
		q.made.end(PeerClosed)
	}
	return true
}
