package testkit

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/flynn/noise"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// lowOrder are the points of X25519 whose shared secret is zero whatever the other key: the two of order 1 and 2, those of order 4 and 8,
// and what encodes them too because the top bit is ignored and numbers above p wrap around.
var lowOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"0100000000000000000000000000000000000000000000000000000000000080",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
}

// early is a case before the session: bytes, and the reason in the refused frame.
func early(name string, r stanza.Reason, say ...[]byte) badCase {
	return badCase{name: name, do: func(b *bad) error { return b.write(say...) }, seen: inRefusedFrame, event: turnedAway(r)}
}

// finishing is a case in which message 3 is written as change leaves it.
func finishing(name string, r stanza.Reason, change func(finish []byte) []byte) badCase {
	return badCase{name: name, seen: inRefusedFrame, event: turnedAway(r), do: func(b *bad) error {
		hello, err := b.Hello()
		if err == nil {
			err = b.write(hello)
		}
		if err == nil {
			err = b.ReadReply()
		}
		if err != nil {
			return err
		}
		reg := stanza.Register{Handle: []byte(b.k.handle())}
		finish, err := b.Finish(reg.Append(nil))
		if err != nil {
			return err
		}
		return b.write(change(finish))
	}}
}

var preamble = wire.Preamble[:]

// earlyCases is what is wrong before the server has a session's keys.
func earlyCases() []badCase {
	resume := wire.AppendResume(nil, make([]byte, 40), make([]byte, 48))
	flip := func(at int) func([]byte) []byte {
		return func(f []byte) []byte {
			f[(len(f)+at)%len(f)] ^= 1
			return f
		}
	}
	all := []badCase{
		early("another protocol", stanza.ReasonBadPreamble, []byte("GET / HTTP/1.1\r\n\r\n")),
		early("another magic number", stanza.ReasonBadPreamble, []byte{'L', 'D', 1, 0}),
		early("a later major version", stanza.ReasonVersion, []byte{'L', 'C', 2, 0}),
		early("major version 0", stanza.ReasonVersion, []byte{'L', 'C', 0, 0}),
		early("an empty frame", stanza.ReasonBadFrame, preamble, []byte{0, 0}),
		early("a kind that does not exist", stanza.ReasonBadFrame, preamble, []byte{0, 1, 9}),
		early("a kind of the server's", stanza.ReasonBadFrame, preamble, wire.AppendUseXX(nil)),
		early("message 1 too short", stanza.ReasonBadFrame, preamble, []byte{0, 32, 1}, make([]byte, 31)),
		early("message 1 too long", stanza.ReasonBadFrame, preamble, []byte{0, 34, 1}, make([]byte, 33)),
		early("a header above 1,024 bytes", stanza.ReasonEarlyData, preamble, []byte{4, 1}),
		early("the longest header", stanza.ReasonEarlyData, preamble, []byte{255, 255}),
		early("a resume without a ticket", stanza.ReasonBadFrame, preamble, []byte{0, 51, 2, 0, 0}, make([]byte, 48)),
		early("a resume cut short", stanza.ReasonBadFrame, preamble, []byte{0, 20, 2, 0, 40}, make([]byte, 17)),
		{name: "two resumes", seen: inRefusedFrame, event: turnedAway(stanza.ReasonBadFrame), also: []event{usedXX}, do: func(b *bad) error {
			return firstErr(b.write(preamble, resume), b.readUseXX, func() error { return b.write(resume) })
		}},
		{name: "a resume, sent back to XX", seen: skipped, also: []event{usedXX, left}, do: func(b *bad) error {
			return b.resumeThenRegister(resume)
		}},
		{name: "bytes while the handshake waits for its step", seen: inRefusedFrame, event: turnedAway(stanza.ReasonEarlyData), do: func(b *bad) error {
			hello, err := b.Hello()
			return firstErr(err, func() error { return b.write(hello, make([]byte, 3000)) })
		}},
		finishing("bytes behind message 3", stanza.ReasonEarlyData, func(f []byte) []byte { return append(f, 0) }),
		finishing("a frame behind message 3", stanza.ReasonEarlyData, func(f []byte) []byte { return append(f, make([]byte, 40)...) }),
		finishing("message 3 of another kind", stanza.ReasonBadFrame, func(f []byte) []byte { f[2] = 2; return f }),
		finishing("message 3 too short", stanza.ReasonBadFrame, func([]byte) []byte { return append([]byte{0, 64, 1}, make([]byte, 63)...) }),
		finishing("message 3 above 1,024 bytes", stanza.ReasonEarlyData, func(f []byte) []byte { return append([]byte{4, 1}, f[2:]...) }),
		finishing("garbage for message 3", stanza.ReasonHandshakeFailed, func([]byte) []byte {
			return append([]byte{0, 100, 1}, bytes.Repeat([]byte{0x5A}, 99)...)
		}),
		finishing("a bit of the static key flipped", stanza.ReasonHandshakeFailed, flip(3)),
		finishing("a bit of the payload flipped", stanza.ReasonHandshakeFailed, flip(-17)),
		finishing("a bit of the last tag flipped", stanza.ReasonHandshakeFailed, flip(-1)),
		finishing("message 3 with a byte more", stanza.ReasonHandshakeFailed, func(f []byte) []byte { f[1]++; return append(f, 0) }),
		{name: "another transcript than what was said", seen: inRefusedFrame, event: turnedAway(stanza.ReasonHandshakeFailed), do: func(b *bad) error {
			hello, err := b.HelloAfter(nil, preamble)
			return firstErr(err, func() error { return b.write([]byte{'L', 'C', 1, 7}, hello) }, b.shutReply)
		}},
		{name: "a session replayed", seen: inRefusedFrame, event: turnedAway(stanza.ReasonHandshakeFailed), also: []event{left}, do: replay},
		{name: "gone before message 3", seen: skipped, also: []event{turnedAway(stanza.ReasonPeerClosed)}, do: func(b *bad) error {
			hello, err := b.Hello()
			return firstErr(err, func() error { return b.write(hello) }, b.ReadReply)
		}},
	}
	for _, text := range lowOrder {
		point, err := hex.DecodeString(text)
		if err != nil || len(point) != wire.KeySize {
			panic(text)
		}
		all = append(all, early("low-order ephemeral key "+text, stanza.ReasonHandshakeFailed, preamble, []byte{0, 33, 1}, point),
			badCase{name: "low-order static key " + text, seen: inRefusedFrame, event: turnedAway(stanza.ReasonHandshakeFailed), do: func(b *bad) error {
				return b.lie(point)
			}})
	}
	return all
}

// usedXX is a resume sent back: counted by its cause, and no fault.
var usedXX = event{daemon: "gateway", line: "malformed"}

// usedXX reports whether e is one.
func (e event) usedXX() bool { return e.reason == 0 }

// firstErr returns err, or the error of the first step that has one.
func firstErr(err error, steps ...func() error) error {
	for _, f := range steps {
		if err != nil {
			return err
		}
		err = f()
	}
	return err
}

func (b *bad) readUseXX() error {
	body, err := b.ReadBody()
	return firstErr(err, func() error { return wire.ParseUseXX(body) })
}

// shutReply reads a message 2 that does not decrypt for this client, and says something for message 3.
func (b *bad) shutReply() error {
	if err := b.ReadReply(); err == nil {
		return fmt.Errorf("message 2 is good for another transcript")
	}
	return b.write([]byte{0, 100, 1}, make([]byte, 99))
}

// resumeThenRegister goes on with XX after a resume, as a client would, and leaves.
func (b *bad) resumeThenRegister(resume []byte) error {
	said := slices.Concat(preamble, resume)
	err := firstErr(b.write(said), b.readUseXX)
	if err != nil {
		return err
	}
	hello, err := b.HelloAfter(nil, wire.AppendUseXX(said))
	reg := stanza.Register{Handle: []byte(b.k.handle())}
	return firstErr(err, func() error { return b.write(hello) }, b.ReadReply, func() error {
		finish, err := b.Finish(reg.Append(nil))
		return firstErr(err, func() error { return b.write(finish) })
	}, b.WaitBound, b.Close)
}

// replay says to the server what another client said before, up to and with its first frame.
func replay(b *bad) error {
	other := &bad{k: b.k}
	if err := other.connect(false); err != nil {
		return err
	}
	hello, err := other.Hello()
	reg := stanza.Register{Handle: []byte(b.k.handle())}
	var finish []byte
	err = firstErr(err, func() error { return other.write(hello) }, other.ReadReply, func() (err error) {
		finish, err = other.Finish(reg.Append(nil))
		return firstErr(err, func() error { return other.write(finish) })
	}, other.WaitBound, other.Close, func() error { return b.write(hello) })
	if err != nil {
		return err
	}
	if _, err := b.ReadBody(); err != nil { // another message 2: the server has another ephemeral key
		return err
	}
	return b.write(finish)
}

// liar computes what a server would get that took a low-order static key: the third Diffie-Hellman result, which is the client's
// static key's, is zero.
type liar struct {
	noise.DHFunc
	done int
}

func (l *liar) DH(private, public []byte) ([]byte, error) {
	if l.done++; l.done == 3 {
		return make([]byte, wire.KeySize), nil
	}
	return l.DHFunc.DH(private, public)
}

// lie runs a handshake with a low-order point for a static key, which would succeed if the server did not refuse such points.
func (b *bad) lie(point []byte) error {
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(&liar{DHFunc: wire.DH}, noise.CipherChaChaPoly, noise.HashSHA256), Pattern: noise.HandshakeXX,
		Initiator: true, Prologue: slices.Concat(preamble, []byte{0, 33, 1}), StaticKeypair: noise.DHKey{Private: b.Key.Private, Public: point},
	})
	if err != nil {
		return err
	}
	m1, _, _, err := hs.WriteMessage(nil, nil)
	if err := firstErr(err, func() error { return b.write(preamble, []byte{0, 33, 1}, m1) }); err != nil {
		return err
	}
	reply, err := b.ReadBody()
	if err != nil {
		return err
	}
	if _, _, _, err := hs.ReadMessage(nil, reply[1:]); err != nil {
		return err
	}
	reg := stanza.Register{Handle: []byte(b.k.handle())}
	m3, _, _, err := hs.WriteMessage(nil, reg.Append(nil))
	return firstErr(err, func() error { return b.write(wire.AppendFrame(nil, append([]byte{1}, m3...))) })
}

// bindCases is what is wrong with message 3's payload. The session has keys then, and says close.
func bindCases() []badCase {
	reg := func(handle string) []byte { return (&stanza.Register{Handle: []byte(handle)}).Append(nil) }
	bind := func(a stanza.Account, d stanza.Device) []byte {
		return (&stanza.Bind{Account: a, Device: d}).Append(nil)
	}
	from := stanza.Begin(nil, stanza.TagBind)
	from.Uint(stanza.AttrAccount, 1)
	from.Uint(stanza.AttrDevice, 1)
	from.Uint(stanza.AttrFrom, 1)
	with := func(name string, r stanza.Reason, payload func(b *bad) []byte) badCase {
		return badCase{name: name, seen: inClose, event: turnedAway(r), do: func(b *bad) error { return b.Shake(payload(b)) }}
	}
	is := func(p []byte) func(*bad) []byte { return func(*bad) []byte { return p } }
	member := func(b *bad) *member { return b.k.crowd.members[0] }
	return []badCase{
		with("message 3 without a stanza", stanza.ReasonBadStanza, is(nil)),
		with("message 3 with a stanza that is not canonical", stanza.ReasonBadStanza, is([]byte{1, 0x84, 0, 0x0c, 1, 0x10, 1})),
		with("message 3 with two stanzas", stanza.ReasonBadStanza, is(append(reg("twice"), reg("twice")...))),
		with("message 3 with a ping", stanza.ReasonBadStanza, is(stanza.Ping{}.Append(nil))),
		with("message 3 with from", stanza.ReasonForbidden, is(from.End(nil))),
		with("a handle with a space", stanza.ReasonBadHandle, is(reg("a b"))),
		with("a handle of 33 bytes", stanza.ReasonBadHandle, is(reg("abcdefghijklmnopqrstuvwxyz0123456"))),
		with("a handle of 257 bytes", stanza.ReasonBadStanza, is(reg(string(bytes.Repeat([]byte{'a'}, 257))))),
		with("another's handle", stanza.ReasonHandleTaken, func(b *bad) []byte { return reg(member(b).Handle) }),
		with("another's device", stanza.ReasonBadKey, func(b *bad) []byte { return bind(member(b).Bound.Account, member(b).Bound.Device) }),
		with("a device that is not there", stanza.ReasonUnlinked, func(b *bad) []byte { return bind(member(b).Bound.Account, 9) }),
		with("an account that is not there", stanza.ReasonUnknownAccount, is(bind(nobody, 1))),
		with("an account of another region", stanza.ReasonForeignRegion, is(bind(stanza.MaxAccount, 1))),
	}
}

// slowCases wait for deadlines, and so run all at once.
func slowCases() []badCase {
	return []badCase{
		early("a client that says nothing", stanza.ReasonHandshakeTimeout),
		early("half a preamble", stanza.ReasonHandshakeTimeout, preamble[:2]),
		early("half a message 1", stanza.ReasonHandshakeTimeout, preamble, []byte{0, 33, 1, 2, 3}),
		{name: "no message 3", seen: inRefusedFrame, event: turnedAway(stanza.ReasonHandshakeTimeout), do: func(b *bad) error {
			hello, err := b.Hello()
			return firstErr(err, func() error { return b.write(hello) }, b.ReadReply)
		}},
		{name: "half a frame", bound: true, seen: inClose, event: closed(stanza.ReasonPartialTimeout), do: func(b *bad) error {
			return b.write(b.Seal(stanza.Ping{}.Append(nil))[:9])
		}},
		{name: "one byte at a time", bound: true, seen: inClose, event: closed(stanza.ReasonPartialTimeout), do: func(b *bad) error {
			f := b.Seal(make([]byte, 400))
			for i := 0; i < 40; i++ { // ends early when the server closes
				if b.write(f[i:i+1]) != nil {
					break
				}
				time.Sleep(100 * time.Millisecond) // this is how slow it is
			}
			return nil
		}},
		unresponsive(),
	}
}
