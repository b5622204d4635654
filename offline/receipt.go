package offline

import (
	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// sending is the leader's side of a pending: at most one batch is on its way, so that ids raised meanwhile go together.
type sending struct {
	listed bool   // in raised
	away   bool   // packed is on its way, or waits for its next try
	timed  bool   // in retries
	again  bool   // packed may have arrived before
	tries  uint8  //
	due    int64  // ms: the next try
	packed []byte // appendReceipt
}

// flagAgain on a receipt envelope: an earlier one with some of these ids may have been stored. Only then the receiver looks for them.
const flagAgain uint8 = 1 << 0

// Backoff of a receipt's tries: 1, 2, 4 .. 60 s.
const (
	receiptFirst = int64(1000) // ms
	receiptMost  = int64(60_000)
)

// sendRaised sends the receipts that the last entries raised.
func (m *group) sendRaised() {
	for i := 0; i < len(m.raised); i++ {
		p := m.raised[i]
		p.send.listed = false
		if m.pending[p.key] == p && !p.send.away {
			m.packReceipt(p)
			m.sendReceipt(p)
		}
	}
	clear(m.raised)
	m.raised = m.raised[:0]
}

// packReceipt takes the oldest batch as what is sent until it is confirmed.
func (m *group) packReceipt(p *pending) {
	p.send.packed = appendReceipt(p.send.packed[:0], p.key.why, p.batches[0].ids)
	p.send.away = true
	p.send.tries = 0
}

// sendReceipt tries to hand over what is packed, and arms the next try.
func (m *group) sendReceipt(p *pending) {
	went := false
	to := stanza.QueueGroup(stanza.ShardOf(p.key.to.account(), m.shards))
	s := m.peers.leader(to)
	if r := p.key.to.account().Region(); r != m.region {
		s = m.peers.border(r)
	} else if to == m.id {
		went, s = m.sendLocal(p), nil
	}
	if s != nil {
		m.env = link.Envelope{
			Kind: link.KindReceipt, Group: to, Account: p.key.to.account(), Device: p.key.to.device(),
			ID: uint64(p.key.from), Flags: againFlag(p.send.again), Payload: p.send.packed,
		}
		went = s.Send(&m.env) == nil
	}
	if went {
		m.count.receiptsSent.Inc()
		p.send.again = true
	}
	p.send.due = m.now + min(receiptFirst<<p.send.tries, receiptMost)
	p.send.tries = min(p.send.tries+1, 6)
	if !p.send.timed {
		p.send.timed = true
		m.retries.arm(p.send.due, p)
	}
}

func againFlag(again bool) uint8 {
	if again {
		return flagAgain
	}
	return 0
}

// sendLocal stores a receipt for a device of this same group.
func (m *group) sendLocal(p *pending) bool {
	k := p.key
	c := m.receiptCommand(k, p.send.again, p.send.ids())
	m.cmdOut = appendCommand(m.cmdOut[:0], &c)
	return m.raft.ProposeLazy(m.cmdOut, proposal{
		purpose: forLocalReceipt, account: c.account, device: c.device, id: uint64(c.from), why: k.why,
	})
}

func (m *group) receiptCommand(k receiptKey, again bool, packed []byte) command {
	return command{
		op: opReceipt, account: k.to.account(), device: k.to.device(), from: k.from, tag: tagOf(k.why), reason: k.why, again: again, body: packed,
		maxEntries: uint64(m.cfg.QueueEntries), maxBytes: uint64(m.cfg.QueueBytes),
	}
}

func tagOf(why stanza.Reason) stanza.Tag {
	if why != 0 {
		return stanza.TagUndelivered
	}
	return stanza.TagDelivered
}

// localReceiptDone confirms a receipt that was stored in this group.
func (m *group) localReceiptDone(p *proposal, o shard.Outcome, r result) {
	if o != shard.Committed {
		return // the timer tries again
	}
	m.countReceipt(r)
	k := receiptKey{to: keyOf(p.account, p.device), from: stanza.Account(p.id), why: p.why}
	if pend := m.pending[k]; pend != nil && pend.send.away && m.leading {
		m.proposeConfirm(k, pend.send.ids())
	}
}

func (m *group) countReceipt(r result) {
	if r.reason != 0 {
		m.count.dropped.Inc(r.reason)
		return
	}
	m.count.receiptsIn.Add(float64(r.count))
}

// retryReceipts sends again what was not confirmed in time.
func (m *group) retryReceipts() {
	for {
		p, ok := m.retries.due(m.now)
		if !ok {
			return
		}
		p.send.timed = false
		if m.pending[p.key] != p || !p.send.away {
			continue
		}
		if p.send.due > m.now {
			p.send.timed = true
			m.retries.arm(p.send.due, p)
			continue
		}
		m.sendReceipt(p)
	}
}

// receiptsTo sends at once what waits for a group that has a new leader.
func (m *group) receiptsTo(g stanza.Group) {
	for _, p := range m.pending {
		to := p.key.to.account()
		if p.send.away && to.Region() == m.region && stanza.QueueGroup(stanza.ShardOf(to, m.shards)) == g {
			p.send.tries = 0
			m.sendReceipt(p)
		}
	}
}

// handleReceipt stores a receipt for a device of this shard.
func (m *group) handleReceipt(it *link.Item) {
	env := &it.Env
	why, packed, ok := receiptPayload(env.Payload)
	from := stanza.Account(env.ID)
	if !ok || env.Account == 0 || env.Device == 0 || from == 0 || from > stanza.MaxAccount || stanza.QueueGroup(stanza.ShardOf(env.Account, m.shards)) != m.id {
		m.log.Warn("malformed receipt")
		return
	}
	c := m.receiptCommand(receiptKey{to: keyOf(env.Account, env.Device), from: from, why: why}, env.Flags&flagAgain != 0, packed)
	m.cmdOut = appendCommand(m.cmdOut[:0], &c)
	m.raft.ProposeLazy(m.cmdOut, proposal{ // not taken: it comes again
		purpose: forReceipt, from: it.From, account: env.Account, device: env.Device, id: env.ID, payload: env.Payload,
	})
}

// receiptDone confirms a receipt to the shard that raised it.
func (m *group) receiptDone(p *proposal, o shard.Outcome, r result) {
	if o != shard.Committed || p.from == nil {
		return // it comes again
	}
	m.countReceipt(r)
	_, packed, _ := receiptPayload(p.payload)
	ids := stanza.Packed(packed)
	first, _ := ids.Next()
	m.out = appendStored(m.out[:0], p.account, p.device, p.payload)
	m.env = link.Envelope{
		Kind: link.KindReceiptStored, Group: stanza.QueueGroup(stanza.ShardOf(stanza.Account(p.id), m.shards)),
		Account: stanza.Account(p.id), ID: first, Payload: m.out,
	}
	if err := p.from.Send(&m.env); err != nil {
		m.count.dropped.Inc(link.ReasonOf(err))
	}
}

// handleReceiptStored removes what the sender's shard has.
func (m *group) handleReceiptStored(env *link.Envelope) {
	a, d, rest, ok := storedPayload(env.Payload)
	if !ok {
		m.log.Warn("malformed receipt confirmation")
		return
	}
	if why, packed, ok := receiptPayload(rest); ok {
		m.proposeConfirm(receiptKey{to: keyOf(a, d), from: env.Account, why: why}, packed)
	}
}

func (m *group) proposeConfirm(k receiptKey, packed []byte) {
	if m.pending[k] == nil {
		return
	}
	c := command{op: opConfirm, account: k.to.account(), device: k.to.device(), from: k.from, tag: tagOf(k.why), reason: k.why, body: packed}
	m.cmdOut = appendCommand(m.cmdOut[:0], &c)
	m.raft.ProposeLazy(m.cmdOut, proposal{purpose: forConfirm}) // not taken: the receipt goes again
}
