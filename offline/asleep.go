package offline

import (
	"math"

	"linecard.example/internal/link"
	"linecard.example/internal/slab"
)

// Most devices that are attached have nothing waiting, nothing on its way and nothing to ack. Such an attachment is asleep: an entry in
// a table outside the heap, 40 bytes with its key, and no queue object needs to be in memory for it. It wakes when an entry comes into
// the queue, and goes back to sleep when its timer finds it with nothing to do, a second or more later.

// sleeper is an attachment that has nothing to do. The cursor is not in it: the queue is empty, so that what comes next is its head.
type sleeper struct {
	serial, epoch link.Fence
	gateway       uint32 // in sleepers.gateways
	slot, gen     uint32
	acked         uint32
}

func (s *sleeper) is(env *link.Envelope) bool { return s.slot == env.Slot && s.gen == env.Gen }

// sleepers are the attachments that are asleep. Shard goroutine only.
type sleepers struct {
	table    *slab.Table[sleeper] // by queueKey
	gateways []sleepingAt
	numbers  map[*gateway]uint32
	free     []uint32
}

// sleepingAt is a gateway that sleepers name by a number, as long as there are any.
type sleepingAt struct {
	gw *gateway
	n  int
}

func newSleepers() sleepers {
	return sleepers{table: slab.NewTable[sleeper](), numbers: map[*gateway]uint32{}}
}

func (l *sleepers) get(k queueKey) *sleeper { return l.table.Get(uint64(k)) }

func (l *sleepers) at(s *sleeper) *gateway { return l.gateways[s.gateway].gw }

// put lets an attachment of gw sleep; what the key had before must be removed.
func (l *sleepers) put(k queueKey, gw *gateway, s sleeper) {
	s.gateway = l.number(gw)
	l.table.Put(uint64(k), s)
}

func (l *sleepers) number(gw *gateway) uint32 {
	n, ok := l.numbers[gw]
	if !ok {
		if last := len(l.free) - 1; last >= 0 {
			n, l.free = l.free[last], l.free[:last]
		} else {
			n = uint32(len(l.gateways))
			l.gateways = append(l.gateways, sleepingAt{})
		}
		l.numbers[gw], l.gateways[n].gw = n, gw
	}
	l.gateways[n].n++
	return n
}

func (l *sleepers) remove(k queueKey) {
	s := l.get(k)
	if s == nil {
		return
	}
	at := &l.gateways[s.gateway]
	if at.n--; at.n == 0 {
		delete(l.numbers, at.gw)
		at.gw = nil
		l.free = append(l.free, s.gateway)
	}
	l.table.Delete(uint64(k))
}

// removeReplaced removes the sleepers of gateways that id replaces, and returns how many there were.
func (l *sleepers) removeReplaced(id link.GatewayID) (removed int) {
	for mark, more := uint64(0), l.ofReplaced(id); more; more = mark != 0 {
		mark = l.table.Scan(mark, l.table.Len(), func(k uint64, s *sleeper) bool {
			if !id.Replaces(l.at(s).id) {
				return true
			}
			l.remove(queueKey(k))
			removed++
			return false // the table has moved: go on behind the mark
		})
	}
	return removed
}

func (l *sleepers) ofReplaced(id link.GatewayID) bool {
	for gw := range l.numbers {
		if id.Replaces(gw.id) {
			return true
		}
	}
	return false
}

// clear forgets all: the end of a leadership.
func (l *sleepers) clear() {
	l.table.Clear()
	*l = sleepers{table: l.table, numbers: map[*gateway]uint32{}}
}

// wake makes the attachment of q's device, if it is asleep, one that deliveries can be pushed through.
func (m *group) wake(q *queue) {
	if q.key.device() == 0 {
		m.startDrain(q.key)
		return
	}
	s := m.asleep.get(q.key)
	if s == nil {
		return
	}
	a := m.newAttachment()
	*a = attachment{
		q: q, gw: m.asleep.at(s), slot: s.slot, gen: s.gen, serial: s.serial, epoch: s.epoch, acked: uint64(s.acked), cursor: q.head,
	}
	m.asleep.remove(q.key)
	m.rouse(a)
}

// rouse gives q the attachment, and a time to look at it.
func (m *group) rouse(a *attachment) {
	a.q.att = a
	m.awake.add(a)
	a.due = m.now + firstResend
	m.arm(a)
}

// rest lets an attachment sleep that has nothing to do, else looks again later.
func (m *group) rest(a *attachment) {
	q := a.q
	if len(a.sent) > 0 || a.acking || a.blocked || q.ready || q.entries() > 0 || a.acked > math.MaxUint32 {
		a.due = m.now + firstResend
		if a.gw.stream.Load() == nil {
			a.due = m.now + firstResend<<maxStep // its return is an event; it may never come
		}
		m.arm(a)
		return
	}
	m.asleep.put(q.key, a.gw, sleeper{serial: a.serial, epoch: a.epoch, slot: a.slot, gen: a.gen, acked: uint32(a.acked)})
	m.awake.remove(a)
	q.att = nil
	m.release(a)
}

// awake are the attachments that are no sleepers, by gateway, so that the return of a gateway's stream need not look at those of others.
// Shard goroutine only.
type awake map[*gateway][]*attachment

// keepAwake is how much room of a list stays when nothing is in it: most are awake for a second.
const keepAwake = 64

func (l awake) add(a *attachment) {
	list := l[a.gw]
	a.place = uint32(len(list))
	l[a.gw] = append(list, a)
}

func (l awake) remove(a *attachment) {
	list := l[a.gw]
	last := len(list) - 1
	list[a.place] = list[last]
	list[a.place].place = a.place
	list[last] = nil
	if list = list[:last]; last == 0 && cap(list) > keepAwake {
		delete(l, a.gw)
		return
	}
	l[a.gw] = list
}

// maxSpare bounds the attachments that are kept for reuse.
const maxSpare = 1024

func (m *group) newAttachment() *attachment {
	if last := len(m.spare) - 1; last >= 0 {
		a := m.spare[last]
		m.spare = m.spare[:last]
		return a
	}
	return new(attachment)
}

// release takes back an attachment that is no queue's any more, and that none of the group's lists holds but the timers: what comes out
// of those for it finds no queue, or one that it may look at as well.
func (m *group) release(a *attachment) {
	if a.acking || a.blocked || a.slow {
		return
	}
	*a = attachment{}
	if len(m.spare) < maxSpare {
		m.spare = append(m.spare, a)
	}
}
