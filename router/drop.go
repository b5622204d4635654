package router

import (
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// maxDrops is how many queues of unlinked devices are being dropped at once; the others wait in the tables.
const maxDrops = 4096

// drop is one queue of an unlinked device that offline is to drop. The record in the tables stays until offline has confirmed and
// that is committed, so the order survives restarts of everybody.
type drop struct {
	confirming bool // confirmed, the entry that says so is on its way
}

// dropList is the leader's work list of drops. Shard goroutine only.
type dropList struct {
	due  map[deviceKey]drop
	more bool // the tables may hold others
	next time.Time
}

// dropQueue starts to have a queue dropped: its record was committed just now.
func (m *dirShard) dropQueue(k deviceKey) {
	if len(m.drops.due) >= maxDrops {
		m.drops.more = true
		return
	}
	m.drops.due[k] = drop{}
	m.sendDrop(k)
	m.countDrops()
}

func (m *dirShard) sendDrop(k deviceKey) {
	if m.route.to != nil {
		m.toQueue(link.Envelope{Kind: link.KindDropQueue, Group: m.queue, Account: k.account(), Device: k.device()})
	}
}

// retryDrops makes the next tick ask for all of them.
func (m *dirShard) retryDrops() { m.drops.next = m.now }

// tickDrops asks again for what is not confirmed, and takes more from the tables when all is done.
func (m *dirShard) tickDrops() {
	d := &m.drops
	if len(d.due) == 0 && d.more {
		more, err := m.directory.drops(maxDrops, func(a stanza.Account, dev stanza.Device) { d.due[keyOf(a, dev)] = drop{} })
		d.more = more || err != nil
		m.countDrops()
	}
	if len(d.due) == 0 || m.now.Before(d.next) {
		return
	}
	d.next = m.now.Add(m.cfg.DropRetry.D())
	for k, one := range d.due {
		if !one.confirming {
			m.sendDrop(k)
		}
	}
}

// queueDropped takes offline's confirmation and makes it durable.
func (m *dirShard) queueDropped(e *link.Envelope) {
	k := keyOf(e.Account, e.Device)
	one, ok := m.drops.due[k]
	if !ok || one.confirming {
		return
	}
	m.drops.due[k] = drop{confirming: true}
	m.propose(&command{op: opDropDone, account: e.Account, device: e.Device},
		&pending{want: wantDropDone, account: e.Account, device: e.Device})
}

func (m *dirShard) countDrops() { m.metrics.pendingDrops.Set(float64(len(m.drops.due))) }
