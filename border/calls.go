package border

import (
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// stream is what a border needs of a link.Stream.
type stream interface {
	Send(e *link.Envelope) error
	SendSpare(e *link.Envelope) error
}

// call is a message or a question that waits for its answer. The zero call is free.
type call struct {
	from, to  stream
	slot, gen uint32 // the asker's name for it
	group     stanza.Group
	gateway   link.GatewayID
	account   stanza.Account
	device    stanza.Device
	id        uint64
	epoch     link.Fence
	query     bool
	abroad    bool // it came from another region
	region    stanza.Region
	until     time.Time
}

// Bounds of calls.
const (
	maxCalls = 1 << 16
	// maxAbroad of them are of one other region: it must not take the room of this one and the rest.
	maxAbroad = maxCalls / 4
	// forwardTime is how long this region's router and queue may take, which say at once when they cannot.
	forwardTime = 15 * time.Second
	// pathTime is how long a message may be on its way and there, for a path on which much is on its way before it.
	pathTime = 2 * time.Minute
	// queryTime is less than it takes a client to ask again for the second time.
	queryTime = 10 * time.Second
)

// calls is the table. Under Border.mu.
type calls struct {
	all  []call
	gens []uint32
	free []uint32
	busy int
	of   [stanza.MaxRegion + 1]int // of other regions
}

// add books a call and returns its name; false: there are too many.
func (t *calls) add(c call) (slot, gen uint32, ok bool) {
	if c.abroad && t.of[c.region] >= maxAbroad {
		return 0, 0, false
	}
	if n := len(t.free); n > 0 {
		slot, t.free = t.free[n-1], t.free[:n-1]
	} else if len(t.all) < maxCalls {
		slot = uint32(len(t.all))
		t.all, t.gens = append(t.all, call{}), append(t.gens, 0)
	} else {
		return 0, 0, false
	}
	t.gens[slot]++
	t.all[slot] = c
	t.busy++
	if c.abroad {
		t.of[c.region]++
	}
	return slot, t.gens[slot], true
}

// take ends the call of that name if it went to s; false: there is none.
func (t *calls) take(s stream, slot, gen uint32) (call, bool) {
	if int(slot) >= len(t.all) || t.gens[slot] != gen || t.all[slot].from == nil || t.all[slot].to != s {
		return call{}, false
	}
	c := t.all[slot]
	t.end(slot)
	return c, true
}

func (t *calls) end(slot uint32) {
	if c := &t.all[slot]; c.abroad {
		t.of[c.region]--
	}
	t.all[slot] = call{}
	t.free = append(t.free, slot)
	t.busy--
}

// endIf ends every call that match picks and hands it to f.
func (t *calls) endIf(match func(*call) bool, f func(*call)) {
	if t.busy == 0 {
		return
	}
	for i := range t.all {
		if c := &t.all[i]; c.from != nil && match(c) {
			ended := *c
			t.end(uint32(i))
			f(&ended)
		}
	}
}
