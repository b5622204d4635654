package router

import (
	"iter"

	"linecard.example/internal/link"
	"linecard.example/internal/slab"
	"linecard.example/internal/stanza"
)

// binding is a device's session as the router knows it. It holds no pointer and lives outside the heap: the gateway is a number that
// gatewaySet resolves.
type binding struct {
	serial  link.Fence // the highest claim for the device
	gateway uint32     // index in gatewaySet
	slot    uint32
	gen     uint32
	round   uint32 // the gateway's round when it last vouched for this session
}

// same reports whether b is the session (gateway, slot, gen).
func (b *binding) same(gateway, slot, gen uint32) bool {
	return b.gateway == gateway && b.slot == slot && b.gen == gen
}

// deviceKey packs (account, device) into the key of the table; accounts have 34 bits, devices 16.
type deviceKey uint64

func keyOf(a stanza.Account, d stanza.Device) deviceKey { return deviceKey(a)<<16 | deviceKey(d) }

func (k deviceKey) account() stanza.Account { return stanza.Account(k >> 16) }
func (k deviceKey) device() stanza.Device   { return stanza.Device(k & maxDevice) }

// bindingTable maps devices to their sessions and keeps each gateway's counts. Shard goroutine only.
type bindingTable struct {
	table    *slab.Table[binding] // by deviceKey
	gateways *gatewaySet
}

func newBindingTable(gateways *gatewaySet) *bindingTable {
	return &bindingTable{table: slab.NewTable[binding](), gateways: gateways}
}

func (t *bindingTable) len() int { return t.table.Len() }

func (t *bindingTable) get(k deviceKey) (b binding, ok bool) {
	if p := t.table.Get(uint64(k)); p != nil {
		return *p, true
	}
	return b, false
}

// set puts b in place of whatever the device had.
func (t *bindingTable) set(k deviceKey, b binding) {
	if old, ok := t.get(k); ok {
		t.uncount(&old)
	}
	gw := t.gateways.at(b.gateway)
	b.round = gw.round
	gw.bindings++
	gw.fresh++
	t.table.Put(uint64(k), b)
}

func (t *bindingTable) uncount(b *binding) {
	gw := t.gateways.at(b.gateway)
	gw.bindings--
	if b.round == gw.round {
		gw.fresh--
	}
}

func (t *bindingTable) remove(k deviceKey) {
	if b, ok := t.get(k); ok {
		t.uncount(&b)
		t.table.Delete(uint64(k))
	}
}

// removeOf removes gw's bindings for which drop says so and calls gone for each. It walks the whole table: about a ms per 100,000
// bindings, at the loss of a gateway only.
func (t *bindingTable) removeOf(gw *gateway, drop func(binding) bool, gone func(deviceKey, binding)) {
	for k, b := range t.all() {
		if b.gateway == gw.index && drop(b) {
			t.remove(k)
			gone(k, b)
		}
	}
}

// all ranges over the bindings. The loop may remove the one it is at, and change nothing else.
func (t *bindingTable) all() iter.Seq2[deviceKey, binding] {
	return func(yield func(deviceKey, binding) bool) {
		for mark, more := uint64(0), true; more; {
			mark = t.table.Scan(mark, t.len(), func(k uint64, b *binding) bool {
				before := t.len()
				more = yield(deviceKey(k), *b)
				return more && t.len() == before
			})
			more = more && mark != 0
		}
	}
}

// clear forgets all bindings: the end of a leadership.
func (t *bindingTable) clear() {
	t.table.Clear()
	for _, gw := range t.gateways.byID {
		gw.bindings, gw.fresh = 0, 0
	}
}
