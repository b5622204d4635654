package relay

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
)

// The few messages of TURN (RFC 5766) that a client with a channel needs.

const (
	cookie     = 0x2112A442
	headerSize = 20

	allocate    = 0x0003
	refresh     = 0x0004
	channelBind = 0x0009
	success     = 0x0100
	failure     = 0x0110

	attrUsername  = 0x0006
	attrIntegrity = 0x0008
	attrError     = 0x0009
	attrChannel   = 0x000C
	attrLifetime  = 0x000D
	attrPeer      = 0x0012
	attrRealm     = 0x0014
	attrNonce     = 0x0015
	attrRelayed   = 0x0016
	attrTransport = 0x0019
)

// request is a message that is being made.
type request struct{ b []byte }

func newRequest(typ uint16) request {
	b := make([]byte, headerSize, 256)
	binary.BigEndian.PutUint16(b, typ)
	binary.BigEndian.PutUint32(b[4:], cookie)
	_, _ = rand.Read(b[8:]) // never fails
	return request{b}
}

func (r *request) attr(typ uint16, v ...byte) {
	r.b = binary.BigEndian.AppendUint16(r.b, typ)
	r.b = binary.BigEndian.AppendUint16(r.b, uint16(len(v)))
	r.b = append(r.b, v...)
	for len(r.b)%4 != 0 {
		r.b = append(r.b, 0)
	}
	binary.BigEndian.PutUint16(r.b[2:], uint16(len(r.b)-headerSize))
}

func (r *request) peer(a netip.AddrPort) {
	v := []byte{0, 1, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(v[2:], a.Port()^cookie>>16)
	ip := a.Addr().As4()
	binary.BigEndian.PutUint32(v[4:], binary.BigEndian.Uint32(ip[:])^cookie)
	r.attr(attrPeer, v...)
}

// sign adds long-term credentials (RFC 5389 15.4).
func (r *request) sign(user, realm, nonce string, key []byte) {
	r.attr(attrUsername, []byte(user)...)
	r.attr(attrRealm, []byte(realm)...)
	r.attr(attrNonce, []byte(nonce)...)
	binary.BigEndian.PutUint16(r.b[2:], uint16(len(r.b)-headerSize+24))
	mac := hmac.New(sha1.New, key)
	mac.Write(r.b)
	r.attr(attrIntegrity, mac.Sum(nil)...)
}

func longTermKey(user, realm, password string) []byte {
	sum := md5.Sum([]byte(user + ":" + realm + ":" + password))
	return sum[:]
}

// response is what a client wants to know of one.
type response struct {
	typ          uint16
	code         int
	realm, nonce string
	relayed      netip.AddrPort
}

// parseResponse reads a response to q; false: p is none.
func parseResponse(p []byte, q request) (r response, ok bool) {
	if len(p) < headerSize || p[0]>>6 != 0 || string(p[8:headerSize]) != string(q.b[8:headerSize]) {
		return r, false
	}
	r.typ = binary.BigEndian.Uint16(p)
	for at := headerSize; at+4 <= len(p); {
		typ, n := binary.BigEndian.Uint16(p[at:]), int(binary.BigEndian.Uint16(p[at+2:]))
		if at+4+n > len(p) {
			return r, false
		}
		v := p[at+4 : at+4+n]
		switch {
		case typ == attrError && n >= 4:
			r.code = int(v[2]&7)*100 + int(v[3])
		case typ == attrRealm:
			r.realm = string(v)
		case typ == attrNonce:
			r.nonce = string(v)
		case typ == attrRelayed && n == 8:
			var ip [4]byte
			binary.BigEndian.PutUint32(ip[:], binary.BigEndian.Uint32(v[4:])^cookie)
			r.relayed = netip.AddrPortFrom(netip.AddrFrom4(ip), binary.BigEndian.Uint16(v[2:])^cookie>>16)
		}
		at += 4 + (n+3)&^3
	}
	return r, true
}
