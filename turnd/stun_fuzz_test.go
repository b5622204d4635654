package turnd

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/pion/stun/v2"
)

// FuzzMessage: nothing that comes breaks the parser; what it takes pion takes too, and reads alike; and what pion gets of a request is what was
// looked at, each thing once.
func FuzzMessage(f *testing.F) {
	d := &device{user: "anna", password: "p", realm: "r", nonce: []byte("n")}
	withOthers := func(b []byte, id *[12]byte) []byte {
		return attr(attr(attr(wantUDP(b, id), 0x7001, 1), 0x8022, 's'), attrEvenPort, 0x80)
	}
	for _, b := range [][]byte{
		d.build(allocateRequest, d.id(), wantUDP), d.build(permissionRequest, d.id(), wantPeers(goodPeer, badPeer)),
		d.build(channelRequest, d.id(), wantChannel(oneChan, goodPeer)), d.indication(goodPeer, "payload"), stamp(d.build(refreshRequest, d.id(), wantLifetime(9))),
		attrAddr(begin(nil, bindingRequest, &[12]byte{}), attrPeer, netip.MustParseAddrPort("[2001:db8::1]:9"), &[12]byte{}),
		d.build(allocateRequest, d.id(), withOthers), attr(d.build(refreshRequest, d.id(), nil), attrLifetime, 0, 0, 0, 0),
		attrError(begin(nil, allocateRequest.failure(), &[12]byte{}), codeQuota, "quota"),
	} {
		f.Add(b)
	}
	key := longTermKey("anna", "r", "p")
	f.Fuzz(func(t *testing.T, b []byte) {
		var m message
		kept := bytes.Clone(b)
		if !m.parse(b) {
			return
		}
		genuine := m.genuine(b, key)
		if !bytes.Equal(b, kept) {
			t.Fatal("the packet was changed")
		}
		theirs := decoded(t, b)
		if err := stun.MessageIntegrity(key).Check(theirs); (err == nil) != genuine {
			t.Fatalf("pion says of the integrity: %v, this package: %v", err, genuine)
		}
		if err := stun.Fingerprint.Check(theirs); (err == nil) != m.fingerprint {
			t.Fatalf("pion says of the fingerprint: %v, this package: %v", err, m.fingerprint)
		}
		alike(t, &m, theirs)
		rewritten(t, &m, key)
	})
}

func decoded(t *testing.T, b []byte) *stun.Message {
	t.Helper()
	m := &stun.Message{Raw: append(make([]byte, 0, len(b)+64), b...)}
	if err := m.Decode(); err != nil {
		t.Fatalf("pion does not read it: %v", err)
	}
	return m
}

// alike compares what both read; pion reads also what follows the integrity, so it has more.
func alike(t *testing.T, m *message, theirs *stun.Message) {
	t.Helper()
	if msgType(theirs.Type.Value()) != m.typ || theirs.TransactionID != m.id {
		t.Fatalf("pion reads a %v", theirs)
	}
	for typ, v := range map[stun.AttrType][]byte{
		attrUsername: m.username, attrRealm: m.realm, attrNonce: m.nonce, attrTransport: m.transport, attrLifetime: m.lifetime, attrChannel: m.channel,
		attrFamily: m.family, attrReservation: m.reservation, attrEvenPort: m.evenPort, attrData: m.data, attrIntegrity: m.mac,
	} {
		if got, err := theirs.Get(typ); v != nil && (err != nil || !bytes.Equal(got, v)) {
			t.Fatalf("%v: pion reads %x, %v, this package %x", typ, got, err, v)
		}
	}
	peers := peersOf(theirs)
	for i, want := range m.peers {
		if i >= len(peers) || peers[i].IsValid() && peers[i] != want {
			t.Fatalf("pion reads the peers %v, this package %v", peers, m.peers)
		}
	}
	for _, typ := range m.unknown {
		if typ >= 0x8000 || !theirs.Contains(stun.AttrType(typ)) {
			t.Fatalf("attribute %#x is said to be unknown", typ)
		}
	}
}

// peersOf returns the peers of a message as pion reads them; not valid: it does not. Of an empty one it reads what is not there (TestEmptyPeer),
// and it wants zero in front of the family, which nobody should look at (RFC 5389 15.1).
func peersOf(m *stun.Message) (list []netip.AddrPort) {
	_ = m.ForEach(stun.AttrXORPeerAddress, func(m *stun.Message) error {
		var a stun.XORMappedAddress
		v, _ := m.Get(stun.AttrXORPeerAddress)
		if len(v) < 4 || v[0] != 0 || a.GetFromAs(m, stun.AttrXORPeerAddress) != nil {
			list = append(list, netip.AddrPort{})
			return nil
		}
		ip, _ := netip.AddrFromSlice(a.IP)
		list = append(list, netip.AddrPortFrom(ip.Unmap(), uint16(a.Port)))
		return nil
	})
	return list
}

// rewritten looks at what pion gets of a request, as its own library reads it.
func rewritten(t *testing.T, m *message, key []byte) {
	t.Helper()
	wants := map[msgType][]stun.AttrType{
		allocateRequest: {attrTransport, attrLifetime}, refreshRequest: {attrLifetime},
	}
	want, ok := wants[m.typ]
	if !ok || m.lifetime == nil { // admit has seen to these
		return
	}
	want = slices.Concat([]stun.AttrType{attrUsername, attrRealm, attrNonce}, want, []stun.AttrType{attrIntegrity})
	f := &front{number: 3, nonce: []byte("pion's"), server: &Server{cfg: Config{Realm: "of ours"}}}
	theirs := decoded(t, f.rewrite(&request{message: *m, key: key}))
	var got []stun.AttrType
	for _, a := range theirs.Attributes {
		got = append(got, a.Type)
	}
	if !slices.Equal(got, want) || msgType(theirs.Type.Value()) != m.typ || theirs.TransactionID != m.id {
		t.Fatalf("pion gets %v", theirs)
	}
	for typ, v := range map[stun.AttrType][]byte{attrUsername: []byte("3"), attrNonce: f.nonce, attrRealm: []byte("of ours"), attrLifetime: m.lifetime} {
		if b, err := theirs.Get(typ); err == nil && !bytes.Equal(b, v) {
			t.Fatalf("%v: pion gets %q", typ, b)
		}
	}
	if err := stun.MessageIntegrity(key).Check(theirs); err != nil {
		t.Fatal(err)
	}
}

// FuzzAddress: an address is read as pion wrote it, and the other way around; IPv4 in IPv6 is IPv4.
func FuzzAddress(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1}, uint16(80), []byte("transaction."))
	f.Add(netip.MustParseAddr("::ffff:10.0.0.1").AsSlice(), uint16(0), []byte("transaction."))
	f.Add(netip.MustParseAddr("2001:db8::1").AsSlice(), uint16(65535), []byte("transaction."))
	f.Fuzz(func(t *testing.T, ip []byte, port uint16, id []byte) {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok || len(id) < 12 {
			return
		}
		want := netip.AddrPortFrom(addr.Unmap(), port)
		theirs := &stun.Message{TransactionID: [12]byte(id)}
		theirs.WriteHeader()
		if err := (stun.XORMappedAddress{IP: ip, Port: int(port)}).AddToAs(theirs, stun.AttrXORPeerAddress); err != nil {
			t.Fatal(err)
		}
		var m message
		if !m.parse(theirs.Raw) || len(m.peers) != 1 || m.peers[0] != want {
			t.Fatalf("pion wrote %v, read is %v", want, m.peers)
		}
		if got := peersOf(decoded(t, attrAddr(begin(nil, permissionRequest, &m.id), attrPeer, want, &m.id))); len(got) != 1 || got[0] != want {
			t.Fatalf("%v was written, pion reads %v", want, got)
		}
		if mapped := addr.As16(); addr.Is4() {
			mask(mapped[:], &m.id)
			v := append(binary.BigEndian.AppendUint16([]byte{0, familyIPv6}, port^magicCookie>>16), mapped[:]...)
			if got, ok := unxor(v, &m.id); !ok || got != want {
				t.Fatalf("%v in IPv6 is %v", want, got)
			}
		}
	})
}
