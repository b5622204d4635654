package router

import (
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// FuzzEnvelope: whatever a gateway or an offline sends, the shard goes on, answers at most what was asked, and its directory and
// bindings stay sound.
func FuzzEnvelope(f *testing.F) {
	k := key(1)
	query := stanza.Query{ID: 1, Op: stanza.OpLink, Key: k[:]}
	lookup := stanza.Query{ID: 1, Op: stanza.OpLookup, Handle: []byte("ann")}
	read := stanza.ReadUp{ID: 3, Account: 5, Device: 1, IDs: stanza.AppendPacked(nil, []uint64{1})}
	register := stanza.Register{Handle: []byte(handleIn("cat"))}
	f.Add(uint8(link.KindMessage), uint64(9), uint32(1), uint64(3), messageEnv(client{account: 9, device: 1}, 3, 5, 1, 1).Payload)
	f.Add(uint8(link.KindMessage), uint64(9), uint32(1), uint64(3), read.Append(nil))
	f.Add(uint8(link.KindQuery), uint64(5), uint32(1), uint64(3), query.Append(nil))
	f.Add(uint8(link.KindQuery), uint64(5), uint32(1), uint64(3), lookup.Append(nil))
	f.Add(uint8(link.KindRegister), uint64(0), uint32(0), uint64(3), register.Append(k[:]))
	f.Add(uint8(link.KindRedeem), uint64(0), uint32(0), uint64(3), redeemPayload(1, "ann", "code"))
	f.Add(uint8(link.KindBind), uint64(5), uint32(1), uint64(3), k[:])
	for kind := link.KindHello; kind <= link.KindNotLeader; kind++ {
		f.Add(uint8(kind), uint64(5), uint32(1), uint64(3), []byte{})
	}
	f.Fuzz(func(t *testing.T, kind uint8, account uint64, device uint32, id uint64, payload []byte) {
		h, s, q, _, _ := pair(t, nil)
		for _, from := range []*fakeStream{s, q} {
			h.send(from, link.Envelope{Kind: link.Kind(kind), Slot: 5, Gen: 1, Account: stanza.Account(account), Device: stanza.Device(device),
				ID: id, Payload: payload})
		}
		if n := len(s.got) + len(q.got); n > 6 {
			t.Errorf("%d envelopes in answer to two", n)
		}
		if h.m.waiting != 0 {
			t.Errorf("%d requests wait forever", h.m.waiting)
		}
		checkDirectory(t, h.m.directory)
		checkBindings(t, h.m)
	})
}

// checkBindings checks the counts that the table keeps for each gateway, and that only devices that exist are bound.
func checkBindings(t *testing.T, m *dirShard) {
	t.Helper()
	counts := map[uint32]int{}
	for k, b := range m.bindings.byDevice {
		counts[b.gateway]++
		if a, err := m.directory.account(k.account()); err != nil || a == nil || a.device(k.device()) == nil {
			t.Errorf("%d.%d is bound and does not exist", k.account(), k.device())
		}
	}
	for _, gw := range m.gateways.byID {
		if counts[gw.index] != gw.bindings || gw.fresh > gw.bindings {
			t.Errorf("gateway %d has %d bindings, counted are %d, of them %d fresh", gw.index, counts[gw.index], gw.bindings, gw.fresh)
		}
	}
}
