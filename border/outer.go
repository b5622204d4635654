package border

import (
	"encoding/binary"
	"slices"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// outer handles the links to other regions.
type outer struct{ b *Border }

// Up implements link.Handler.
func (h outer) Up(s *link.Stream) { h.b.outerUp(s, s.Peer().Region) }

// Receive implements link.Handler.
func (h outer) Receive(s *link.Stream, batch []link.Envelope) {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	for i := range batch {
		group, size := batch[i].Group, batch[i].Size()
		h.b.fromAbroad(s, s.Peer().Region, &batch[i])
		s.Done(group, size)
	}
}

// Down implements link.Handler.
func (h outer) Down(s *link.Stream, err error) { h.b.outerDown(s, s.Peer().Region, err) }

func (b *Border) outerUp(s stream, r stanza.Region) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outer[r] = append(b.outer[r], s)
	b.count.up(r, len(b.outer[r]))
	if len(b.outer[r]) == 1 {
		b.log.Info("region reached", "region", int(r))
	}
	b.tellRegions()
}

func (b *Border) outerDown(s stream, r stanza.Region, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outer[r] = slices.DeleteFunc(b.outer[r], func(o stream) bool { return o == s })
	b.count.up(r, len(b.outer[r]))
	if len(b.outer[r]) == 0 {
		b.log.Warn("region lost", "region", int(r), "err", err)
	}
	b.tellRegions() // before the refusals: what they are about need not be tried again
	b.ended(s)
}

// fromAbroad handles an envelope of region r. A peer is believed in what concerns its own accounts only. Under mu.
func (b *Border) fromAbroad(s stream, r stanza.Region, e *link.Envelope) {
	if e.Account > stanza.MaxAccount || e.Device > stanza.MaxDevice || e.ID > stanza.MaxID {
		b.count.dropped.Inc(stanza.ReasonForbidden)
		return
	}
	switch e.Kind {
	case link.KindForward:
		b.forwardIn(s, r, e)
	case link.KindQuery:
		b.queryIn(s, r, e)
	case link.KindReceipt:
		b.receiptIn(r, e)
	case link.KindReceiptStored:
		b.storedIn(r, e)
	case link.KindForwarded, link.KindResult:
		b.outerAnswer(s, e)
	default:
		b.count.dropped.Inc(stanza.ReasonForbidden)
	}
}

// forwardIn sends a message of region r to the router of its recipient.
func (b *Border) forwardIn(s stream, r stanza.Region, e *link.Envelope) {
	c := b.callOf(s, e, forwardTime)
	c.abroad, c.region = true, r
	to, ok := recipient(e.Payload)
	if !ok || e.Account == 0 || e.Device == 0 || e.ID == 0 || e.Account.Region() != r || to.Region() != b.region {
		b.refuse(&c, stanza.ReasonForbidden, 0)
		return
	}
	dir := stanza.DirGroup(stanza.ShardOf(to, b.deps.Shards))
	c.to = b.leaderOf(dir)
	b.env = link.Envelope{Kind: link.KindForward, Group: dir, Account: e.Account, Device: e.Device, ID: e.ID, Charge: uint32(len(e.Payload)), Payload: e.Payload}
	b.ask(c, &b.env)
}

// queryIn sends a question of region r to the router that can answer it: look-ups and device lists of accounts here, and no other.
func (b *Border) queryIn(s stream, r stanza.Region, e *link.Envelope) {
	c := b.callOf(s, e, queryTime)
	c.abroad, c.region = true, r
	region, dir, ok := asksFor(e.Payload, b.deps.Shards)
	if !ok || e.Account == 0 || e.Account.Region() != r || region != b.region {
		b.refuse(&c, stanza.ReasonForbidden, 0)
		return
	}
	c.to = b.leaderOf(dir)
	b.count.queriesIn.Inc()
	b.env = link.Envelope{Kind: link.KindQuery, Group: dir, Account: e.Account, ID: e.ID, Payload: e.Payload}
	b.ask(c, &b.env)
}

// receiptIn sends a delivered receipt of an account of region r to the queue of the device that it is for.
func (b *Border) receiptIn(r stanza.Region, e *link.Envelope) {
	from := stanza.Account(e.ID)
	delivered := len(e.Payload) > 0 && stanza.Tag(e.Payload[0]) == stanza.TagDelivered
	if from == 0 || from.Region() != r || from > stanza.MaxAccount || e.Account == 0 || e.Account.Region() != b.region || !delivered {
		b.count.dropped.Inc(stanza.ReasonForbidden)
		return
	}
	b.toQueue(e, e.Account)
}

// storedIn sends the answer to a receipt, which names a device of region r, to the queue that raised it.
func (b *Border) storedIn(r stanza.Region, e *link.Envelope) {
	of, n := binary.Uvarint(e.Payload)
	if n <= 0 || of > uint64(stanza.MaxAccount) || stanza.Account(of).Region() != r || e.Account == 0 || e.Account.Region() != b.region {
		b.count.dropped.Inc(stanza.ReasonForbidden)
		return
	}
	b.toQueue(e, e.Account)
}

func (b *Border) toQueue(e *link.Envelope, a stanza.Account) {
	queue := stanza.QueueGroup(stanza.ShardOf(a, b.deps.Shards))
	s := b.leaderOf(queue)
	if s == nil {
		b.count.dropped.Inc(stanza.ReasonLinkDown)
		return
	}
	b.env = *e
	b.env.Group, b.env.Gateway = queue, link.GatewayID{}
	b.post(s)
}

// outerAnswer passes the other region's answer on to who waits for it here.
func (b *Border) outerAnswer(s stream, e *link.Envelope) {
	c, ok := b.calls.take(s, e.Slot, e.Gen)
	switch {
	case !ok:
		b.count.dropped.Inc(stanza.ReasonGone)
	case e.Kind == link.KindResult && c.query:
		b.answerQuery(&c, e)
	case e.Kind == link.KindForwarded && !c.query:
		b.forwarded(&c, e)
	default:
		b.refuse(&c, stanza.ReasonInternal, 0)
	}
}

// answerQuery passes on a result or an error that names the question: a gateway writes it to its client as it is.
func (b *Border) answerQuery(c *call, e *link.Envelope) {
	v, rest, err := stanza.Decode(e.Payload)
	ok := false
	if err == nil && len(rest) == 0 {
		switch v.Tag {
		case stanza.TagResult:
			res, err := stanza.ParseResult(v)
			ok = err == nil && res.ID == c.id
		case stanza.TagError:
			qe, err := stanza.ParseQueryError(v)
			ok = err == nil && qe.ID == c.id
		}
	}
	if !ok {
		b.refuse(c, stanza.ReasonInternal, 0)
		return
	}
	b.result(c, e.Payload)
}

// recipient returns whom a message or read receipt is for.
func recipient(b []byte) (stanza.Account, bool) {
	v, rest, err := stanza.Decode(b)
	if err != nil || len(rest) != 0 {
		return 0, false
	}
	switch v.Tag {
	case stanza.TagMessage:
		s, err := stanza.ParseMessageUp(v)
		return s.Account, err == nil
	case stanza.TagRead:
		s, err := stanza.ParseReadUp(v)
		return s.Account, err == nil
	}
	return 0, false
}

// asksFor returns the region that a question is about, and the group that answers it there among so many shards; false for questions
// that are not asked of other regions.
func asksFor(b []byte, shards int) (stanza.Region, stanza.Group, bool) {
	v, rest, err := stanza.Decode(b)
	if err != nil || len(rest) != 0 || v.Tag != stanza.TagQuery {
		return 0, 0, false
	}
	q, err := stanza.ParseQuery(v)
	if err != nil {
		return 0, 0, false
	}
	switch q.Op {
	case stanza.OpDeviceList:
		return q.Account.Region(), stanza.DirGroup(stanza.ShardOf(q.Account, shards)), q.Account != 0
	case stanza.OpLookup:
		name, r, ok := stanza.SplitHandle(q.Handle)
		handle, err := stanza.FoldHandle(name)
		return r, stanza.DirGroup(stanza.HandleShard(handle, shards)), ok && err == nil
	}
	return 0, 0, false
}
