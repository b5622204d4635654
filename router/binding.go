package router

import (
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// binding is a device's session as the router knows it. It holds no pointer, so that the collector never walks the table: the
// gateway is a number that gatewaySet resolves.
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
	byDevice map[deviceKey]binding
	gateways *gatewaySet
}

// set puts b in place of whatever the device had.
func (t *bindingTable) set(k deviceKey, b binding) {
	t.remove(k)
	gw := t.gateways.at(b.gateway)
	b.round = gw.round
	gw.bindings++
	gw.fresh++
	t.byDevice[k] = b
}

func (t *bindingTable) remove(k deviceKey) {
	b, ok := t.byDevice[k]
	if !ok {
		return
	}
	gw := t.gateways.at(b.gateway)
	gw.bindings--
	if b.round == gw.round {
		gw.fresh--
	}
	delete(t.byDevice, k)
}

// removeOf removes gw's bindings for which drop says so and calls gone for each. It walks the whole table: a few ms per 100,000
// bindings, at the loss of a gateway only.
func (t *bindingTable) removeOf(gw *gateway, drop func(binding) bool, gone func(deviceKey, binding)) {
	for k, b := range t.byDevice {
		if b.gateway == gw.index && drop(b) {
			t.remove(k)
			gone(k, b)
		}
	}
}

// keys returns every bound device, for paging.
func (t *bindingTable) keys() []deviceKey {
	keys := make([]deviceKey, 0, len(t.byDevice))
	for k := range t.byDevice {
		keys = append(keys, k)
	}
	return keys
}

// clear forgets all bindings: the end of a leadership.
func (t *bindingTable) clear() {
	t.byDevice = make(map[deviceKey]binding)
	for _, gw := range t.gateways.byID {
		gw.bindings, gw.fresh = 0, 0
	}
}
