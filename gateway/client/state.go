package client

import (
	"maps"
	"slices"
)

// maxCached bounds the names and device lists that a Home keeps. They are caches: one that was forgotten is looked up again.
const maxCached = 1 << 16

// Identity is who a Home is on its cluster.
type Identity struct {
	Account Account
	Device  Device
	Handle  string // folded
}

// homeState is what a Home remembers. Guarded by Home.mu.
type homeState struct {
	identity Identity // zero until registered or adopted
	top      uint64   // highest message id ever used
	unacked  map[uint64]*sendRecord
	marks    map[peer]uint64 // for as long as the Home lives: forgetting one would show messages again
	contacts map[string]Account
	names    map[Account]string
	lists    map[Account]deviceList
}

func newHomeState() homeState {
	return homeState{
		unacked:  map[uint64]*sendRecord{},
		marks:    map[peer]uint64{},
		contacts: map[string]Account{},
		names:    map[Account]string{},
		lists:    map[Account]deviceList{},
	}
}

// setContact notes that handle names a; it was confirmed by a look-up. An account keeps the name last seen, aliases stay valid.
func (s *homeState) setContact(a Account, handle string) {
	if len(s.contacts) >= maxCached {
		for h, old := range s.contacts { // any: a cache this full has no favourites
			delete(s.contacts, h)
			delete(s.names, old)
			break
		}
	}
	s.contacts[handle] = a
	s.names[a] = handle
}

func (s *homeState) setList(a Account, l deviceList) {
	if len(s.lists) >= maxCached {
		for old := range s.lists {
			delete(s.lists, old)
			break
		}
	}
	s.lists[a] = l
}

// snapshot calls each with the content of records that rebuild the state, in an order that apply takes. The slice is reused.
func (s *homeState) snapshot(each func(content []byte)) {
	var b []byte
	if s.identity != (Identity{}) {
		b = appendIdentity(b[:0], &s.identity)
		each(b)
	}
	b = appendNumber(b[:0], recTop, s.top)
	each(b)
	for p, id := range s.marks {
		b = appendMark(b[:0], p, id)
		each(b)
	}
	for h, a := range s.contacts {
		if s.names[a] != h { // an alias: before the name last seen, which is written below
			b = appendContact(b[:0], a, h)
			each(b)
		}
	}
	for a, h := range s.names {
		b = appendContact(b[:0], a, h)
		each(b)
	}
	for a, l := range s.lists {
		b = appendList(b[:0], a, &l)
		each(b)
	}
	for _, id := range slices.Sorted(maps.Keys(s.unacked)) {
		b = appendSend(b[:0], s.unacked[id])
		each(b)
	}
}
