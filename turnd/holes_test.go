package turnd

import (
	"fmt"
	"testing"

	"github.com/pion/stun/v2"
)

// holes are what pion/turn v3.0.3 does wrong over UDP: each is looked for in it and in this package. An error is what was wrong.
var holes = []struct {
	name string
	look func(t *testing.T, s site) error
}{
	{"any user may use another's allocation", func(t *testing.T, s site) error {
		for _, x := range threeMore {
			d := dial(t, s.addr, "anna", "secret-a")
			d.allocate()
			d.user, d.password = "bert", "secret-b"
			if code := d.code(s, x.typ, x.add); code != codeWrongCredentials {
				return fmt.Errorf("request %#x: %d", x.typ, code)
			}
		}
		return nil
	}},
	{"no quota", func(t *testing.T, s site) error {
		for range 4 {
			dial(t, s.addr, "anna", "secret-a").allocate()
		}
		d := dial(t, s.addr, "anna", "secret-a")
		d.greet()
		if code := d.code(s, allocateRequest, wantUDP); code != codeQuota {
			return fmt.Errorf("the fifth of four: %d", code)
		}
		dial(t, s.addr, "bert", "secret-b").allocate()
		return nil
	}},
	{"a TCP relay is promised", func(t *testing.T, s site) error {
		return refused(t, s, allocateRequest, codeTransport, func(b []byte, _ *[12]byte) []byte { return attr(b, attrTransport, 6, 0, 0, 0) })
	}},
	{"an IPv6 relay is promised", func(t *testing.T, s site) error {
		return refused(t, s, allocateRequest, codeFamily, func(b []byte, id *[12]byte) []byte {
			return attr(wantUDP(b, id), attrFamily, familyIPv6, 0, 0, 0)
		})
	}},
	{"a reservation that never was is granted", func(t *testing.T, s site) error {
		return refused(t, s, allocateRequest, codeCapacity, func(b []byte, id *[12]byte) []byte {
			return attr(wantUDP(b, id), attrReservation, 1, 2, 3, 4, 5, 6, 7, 8)
		})
	}},
	{"unknown attributes that must be understood are ignored", func(t *testing.T, s site) error {
		return refused(t, s, allocateRequest, codeUnknownAttribute, func(b []byte, id *[12]byte) []byte {
			return attr(wantUDP(b, id), 0x7001, 1)
		})
	}},
	{"no answer without an allocation", func(t *testing.T, s site) error {
		for _, x := range threeMore {
			if err := refused(t, s, x.typ, codeMismatch, x.add); err != nil {
				return err
			}
		}
		return nil
	}},
	{"a release of nothing is granted", func(t *testing.T, s site) error {
		return refused(t, s, refreshRequest, codeMismatch, wantLifetime(0))
	}},
	{"400 for a wrong password", func(t *testing.T, s site) error {
		return refusedAs(t, s, "anna", "wrong", allocateRequest, codeUnauthorized, wantUDP)
	}},
	{"400 for an unknown user", func(t *testing.T, s site) error {
		return refusedAs(t, s, "nobody", "wrong", allocateRequest, codeUnauthorized, wantUDP)
	}},
	{"a forbidden peer has no code", func(t *testing.T, s site) error {
		d := dial(t, s.addr, "anna", "secret-a")
		d.allocate()
		if code := d.code(s, permissionRequest, wantPeers(badPeer)); code != codeForbidden {
			return fmt.Errorf("CreatePermission: %d", code)
		}
		return nil
	}},
	{"a forbidden peer is said to be a wrong password", func(t *testing.T, s site) error {
		d := dial(t, s.addr, "anna", "secret-a")
		d.allocate()
		if code := d.code(s, channelRequest, wantChannel(oneChan, badPeer)); code != codeForbidden {
			return fmt.Errorf("ChannelBind: %d", code)
		}
		return nil
	}},
	{"one good peer in a request with a forbidden one", func(t *testing.T, s site) error {
		d := dial(t, s.addr, "anna", "secret-a")
		relayed := d.allocate()
		p := newPeer(t)
		d.code(s, permissionRequest, wantPeers(p.addr(), badPeer)) // refused as a whole
		d.send(d.indication(p.addr(), "must not arrive"))
		if code := d.code(s, permissionRequest, wantPeers(p.addr())); code != 0 {
			return fmt.Errorf("CreatePermission: %d", code)
		}
		d.send(d.indication(p.addr(), "first"))
		if got, from := p.receive(); got != "first" || from != relayed {
			return fmt.Errorf("the peer got %q", got)
		}
		return nil
	}},
	{"a channel number that is none", func(t *testing.T, s site) error {
		d := dial(t, s.addr, "anna", "secret-a")
		d.allocate()
		if code := d.code(s, channelRequest, wantChannel(0x8000, goodPeer)); code != codeBadRequest {
			return fmt.Errorf("ChannelBind: %d", code)
		}
		return nil
	}},
	{"lifetime 0 of a new allocation", func(t *testing.T, s site) error {
		d := dial(t, s.addr, "anna", "secret-a")
		d.greet()
		if code := d.code(s, allocateRequest, func(b []byte, id *[12]byte) []byte { return wantLifetime(0)(wantUDP(b, id), id) }); code != 0 {
			return fmt.Errorf("Allocate: %d", code)
		}
		return nil
	}},
}

func refused(t *testing.T, s site, typ msgType, want int, add func([]byte, *[12]byte) []byte) error {
	return refusedAs(t, s, "anna", "secret-a", typ, want, add)
}

func refusedAs(t *testing.T, s site, user, password string, typ msgType, want int, add func([]byte, *[12]byte) []byte) error {
	d := dial(t, s.addr, user, password)
	d.greet()
	if code := d.code(s, typ, add); code != want {
		return fmt.Errorf("request %#x: %d, want %d", typ, code, want)
	}
	return nil
}

// TestHoles: what the bare library does wrong, this package does not. Where the library was mended, its entry tells: the filter may go.
func TestHoles(t *testing.T) {
	for _, h := range holes {
		t.Run(h.name, func(t *testing.T) {
			if err := h.look(t, ours(t)); err != nil {
				t.Errorf("here: %v", err)
			}
			err := h.look(t, bare(t))
			if err == nil {
				t.Error("the library does not have this hole any more")
			}
			t.Logf("the bare library: %v", err)
		})
	}
}

// TestEmptyPeer: a Send indication with an empty peer address ends a process that is the bare library.
func TestEmptyPeer(t *testing.T) {
	s := ours(t)
	d := dial(t, s.addr, "anna", "secret-a")
	d.allocate()
	id := d.id()
	evil := attr(attr(begin(nil, sendIndication, &id), attrData, make([]byte, 20)...), attrPeer)
	d.send(evil)
	if code := d.code(s, refreshRequest, wantLifetime(600)); code != 0 {
		t.Errorf("Refresh after it: %d", code)
	}
	defer func() {
		if recover() == nil {
			t.Error("the library does not panic any more")
		}
	}()
	m := &stun.Message{Raw: append([]byte{}, evil...)} // as it does with what it gets
	if err := m.Decode(); err != nil {
		t.Fatal(err)
	}
	var a stun.XORMappedAddress
	_ = a.GetFromAs(m, stun.AttrXORPeerAddress)
}
