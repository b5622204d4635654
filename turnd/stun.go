package turnd

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// The codec for the few messages that this package answers or makes itself, and for a look at each request before pion sees it. It is
// stricter than pion's, because pion may only be given what both read alike: every length fits exactly, and nothing follows the integrity.

const (
	magicCookie   = 0x2112A442
	headerSize    = 20
	integritySize = 20
)

// msgType is a message's type: method and class (RFC 5389 section 6).
type msgType uint16

const (
	bindingRequest    msgType = 0x0001
	allocateRequest   msgType = 0x0003
	refreshRequest    msgType = 0x0004
	permissionRequest msgType = 0x0008
	channelRequest    msgType = 0x0009
	sendIndication    msgType = 0x0016
	dataIndication    msgType = 0x0017

	classMask    msgType = 0x0110
	classSuccess msgType = 0x0100
	classError   msgType = 0x0110
)

func (t msgType) isRequest() bool  { return t&classMask == 0 }
func (t msgType) success() msgType { return t&^classMask | classSuccess }
func (t msgType) failure() msgType { return t&^classMask | classError }

const (
	attrUsername    = 0x0006
	attrIntegrity   = 0x0008
	attrErrorCode   = 0x0009
	attrUnknown     = 0x000A
	attrChannel     = 0x000C
	attrLifetime    = 0x000D
	attrPeer        = 0x0012
	attrData        = 0x0013
	attrRealm       = 0x0014
	attrNonce       = 0x0015
	attrRelayed     = 0x0016
	attrFamily      = 0x0017
	attrEvenPort    = 0x0018
	attrTransport   = 0x0019
	attrMapped      = 0x0020
	attrReservation = 0x0022
	attrFingerprint = 0x8028
)

const (
	familyIPv4 = 1
	familyIPv6 = 2
)

// maxPeers is how many peers one request may name.
const maxPeers = 16

// message is a request, an indication or a response, as this package reads it. Slices are views into what was parsed.
type message struct {
	typ msgType
	id  [12]byte

	username, realm, nonce, data     []byte
	transport, lifetime, reservation []byte
	family, evenPort                 []byte
	channel                          []byte
	errorCode                        int
	relayed                          netip.AddrPort
	peers                            []netip.AddrPort
	unknown                          []uint16 // required ones that mean nothing here; DONT-FRAGMENT is one
	integrity                        int      // where the attribute begins; 0: there is none
	mac                              []byte
	fingerprint                      bool
	foreign                          bool // its fingerprint is wrong: it only looks like STUN (RFC 5389 7.3)
	hasData                          bool

	peerSpace    [maxPeers]netip.AddrPort
	unknownSpace [8]uint16
}

// isSTUN reports whether p has the length and the cookie of a STUN message.
func isSTUN(p []byte) bool {
	return len(p) >= headerSize && p[0]>>6 == 0 && binary.BigEndian.Uint32(p[4:]) == magicCookie &&
		int(binary.BigEndian.Uint16(p[2:])) == len(p)-headerSize && len(p)%4 == 0
}

// parse reads p, which the message's slices borrow; false: it is no STUN message, or one of its attributes does not fit. The first of
// attributes of one kind counts, except of peers. What follows the integrity is left out, as RFC 5389 15.4 says, but for the fingerprint.
func (m *message) parse(p []byte) bool {
	if !isSTUN(p) {
		return false
	}
	m.typ = msgType(binary.BigEndian.Uint16(p))
	copy(m.id[:], p[8:headerSize])
	m.peers, m.unknown = m.peerSpace[:0], m.unknownSpace[:0]
	for at := headerSize; at < len(p); {
		if len(p)-at < 4 {
			return false
		}
		typ, n := binary.BigEndian.Uint16(p[at:]), int(binary.BigEndian.Uint16(p[at+2:]))
		padded := (n + 3) &^ 3
		if len(p)-at-4 < padded {
			return false
		}
		v := p[at+4 : at+4+n : at+4+n]
		switch {
		case typ == attrFingerprint:
			if n != 4 || at+8 != len(p) || binary.BigEndian.Uint32(v) != fingerprint(p[:at]) {
				m.foreign = true
				return false
			}
			m.fingerprint = true
		case m.integrity != 0:
		case typ == attrIntegrity:
			if n != integritySize {
				return false
			}
			m.integrity, m.mac = at, v
		default:
			if !m.take(typ, v) {
				return false
			}
		}
		at += 4 + padded
	}
	return true
}

// take reads one attribute; false: it does not fit.
func (m *message) take(typ uint16, v []byte) bool {
	first := func(field *[]byte, size int) bool {
		if size > 0 && len(v) != size {
			return false
		}
		if *field == nil {
			*field = v
		}
		return true
	}
	switch typ {
	case attrUsername:
		return first(&m.username, 0)
	case attrRealm:
		return first(&m.realm, 0)
	case attrNonce:
		return first(&m.nonce, 0)
	case attrTransport:
		return first(&m.transport, 4)
	case attrLifetime:
		return first(&m.lifetime, 4)
	case attrChannel:
		return first(&m.channel, 4)
	case attrFamily:
		return first(&m.family, 4)
	case attrReservation:
		return first(&m.reservation, 8)
	case attrEvenPort:
		return first(&m.evenPort, 1)
	case attrData:
		if !m.hasData {
			m.data, m.hasData = v, true
		}
		return true
	case attrPeer:
		a, ok := unxor(v, &m.id)
		if !ok || len(m.peers) == maxPeers {
			return false
		}
		m.peers = append(m.peers, a)
		return true
	case attrRelayed:
		a, ok := unxor(v, &m.id)
		m.relayed = a
		return ok
	case attrErrorCode:
		if len(v) < 4 {
			return false
		}
		m.errorCode = int(v[2]&7)*100 + int(v[3])
		return true
	case attrMapped, attrUnknown:
		return true
	}
	if typ < 0x8000 && len(m.unknown) < len(m.unknownSpace) {
		m.unknown = append(m.unknown, typ)
	}
	return true
}

// genuine reports whether the message that was parsed from p has the integrity of key (RFC 5389 15.4). It writes to p and puts it back.
func (m *message) genuine(p, key []byte) bool {
	if m.integrity == 0 {
		return false
	}
	length := binary.BigEndian.Uint16(p[2:])
	binary.BigEndian.PutUint16(p[2:], uint16(m.integrity+4+integritySize-headerSize))
	var sum [integritySize]byte
	mac := hmac.New(sha1.New, key)
	mac.Write(p[:m.integrity])
	mac.Sum(sum[:0])
	binary.BigEndian.PutUint16(p[2:], length)
	return hmac.Equal(sum[:], m.mac)
}

// unxor reads an address (RFC 5389 15.2); an IPv4 one that is mapped into IPv6 is IPv4.
func unxor(v []byte, id *[12]byte) (netip.AddrPort, bool) {
	if len(v) != 8 && len(v) != 20 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(v[2:]) ^ magicCookie>>16
	if len(v) == 8 {
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], binary.BigEndian.Uint32(v[4:])^magicCookie)
		return netip.AddrPortFrom(netip.AddrFrom4(ip), port), v[1] == familyIPv4
	}
	var ip [16]byte
	copy(ip[:], v[4:])
	mask(ip[:], id)
	return netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), port), v[1] == familyIPv6
}

func mask(ip []byte, id *[12]byte) {
	var x [16]byte
	binary.BigEndian.PutUint32(x[:], magicCookie)
	copy(x[4:], id[:])
	for i := range ip {
		ip[i] ^= x[i]
	}
}

// begin appends the header of a message without attributes to dst, which must be empty.
func begin(dst []byte, t msgType, id *[12]byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(t))
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, magicCookie)
	return append(dst, id[:]...)
}

// attr appends an attribute to a message that begin began.
func attr(b []byte, typ uint16, v ...byte) []byte {
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
	b = append(b, v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return length(b, 0)
}

// attrAddr appends an address.
func attrAddr(b []byte, typ uint16, a netip.AddrPort, id *[12]byte) []byte {
	var v [20]byte
	binary.BigEndian.PutUint16(v[2:], a.Port()^magicCookie>>16)
	ip := a.Addr().Unmap()
	if ip.Is4() {
		v[1] = familyIPv4
		raw := ip.As4()
		copy(v[4:], raw[:])
		mask(v[4:8], id)
		return attr(b, typ, v[:8]...)
	}
	v[1] = familyIPv6
	raw := ip.As16()
	copy(v[4:], raw[:])
	mask(v[4:], id)
	return attr(b, typ, v[:]...)
}

// attrError appends an error code.
func attrError(b []byte, code int, phrase string) []byte {
	v := append(make([]byte, 0, 64), 0, 0, byte(code/100), byte(code%100))
	return attr(b, attrErrorCode, append(v, phrase...)...)
}

// seal appends the integrity of key.
func seal(b, key []byte) []byte {
	length(b, 4+integritySize)
	mac := hmac.New(sha1.New, key)
	mac.Write(b)
	return attr(b, attrIntegrity, mac.Sum(nil)...)
}

// stamp appends the fingerprint.
func stamp(b []byte) []byte {
	length(b, 8)
	return attr(b, attrFingerprint, binary.BigEndian.AppendUint32(nil, fingerprint(b))...)
}

func fingerprint(b []byte) uint32 { return crc32.ChecksumIEEE(b) ^ 0x5354554e }

// length writes how long b will be with more bytes after it.
func length(b []byte, more int) []byte {
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+more-headerSize))
	return b
}
