package router

import (
	"testing"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// abroad is an account of region 2, of the test's shard, as region 0 has it.
const abroad = stanza.Account(2<<30 | 1)

// regional is pair with a link to region 2, and a border.
func regional(t *testing.T) (h *harness, s, q, b *fakeStream, ann, bob client) {
	h, s, q, ann, bob = pair(t, nil)
	h.m.regions = 1 << 2
	b = h.up(link.RoleBorder, 7, 1)
	b.take(t, link.KindHello)
	h.send(b, link.Envelope{Kind: link.KindRegions, ID: 1 << 2})
	return h, s, q, b, ann, bob
}

func TestDeliverAbroad(t *testing.T) {
	h, s, q, _, ann, _ := regional(t)
	h.send(s, messageEnv(ann, 10, abroad, 9, 4))
	if e := q.take(t, link.KindStore); e.Group != h.m.queue || e.ID != 10 {
		t.Errorf("stored %+v", e)
	}
	read := stanza.ReadUp{ID: 11, Account: abroad, Device: 2, IDs: stanza.AppendPacked(nil, []uint64{1})}
	e := messageEnv(ann, 11, abroad, 1)
	e.Payload = read.Append(nil)
	h.send(s, e)
	q.take(t, link.KindStore)
	if r := h.refused(s, messageEnv(ann, 12, abroad+1<<30, 9, 4)); r.Reason != stanza.ReasonForeignRegion {
		t.Errorf("to a region without a link: %v", r.Reason)
	}
	bad := messageEnv(ann, 13, abroad, 9, 4)
	msg := stanza.MessageUp{ID: 13, Account: abroad, Version: 1, Body: []byte{4, 200}}
	bad.Payload = msg.Append(nil)
	if r := h.refused(s, bad); r.Reason != stanza.ReasonForbidden {
		t.Errorf("a malformed body: %v", r.Reason)
	}
	h.send(s, h.bindEnv(client{account: abroad, device: 1}, 9, 0))
	if e := s.take(t, link.KindClose); e.Reason != stanza.ReasonForeignRegion {
		t.Errorf("a device of another region: %v", e.Reason)
	}
}

// TestForwarded: a message of another region goes to those devices of its list that are left, and says if that was another list.
func TestForwarded(t *testing.T) {
	h, _, q, b, ann, _ := regional(t)
	forward := func(from stanza.Account, to stanza.Account, version uint64, devices ...stanza.Device) link.Envelope {
		e := messageEnv(client{account: from, device: 3}, 10, to, version, devices...)
		e.Kind = link.KindForward
		return e
	}
	for _, c := range []struct {
		name    string
		e       link.Envelope
		devices int
		stale   bool
	}{
		{"the current list", forward(abroad, ann.account, 2, 1, 2), 2, false},
		{"an old list", forward(abroad, ann.account, 1, 1), 1, true},
		{"a device that is gone", forward(abroad, ann.account, 3, 2, 9), 1, true},
	} {
		h.send(b, c.e)
		e := q.take(t, link.KindForward)
		v, _, err := stanza.Decode(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := stanza.ParseMessageUp(v)
		n, cerr := stanza.ValidCiphers(msg.Body)
		if err != nil || cerr != nil || n != c.devices || (e.Flags == link.FlagStale) != c.stale || e.Group != h.m.queue || e.Gateway.Node != 7 {
			t.Errorf("%s: %d devices, %+v", c.name, n, e)
		}
	}
	for _, c := range []struct {
		name   string
		e      link.Envelope
		reason stanza.Reason
	}{
		{"no device is left", forward(abroad, ann.account, 1, 8, 9), stanza.ReasonStaleDevices},
		{"nobody", forward(abroad, ann.account+400, 1, 1), stanza.ReasonUnknownAccount},
		{"of an account here", forward(ann.account, ann.account, 1, 1), stanza.ReasonForbidden},
		{"through here", forward(abroad, abroad+4, 1, 1), stanza.ReasonForbidden},
	} {
		if r := h.refused(b, c.e); r.Reason != c.reason {
			t.Errorf("%s: %v, want %v", c.name, r.Reason, c.reason)
		}
	}
	h.send(q, link.Envelope{Kind: link.KindNotLeader, Group: h.m.queue, Gateway: link.GatewayID{Node: 7, Incarnation: 1}, Slot: 4, Gen: 1, ID: 10})
	if e := b.take(t, link.KindRefused); e.Reason != stanza.ReasonUnavailable || e.Slot != 4 {
		t.Errorf("the queue has moved: %+v", e)
	}
}

func TestQueryAbroad(t *testing.T) {
	h, s, _, b, ann, bob := regional(t)
	ask := func(from *fakeStream, c client, q stanza.Query) {
		t.Helper()
		h.send(from, link.Envelope{Kind: link.KindQuery, Slot: c.slot, Gen: 1, Account: c.account, Device: c.device, ID: q.ID, Payload: q.Append(nil)})
	}
	name := handleIn("zoe") + "@2"
	for _, q := range []stanza.Query{{ID: 5, Op: stanza.OpLookup, Handle: []byte(name)}, {ID: 6, Op: stanza.OpDeviceList, Account: abroad}} {
		ask(s, ann, q)
		e := b.take(t, link.KindQuery)
		if e.Gateway != (link.GatewayID{Node: 1, Incarnation: 1}) || e.Slot != ann.slot || e.Account != ann.account || e.ID != q.ID {
			t.Errorf("asked %+v", e)
		}
		res := stanza.Result{ID: q.ID, Account: abroad, Version: 1}
		h.send(b, link.Envelope{Kind: link.KindResult, Gateway: e.Gateway, Slot: e.Slot, Gen: e.Gen, Account: e.Account, ID: e.ID, Payload: res.Append(nil)})
		if r := h.result(s.take(t, link.KindResult)); r.Account != abroad || r.ID != q.ID {
			t.Errorf("answer %+v", r)
		}
	}
	stranger := client{account: abroad, device: 1, slot: 3}
	ask(b, stranger, stanza.Query{ID: 7, Op: stanza.OpLookup, Handle: []byte(handleIn("bob") + "@0")})
	if r := h.result(b.take(t, link.KindResult)); r.Account != bob.account || string(r.Handle) != handleIn("bob")+"@0" {
		t.Errorf("asked from there: %+v", r)
	}
	for _, q := range []stanza.Query{
		{ID: 8, Op: stanza.OpLookup, Handle: []byte(name)}, {ID: 8, Op: stanza.OpLink, Key: make([]byte, keySize)}, {ID: 8, Op: stanza.OpUnlink, Device: 1},
	} {
		ask(b, stranger, q)
		if e := h.queryError(b.take(t, link.KindResult)); e.Reason != stanza.ReasonForbidden {
			t.Errorf("operation %v from there: %v", q.Op, e.Reason)
		}
	}
	ask(s, ann, stanza.Query{ID: 9, Op: stanza.OpLookup, Handle: []byte(handleIn("zoe") + "@3")})
	if e := h.queryError(s.take(t, link.KindResult)); e.Reason != stanza.ReasonForeignRegion {
		t.Errorf("a region without a link: %v", e.Reason)
	}
	h.send(b, link.Envelope{Kind: link.KindRegions})
	ask(s, ann, stanza.Query{ID: 10, Op: stanza.OpDeviceList, Account: abroad})
	if e := h.queryError(s.take(t, link.KindResult)); e.Reason != stanza.ReasonUnavailable || e.RetryAfter == 0 {
		t.Errorf("a region that cannot be reached: %+v", e)
	}
}

// TestRegionFacts: the region is in the numbers of accounts and is a fact of the group's log.
func TestRegionFacts(t *testing.T) {
	for _, shards := range []int{1, 3, 16} {
		d := &directory{shard: shards - 1, shards: shards, cluster: "c", region: 3, records: memRecords{}, fail: func(err error) { t.Error(err) }}
		facts := command{op: opFacts, shards: shards, text: []byte("c"), region: 3}
		r := command{op: opRegister, text: []byte("ann"), create: true}
		d.apply(shard.Entry{Index: 1, Cmd: facts.append(nil)})
		got := d.apply(shard.Entry{Index: 2, Cmd: r.append(nil)})
		if got.reason != 0 || got.account.Region() != 3 || stanza.ShardOf(got.account, shards) != shards-1 {
			t.Errorf("%d shards: account %d, %v", shards, got.account, got.reason)
		}
		other := &directory{shard: shards - 1, shards: shards, cluster: "c", records: d.records, fail: func(error) {}}
		if err := other.load(); err == nil {
			t.Error("data of region 3 were taken for region 0's")
		}
	}
	full := &directory{shards: 1, cluster: "c", records: memRecords{}, accounts: 1<<30 - 1, fail: func(err error) { t.Error(err) }}
	r := command{op: opRegister, text: []byte("ann"), create: true}
	if got := full.apply(shard.Entry{Index: 1, Cmd: r.append(nil)}); got.reason == 0 {
		t.Errorf("account %d is of another region", got.account)
	}
}
