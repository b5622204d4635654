package turnd

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
)

// answer handles a request up to where its owner is known; it borrows p, and is called on many goroutines. What it refuses, it answers
// itself, with as few bytes as the protocol needs. The order is that of RFC 5389 10.2.2.
func (f *front) answer(p []byte, client netip.AddrPort, via carrier) {
	s := f.server
	q := &request{raw: slices.Clone(p), client: client, via: via}
	switch whole := q.parse(q.raw); {
	case q.foreign || !q.typ.isRequest():
		s.count.drop(NotTURN)
	case q.typ == bindingRequest && whole:
		f.binding(q)
	case !whole:
		f.stranger(q, Malformed)
	case !known(q.typ):
		f.stranger(q, UnknownMethod)
	case q.integrity == 0:
		f.stranger(q, Unauthorized)
	case q.username == nil || q.realm == nil || q.nonce == nil:
		f.stranger(q, Malformed)
	case !s.nonces.valid(q.nonce, client):
		f.stranger(q, StaleNonce)
	default:
		f.authorized(q)
	}
}

// authorized handles a request with a good nonce.
func (f *front) authorized(q *request) {
	s := f.server
	var ok bool
	if q.owner, q.key, ok = s.credentials.check(&q.message, q.raw); !ok {
		f.stranger(q, Unauthorized)
		return
	}
	if !s.accounts.request(q.owner) {
		s.count.drop(TooFast)
		return
	}
	select {
	case f.queue <- q:
	default:
		s.count.drop(Busy) // the client tries again
	}
}

func known(t msgType) bool {
	return t == allocateRequest || t == refreshRequest || t == permissionRequest || t == channelRequest
}

// binding answers a Binding request (RFC 5389): what address the client has. It needs no credentials.
func (f *front) binding(q *request) {
	b := begin(make([]byte, 0, 64), bindingRequest.success(), &q.id)
	if len(q.unknown) > 0 {
		f.stranger(q, UnknownAttribute)
		return
	}
	b = attrAddr(b, attrMapped, q.client, &q.id)
	if q.fingerprint {
		b = stamp(b)
	}
	if why := f.server.sources.request(q.client.Addr(), len(q.raw), len(b), f.proven); why != OK {
		f.server.count.drop(why)
		return
	}
	f.server.count.answered(bindingRequest)
	f.reply(q, b)
}

// stranger refuses a request whose sender is not known, if its source can have an answer.
func (f *front) stranger(q *request, why Reason) {
	s := f.server
	b := begin(make([]byte, 0, 256), q.typ.failure(), &q.id)
	b = attrError(b, why.Code(), "")
	switch why {
	case Unauthorized, StaleNonce:
		b = attr(b, attrRealm, []byte(s.cfg.Realm)...)
		b = attr(b, attrNonce, s.nonces.append(nil, q.client)...)
	case UnknownAttribute:
		b = attrUnknowns(b, q.unknown)
	}
	if q.fingerprint {
		b = stamp(b)
	}
	s.count.refused(why)
	if why := s.sources.request(q.client.Addr(), len(q.raw), len(b), f.proven); why != OK {
		s.count.drop(why)
		return
	}
	f.reply(q, b)
}

// refuse refuses a request whose sender is known: the answer is sealed.
func (f *front) refuse(q *request, why Reason) {
	b := begin(make([]byte, 0, 256), q.typ.failure(), &q.id)
	b = attrError(b, why.Code(), reasonTable[why].phrase)
	if why == UnknownAttribute {
		b = attrUnknowns(b, q.unknown)
	}
	b = seal(b, q.key)
	if q.fingerprint {
		b = stamp(b)
	}
	f.server.count.refused(why)
	f.reply(q, b)
}

func (f *front) reply(q *request, b []byte) {
	if q.via.post(b, q.client) != nil {
		f.server.count.drop(SendFailed)
	}
}

func attrUnknowns(b []byte, list []uint16) []byte {
	v := make([]byte, 0, 16)
	for _, t := range list {
		v = binary.BigEndian.AppendUint16(v, t)
	}
	return attr(b, attrUnknown, v...)
}

// admit decides about a request whose owner is known, and writes what pion gets into p. It is called on pion's goroutine only, so nothing
// changes between this and what pion does.
func (f *front) admit(q *request, p []byte) (n int, ok bool) {
	a := f.table.get(q.client)
	var why Reason
	switch {
	case len(q.unknown) > 0:
		why = UnknownAttribute
	case q.typ == allocateRequest:
		why = f.admitAllocate(q, a)
	case a == nil:
		why = NoAllocation
	case a.owner.name != q.owner:
		why = WrongOwner
	case q.typ == permissionRequest:
		why = f.admitPermission(q, a)
	case q.typ == channelRequest:
		why = f.admitChannel(q, a)
	case q.typ == refreshRequest:
		why = f.admitRefresh(q, a)
	}
	if why != OK {
		f.refuse(q, why)
		return 0, false
	}
	if q.typ == permissionRequest || q.typ == channelRequest {
		f.bind(q, a)
		return 0, false
	}
	return copy(p, f.rewrite(q)), true
}

// bind grants permissions or a channel. pion is not asked: it would keep a second list that nobody looks at, with a timer for each, and may end the
// process when an allocation ends while it adds to that (Allocation.Close stops a permission's timer that is not there yet).
func (f *front) bind(q *request, a *allocation) {
	now := f.server.now()
	var c channel
	if q.typ == channelRequest {
		c = channel{peer: q.peers[0], number: binary.BigEndian.Uint16(q.channel), expires: now + int64(channelLife)}
	}
	a.peers.Store(a.peers.Load().with(now, addresses(q.peers), c))
	f.granted(q, seal(begin(make([]byte, 0, 64), q.typ.success(), &q.id), q.key))
}

// granted tells a client that its request was granted.
func (f *front) granted(q *request, b []byte) {
	f.server.count.answered(q.typ)
	if q.fingerprint {
		b = stamp(b)
	}
	f.reply(q, b)
}

// rewrite makes the message that pion gets: only what was looked at, in one order, with pion's own nonce, sealed again with the client's
// key. pion checks it as if it came from the client.
func (f *front) rewrite(q *request) []byte {
	b := begin(f.space[:0], q.typ, &q.id)
	b = attr(b, attrUsername, []byte(strconv.Itoa(f.number))...)
	b = attr(b, attrRealm, []byte(f.server.cfg.Realm)...)
	b = attr(b, attrNonce, f.nonce...)
	switch q.typ {
	case allocateRequest:
		b = attr(b, attrTransport, protocolUDP, 0, 0, 0)
		b = attr(b, attrLifetime, q.lifetime...)
	case refreshRequest:
		b = attr(b, attrLifetime, q.lifetime...)
	}
	f.space = seal(b, q.key)
	return f.space
}
