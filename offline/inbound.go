package offline

import (
	"encoding/binary"

	"linecard.example/internal/link"
	"linecard.example/internal/planted"
	"linecard.example/internal/stanza"
)

// handle takes one envelope from the inbox.
func (m *group) handle(it *link.Item) {
	env := &it.Env
	if env.Kind == link.KindHello {
		m.peerEvent(it)
		return
	}
	if !m.leading {
		m.notLeader(it)
		return
	}
	if env.Account > stanza.MaxAccount || env.Device > stanza.MaxDevice {
		m.count.dropped.Inc(stanza.ReasonInternal) // a peer that is broken; keys are packed from these numbers
		return
	}
	switch env.Kind {
	case link.KindStore, link.KindForward:
		m.handleStore(env)
	case link.KindForwarded:
		m.handleForwarded(env)
	case link.KindAttach:
		m.handleAttach(env)
	case link.KindDetach:
		m.handleDetach(env)
	case link.KindAttachDone:
		// Nothing waits for it: messages for a device that is not attached are queued.
	case link.KindDeliveryAck:
		m.handleDeliveryAck(env)
	case link.KindExpect:
		m.handleExpect(env)
	case link.KindGone:
		m.handleGone(it)
	case link.KindReceipt:
		m.handleReceipt(it)
	case link.KindReceiptStored:
		m.handleReceiptStored(env)
	case link.KindDropQueue:
		m.handleDrop(it)
	default:
		m.log.Warn("envelope of a kind that is not for queues", "kind", env.Kind.String())
	}
}

// peerEvent is what the process puts into the inbox itself: Term 0, a stream is up; else somebody leads a queue group.
func (m *group) peerEvent(it *link.Item) {
	if !m.leading {
		return
	}
	if it.Env.Term != 0 {
		m.receiptsTo(it.Env.Group)
		return
	}
	if it.Env.ID != 0 {
		m.regionsUp(it.Env.ID)
		return
	}
	m.greet = append(m.greet, it.From)
	if it.From.Peer().Role == link.RoleGateway {
		m.gatewayUp(it.From)
	}
}

// notLeader answers what only a leader may handle.
func (m *group) notLeader(it *link.Item) {
	switch it.Env.Kind {
	case link.KindGone, link.KindReceiptStored, link.KindAttachDone, link.KindHello:
		return // nobody waits for an answer
	}
	answerNotLeader(it.From, &it.Env)
}

// answerNotLeader sends the header back, so that the sender finds what it was about; a router finds the gateway in it.
func answerNotLeader(s *link.Stream, env *link.Envelope) {
	if s == nil {
		return
	}
	answer := *env
	answer.Kind, answer.Payload = link.KindNotLeader, nil
	_ = s.Send(&answer) // lost: the sender's client tries again
}

// downOverhead is what a downward message has at most besides the ciphertext: tag, length, four attributes, the body's key.
const downOverhead = 1 + 3 + (1 + 8) + (1 + 5) + (1 + 3) + (1 + 8) + 1

// handleStore proposes a message or read receipt, or refuses it.
func (m *group) handleStore(env *link.Envelope) {
	p := proposal{
		purpose: forStore, gw: m.peers.gateway(env.Gateway),
		slot: env.Slot, gen: env.Gen, id: env.ID, charge: env.Charge, flags: env.Flags & link.FlagStale,
	}
	c := command{
		from: env.Account, fromDevice: env.Device,
		maxEntries: uint64(m.cfg.QueueEntries), maxBytes: uint64(m.cfg.QueueBytes),
	}
	if reason := m.parseStore(env, &c); reason != 0 {
		m.refuse(&p, reason, &result{})
		return
	}
	p.account = c.account
	last, known := m.stream(streamKey{to: c.account, from: keyOf(c.from, c.fromDevice)})
	if known && c.id <= last.last && !planted.On(planted.NoDedup) {
		// What is applied is durable: the ack needs no further entry.
		m.count.duplicates.Inc()
		m.ackStore(&p)
		return
	}
	if m.raft.StorageFull() {
		// Only what grows the queues is refused: acks, receipts and expiry go on, and make room.
		m.refuse(&p, stanza.ReasonStorageFull, &result{})
		return
	}
	if c.op == opOut {
		m.out = withAfter(m.out[:0], env.Payload, 0)
		c.body = m.out
	}
	m.cmdOut = appendCommand(m.cmdOut[:0], &c)
	if !m.raft.Propose(m.cmdOut, p) {
		m.refuse(&p, stanza.ReasonBusy, &result{})
	} else if planted.On(planted.AckBeforeSync) {
		m.ackStore(&p)
	}
}

// parseStore reads the stanza into c; c.body borrows it. It returns why the message is refused, 0 if it is not. Router and gateway have
// checked much of this: here it keeps the log clean.
func (m *group) parseStore(env *link.Envelope, c *command) stanza.Reason {
	v, rest, err := stanza.Decode(env.Payload)
	if err != nil || len(rest) > 0 || v.Has(stanza.AttrFrom) || c.from == 0 || c.from > stanza.MaxAccount || c.fromDevice == 0 || c.fromDevice > stanza.MaxDevice {
		return stanza.ReasonForbidden
	}
	switch v.Tag {
	case stanza.TagMessage:
		s, err := stanza.ParseMessageUp(v)
		if err != nil {
			return stanza.ReasonForbidden
		}
		c.op, c.id, c.after, c.account, c.body = opMessage, s.ID, s.After, s.Account, s.Body
		if reason := checkCiphers(c); reason != 0 {
			return reason
		}
	case stanza.TagRead:
		s, err := stanza.ParseReadUp(v)
		if err != nil {
			return stanza.ReasonForbidden
		}
		c.op, c.id, c.after, c.account, c.device, c.body = opRead, s.ID, s.After, s.Account, s.Device, s.IDs
	default:
		return stanza.ReasonForbidden
	}
	if reason := m.crossing(env.Kind, c); reason != 0 {
		return reason
	}
	if c.id != env.ID || c.id == 0 || stanza.QueueGroup(stanza.ShardOf(c.account, m.shards)) != m.id {
		return stanza.ReasonForbidden
	}
	return 0
}

// crossing makes the command what it is between regions: a message comes from one, or goes to one, or neither.
func (m *group) crossing(k link.Kind, c *command) stanza.Reason {
	away := c.account.Region() != m.region
	switch {
	case (k == link.KindForward) != (c.from.Region() != m.region) || away && k == link.KindForward:
		return stanza.ReasonForbidden // who routes has checked this: one of us is broken
	case away:
		c.op = opOut
	case k == link.KindForward && c.op == opRead:
		c.op = opForwardRead
	case k == link.KindForward:
		c.op = opForward
	}
	return 0
}

// checkCiphers refuses a message for no device, or for the device that sends it, and one whose ciphertext would not fit into a frame
// on its way down.
func checkCiphers(c *command) stanza.Reason {
	if _, err := stanza.ValidCiphers(c.body); err != nil {
		return stanza.ReasonForbidden
	}
	for body := c.body; len(body) > 0; {
		d, cipher, rest, err := stanza.NextCipher(body)
		switch {
		case err != nil || (c.account == c.from && d == c.fromDevice):
			return stanza.ReasonForbidden
		case len(cipher) > stanza.MaxStanza-downOverhead:
			return stanza.ReasonTooLarge
		}
		body = rest
	}
	return 0
}

// handleDrop empties the queue of an unlinked device. Asked again it answers at once: the tombstone is durable.
func (m *group) handleDrop(it *link.Item) {
	env := &it.Env
	if env.Account == 0 || env.Device == 0 {
		return
	}
	p := proposal{purpose: forDrop, from: it.From, account: env.Account, device: env.Device}
	if q := m.find(keyOf(env.Account, env.Device)); q != nil && q.tomb != 0 {
		m.queueDropped(&p)
		return
	}
	c := command{op: opDrop, account: env.Account, device: env.Device}
	m.cmdOut = appendCommand(m.cmdOut[:0], &c)
	m.raft.Propose(m.cmdOut, p) // not taken: the router asks again
}

func (m *group) queueDropped(p *proposal) {
	if p.from == nil {
		return
	}
	m.env = link.Envelope{
		Kind: link.KindQueueDropped, Group: stanza.DirGroup(m.id.Shard()), Account: p.account, Device: p.device,
	}
	_ = p.from.Send(&m.env) // lost: the router asks again
}

// storedPayload reads what a receipt_stored envelope carries besides.
func storedPayload(b []byte) (a stanza.Account, d stanza.Device, rest []byte, ok bool) {
	f := codec{b: b}
	f.account(&a)
	f.device(&d)
	return a, d, f.b, !f.bad
}

func appendStored(dst []byte, a stanza.Account, d stanza.Device, rest []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(a))
	dst = binary.AppendUvarint(dst, uint64(d))
	return append(dst, rest...)
}
