package router

import (
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// FuzzEnvelope gives a leading shard the envelopes of a gateway and an offline, one after the other with time in between: it goes on, answers
// at most what was asked, and its directory and bindings stay sound.
func FuzzEnvelope(f *testing.F) {
	for _, session := range sessions() {
		var b []byte
		for i := range session {
			b = link.AppendEnvelope(b, &session[i])
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, s, q, _, _ := pair(t, nil)
		heard := 0
		for ; heard < mostEntries && len(b) > 0; heard++ {
			var e link.Envelope
			var err error
			if b, err = link.DecodeEnvelope(b, &e); err != nil {
				break
			}
			from := s
			switch e.Kind {
			case link.KindHello, link.KindNotLeader, link.KindQueueDropped, link.KindUnlinkIdle:
				from = q
			}
			h.send(from, e)
			h.tick(100 * time.Millisecond)
		}
		if n := len(s.got) + len(q.got); n > 8*heard {
			t.Errorf("%d envelopes in answer to %d", n, heard)
		}
		h.tick(time.Minute)
		if h.m.waiting != 0 {
			t.Errorf("%d requests wait forever", h.m.waiting)
		}
		checkDirectory(t, h.m.directory)
		checkBindings(t, h.m)
	})
}

// sessions are what a shard hears of the two accounts of pair and of others.
func sessions() [][]link.Envelope {
	ann, bob := client{account: testShards + testShard, device: 1, slot: 5}, client{account: 2*testShards + testShard, device: 1, slot: 6}
	k, other := key(1), key(9)
	from := func(kind link.Kind, c client, id uint64, payload []byte) link.Envelope {
		return link.Envelope{Kind: kind, Slot: c.slot, Gen: 1, Account: c.account, Device: c.device, ID: id, Charge: 77, Payload: payload}
	}
	query := func(c client, q stanza.Query) link.Envelope { return from(link.KindQuery, c, q.ID, q.Append(nil)) }
	read := stanza.ReadUp{ID: 4, Account: ann.account, Device: 2, IDs: stanza.AppendPacked(nil, []uint64{1})}
	register := stanza.Register{Handle: []byte(handleIn("cat"))}
	rebind := from(link.KindRebind, ann, 0, nil)
	rebind.Serial = link.MakeFence(1, 1)
	down := link.Envelope{Kind: link.KindNotLeader, ID: 3, Account: bob.account, Device: 1, Gateway: link.GatewayID{Node: 1, Incarnation: 1}}
	about := func(kind link.Kind, device stanza.Device) link.Envelope {
		return link.Envelope{Kind: kind, Account: ann.account, Device: device}
	}
	return [][]link.Envelope{
		{messageEnv(bob, 3, ann.account, 2, 1, 2), from(link.KindMessage, bob, 4, read.Append(nil)), messageEnv(bob, 5, ann.account, 1, 1),
			messageEnv(ann, 1, ann.account, 2, 2), messageEnv(bob, 6, 7*testShards+testShard, 1, 1), down},
		{query(ann, stanza.Query{ID: 1, Op: stanza.OpLookup, Handle: []byte(handleIn("bob"))}), query(ann, stanza.Query{ID: 2, Op: stanza.OpLookup,
			Handle: []byte(handleIn("zoe"))}), query(bob, stanza.Query{ID: 3, Op: stanza.OpDeviceList, Account: ann.account}), query(bob, stanza.Query{ID: 4, Op: 99})},
		{query(ann, stanza.Query{ID: 1, Op: stanza.OpLink, Key: other[:]}), query(ann, stanza.Query{ID: 2, Op: stanza.OpUnlink, Device: 2}),
			about(link.KindQueueDropped, 2), messageEnv(bob, 7, ann.account, 4, 1, 3), about(link.KindUnlinkIdle, 3)},
		{from(link.KindRegister, client{slot: 9}, 0, register.Append(k[:])), from(link.KindRegister, client{slot: 9}, 0, register.Append(other[:])),
			from(link.KindRedeem, client{slot: 9}, 0, redeemPayload(1, "ann", "code"))},
		{from(link.KindBind, ann, 2000, k[:]), from(link.KindBind, ann, 0, other[:]), from(link.KindUnbind, ann, 0, nil), rebind,
			{Kind: link.KindRebindDone, Term: 1}, from(link.KindGone, ann, 0, nil), from(link.KindNote, ann, 4096, nil), from(link.KindContact, ann, 9, nil)},
		{{Kind: link.KindHello, Group: stanza.QueueGroup(testShard), Term: 2}, messageEnv(bob, 3, ann.account, 2, 1, 2), {Kind: link.KindNotLeader},
			messageEnv(bob, 4, ann.account, 2, 1, 2), from(link.KindBind, ann, 0, k[:]), {Kind: link.KindHello, Group: stanza.QueueGroup(testShard), Term: 3}},
	}
}

// checkBindings checks the counts that the table keeps for each gateway, and that only devices that exist are bound.
func checkBindings(t *testing.T, m *dirShard) {
	t.Helper()
	counts := map[uint32]int{}
	for k, b := range m.bindings.all() {
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
