package testkit

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"linecard.example/internal/stanza"
)

// inSession is a case in a session that ends it with a close stanza.
func inSession(name string, r stanza.Reason, do func(b *bad) error) badCase {
	return badCase{name: name, bound: true, do: do, seen: inClose, event: closed(r)}
}

// frameCases is what is wrong with sealed frames.
func frameCases() []badCase {
	ping := stanza.Ping{}.Append(nil)
	changed := func(name string, change func(f []byte) []byte) badCase {
		return inSession(name, stanza.ReasonDecryptFailed, func(b *bad) error { return b.write(change(b.Seal(ping))) })
	}
	return []badCase{
		changed("a bit of a frame flipped", func(f []byte) []byte { f[2] ^= 1; return f }),
		changed("a bit of a tag flipped", func(f []byte) []byte { f[len(f)-1] ^= 0x80; return f }),
		changed("a frame said to be longer", func(f []byte) []byte { f[1]++; return append(f, 0) }),
		changed("a frame said to be shorter", func(f []byte) []byte { f[1]--; return f }),
		changed("an empty sealed frame", func([]byte) []byte { return []byte{0, 0} }),
		changed("a frame shorter than a tag", func([]byte) []byte { return []byte{0, 3, 1, 2, 3} }),
		changed("a frame of zeros", func([]byte) []byte { return append([]byte{0, 64}, make([]byte, 64)...) }),
		changed("a frame of the greatest length", func([]byte) []byte { return append([]byte{255, 255}, make([]byte, 65535)...) }),
		changed("a handshake frame in a session", func([]byte) []byte { return append([]byte{0, 33, 1}, make([]byte, 32)...) }),
		inSession("a frame replayed", stanza.ReasonDecryptFailed, func(b *bad) error {
			f := b.Seal(ping)
			return b.write(f, f)
		}),
		inSession("two frames in the wrong order", stanza.ReasonDecryptFailed, func(b *bad) error {
			first, second := b.Seal(ping), b.Seal(ping)
			return b.write(second, first)
		}),
		inSession("a frame left out", stanza.ReasonDecryptFailed, func(b *bad) error {
			b.Seal(ping)
			return b.write(b.Seal(ping))
		}),
		{name: "gone in the midst of a frame", bound: true, seen: judged, also: []event{left}, do: func(b *bad) error {
			return firstErr(b.write(b.Seal(ping)[:9]), b.Close)
		}},
	}
}

// stanzaCases is what is wrong with the plaintext of frames, every malformed example of the protocol's page among it.
func stanzaCases(t testing.TB) []badCase {
	plain := func(name string, r stanza.Reason, text string) badCase {
		p, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return inSession(name, r, func(b *bad) error { return b.write(b.SealPlain(p)) })
	}
	one := func(name string, r stanza.Reason, s []byte) badCase {
		return inSession(name, r, func(b *bad) error { return b.Say(s) })
	}
	all := []badCase{
		plain("a frame without a stanza", stanza.ReasonBadStanza, "00"),
		plain("another flags byte", stanza.ReasonBadStanza, "01 0500"),
		plain("257 stanzas", stanza.ReasonBadStanza, "00"+strings.Repeat("0500", 257)),
		plain("a stanza cut short", stanza.ReasonBadStanza, "00 0503 58"),
		plain("a byte behind the last stanza", stanza.ReasonBadStanza, "00 0500 05"),
		plain("a length of 2^63", stanza.ReasonBadStanza, "00 05 ffffffffffffffff7f"),
		plain("a number above 64 bits", stanza.ReasonBadStanza, "00 050b 78 ffffffffffffffffff02"),
		plain("a stanza longer than a frame", stanza.ReasonBadStanza, "00 7f efff03 00"),
		one("lists nested too deep", stanza.ReasonBadStanza, nested(stanza.MaxDepth+1)),
		plain("a list that goes beyond its stanza", stanza.ReasonBadStanza, "00 7f03 a3 05 00"),
		plain("a message without an account", stanza.ReasonBadStanza, "00 4004 048110 1c01"),
		plain("a message with id 0", stanza.ReasonBadStanza, "00 4006 0400 0c25 1c01"),
		plain("a message after itself", stanza.ReasonBadStanza, "00 4009 048110 0800 0c25 1c01"),
		plain("an interval above 2^32", stanza.ReasonBadStanza, "00 0506 58 8080808010"),
		plain("a ping with a body", stanza.ReasonBadStanza, "00 0504 583c ff 01"),
		plain("a close without a reason", stanza.ReasonBadStanza, "00 0400"),
		plain("a delivery_ack for more than came", stanza.ReasonBadStanza, "00 880101"),
		plain("a delivery_ack of nothing", stanza.ReasonBadStanza, "00 880100"),
		one("a second bind", stanza.ReasonBadStanza, (&stanza.Bind{Account: 1, Device: 1}).Append(nil)),
		one("a second register", stanza.ReasonBadStanza, (&stanza.Register{Handle: []byte("again")}).Append(nil)),
		one("a message with from", stanza.ReasonForbidden, withFrom(stanza.TagMessage)),
		one("an unknown stanza with from", stanza.ReasonForbidden, withFrom(100)),
		legal("lists nested as deep as may be", nested(stanza.MaxDepth)),
		legal("an unknown tag", []byte{0x7f, 2, 62 << 2, 1}), // with an attribute that is unknown, too
		legal("a tag of the server's", stanza.RetryAll{}.Append(nil)),
	}
	for _, line := range fenced(readPage(t), "invalid") {
		text, what, _ := strings.Cut(line, "  ")
		all = append(all, plain("the page: "+strings.TrimSpace(what), stanza.ReasonBadStanza, "00"+text))
	}
	return all
}

// legal is a case that looks strange and is none: the session goes on.
func legal(name string, s []byte) badCase {
	return badCase{name: name, bound: true, seen: skipped, do: func(b *bad) error { return b.Say(s) }}
}

// nested is an unknown stanza with lists within lists.
func nested(depth int) []byte {
	var attrs []byte
	for range depth {
		record := append([]byte{byte(len(attrs))}, attrs...)
		attrs = append([]byte{40<<2 | 3, byte(len(record))}, record...)
	}
	return append([]byte{0x7f, byte(len(attrs))}, attrs...)
}

func withFrom(tag stanza.Tag) []byte {
	s := stanza.Begin(nil, tag)
	s.Uint(stanza.AttrID, firstID)
	s.Uint(stanza.AttrAccount, 1)
	s.Uint(stanza.AttrFrom, 1)
	s.Uint(stanza.AttrVersion, 1)
	return s.End([]byte{1, 1, 'x'})
}

// nobody is the last account number of region 0, which no test gets to.
var nobody = stanza.Region(1).First() - 1

// refusalCases is what is refused by itself: the session goes on.
func refusalCases() []badCase {
	refused := func(name string, e event, s func(b *bad) []byte) badCase {
		return badCase{name: name, bound: true, seen: inRefusal, event: e, do: func(b *bad) error { return b.Say(s(b)) }}
	}
	other := func(b *bad) stanza.Account { return b.k.crowd.members[0].Bound.Account }
	return []badCase{
		refused("a message to an account that is not there", refusedBy("router", stanza.ReasonUnknownAccount), func(*bad) []byte {
			return message(firstID, 0, nobody, 0)
		}),
		refused("a message to an account of a region without a link", refusedBy("router", stanza.ReasonForeignRegion), func(*bad) []byte {
			return message(firstID, 0, stanza.MaxAccount, 0)
		}),
		refused("a message to nobody but the sender", refusedBy("router", stanza.ReasonForbidden), func(b *bad) []byte {
			return message(firstID, 0, b.Bound.Account, 0)
		}),
		refused("a message without ciphertexts", refusedBy("router", stanza.ReasonForbidden), func(b *bad) []byte {
			return (&stanza.MessageUp{ID: firstID, Account: other(b), Version: 1, Body: []byte{1}}).Append(nil)
		}),
		refused("a message for another device list", refusedBy("router", stanza.ReasonStaleDevices), func(b *bad) []byte {
			m := stanza.MessageUp{ID: firstID, Account: other(b), Version: 9, Body: stanza.AppendCipher(nil, 1, []byte(marker))}
			return m.Append(nil)
		}),
		refused("a message that is too large", refusedBy("gateway", stanza.ReasonTooLarge), func(b *bad) []byte {
			return message(firstID, 0, other(b), 17<<10)
		}),
		refused("read receipts for a device that is not there", refusedBy("router", stanza.ReasonForbidden), func(b *bad) []byte {
			return (&stanza.ReadUp{ID: firstID, Account: other(b), Device: 9, IDs: stanza.AppendPacked(nil, []uint64{1})}).Append(nil)
		}),
		refused("a look-up of a handle that is not there", queryRefusedBy("router", stanza.ReasonUnknownAccount), func(*bad) []byte {
			return (&stanza.Query{ID: 1, Op: stanza.OpLookup, Handle: []byte("nobody")}).Append(nil)
		}),
		refused("a look-up of what is no handle", queryRefusedBy("gateway", stanza.ReasonUnknownAccount), func(*bad) []byte {
			return (&stanza.Query{ID: 1, Op: stanza.OpLookup, Handle: []byte("no body")}).Append(nil)
		}),
		refused("an operation that does not exist", queryRefusedBy("gateway", stanza.ReasonForbidden), func(*bad) []byte {
			return (&stanza.Query{ID: 1, Op: math.MaxUint8}).Append(nil)
		}),
		refused("unlinking a device that is not there", queryRefusedBy("router", stanza.ReasonForbidden), func(*bad) []byte {
			return (&stanza.Query{ID: 1, Op: stanza.OpUnlink, Device: 9}).Append(nil)
		}),
		{name: "more look-ups than the rate allows", bound: true, seen: inRefusal, event: queryRefusedBy("gateway", stanza.ReasonBusy), drops: true, do: func(b *bad) error {
			var all [][]byte
			for id := range uint64(6) {
				all = append(all, (&stanza.Query{ID: id + 1, Op: stanza.OpLookup, Handle: []byte(b.k.crowd.members[0].Handle)}).Append(nil))
			}
			return b.Say(all...)
		}},
	}
}
