package border

import (
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// inner handles the links to this region.
type inner struct{ b *Border }

// Up implements link.Handler.
func (h inner) Up(s *link.Stream) { h.b.innerUp(s) }

// Receive implements link.Handler.
func (h inner) Receive(s *link.Stream, batch []link.Envelope) {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	for i := range batch {
		group, size := batch[i].Group, batch[i].Size()
		h.b.fromWithin(s, &batch[i])
		s.Done(group, size)
	}
}

// Down implements link.Handler.
func (h inner) Down(s *link.Stream, _ error) { h.b.innerDown(s) }

func (b *Border) innerUp(s stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inner[s] = 0
	b.tellRegions()
}

func (b *Border) innerDown(s stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.inner, s)
	for g, l := range b.leaders {
		if l.stream == s {
			delete(b.leaders, g)
		}
	}
	b.ended(s)
}

// fromWithin handles an envelope of this region. Under mu.
func (b *Border) fromWithin(s stream, e *link.Envelope) {
	switch e.Kind {
	case link.KindHello:
		if l := b.leaders[e.Group]; l.stream == nil || e.Term >= l.term {
			b.leaders[e.Group] = leader{e.Term, s}
		}
	case link.KindForward:
		b.forwardOut(s, e)
	case link.KindQuery:
		b.queryOut(s, e)
	case link.KindReceipt, link.KindReceiptStored:
		b.receiptOut(e)
	case link.KindAck, link.KindRefused, link.KindNotLeader, link.KindResult:
		b.innerAnswer(s, e)
	case link.KindTicketKeys: // for gateways
	default:
		b.count.dropped.Inc(stanza.ReasonInternal)
	}
}

// to returns a stream to region r, nil if it cannot be reached. Under mu.
func (b *Border) to(r stanza.Region) stream {
	if r > stanza.MaxRegion || len(b.outer[r]) == 0 {
		return nil
	}
	return b.outer[r][0]
}

func (b *Border) forwardOut(s stream, e *link.Envelope) {
	c := b.callOf(s, e, pathTime)
	to, ok := recipient(e.Payload)
	if !ok || e.Account.Region() != b.region || to.Region() == b.region {
		b.refuse(&c, stanza.ReasonForbidden, 0)
		return
	}
	c.to = b.to(to.Region())
	b.count.out.Inc()
	b.env = link.Envelope{Kind: link.KindForward, Group: askGroup, Account: e.Account, Device: e.Device, ID: e.ID, Epoch: e.Epoch, Payload: e.Payload}
	b.ask(c, &b.env)
}

func (b *Border) queryOut(s stream, e *link.Envelope) {
	c := b.callOf(s, e, queryTime)
	r, _, ok := asksFor(e.Payload, 1)
	if !ok || r == b.region {
		b.refuse(&c, stanza.ReasonForbidden, 0)
		return
	}
	c.to = b.to(r)
	b.count.queriesOut.Inc()
	b.env = link.Envelope{Kind: link.KindQuery, Group: askGroup, Account: e.Account, Device: e.Device, ID: e.ID, Payload: e.Payload}
	b.ask(c, &b.env)
}

// receiptOut sends a receipt, or the answer to one, to the region of the account that it is for. One that cannot go comes again.
func (b *Border) receiptOut(e *link.Envelope) {
	r := e.Account.Region()
	s := b.to(r)
	if s == nil || r == b.region {
		b.count.dropped.Inc(stanza.ReasonLinkDown)
		return
	}
	b.env = *e
	b.env.Group = answerGroup
	b.post(s)
}

func (b *Border) post(s stream) {
	if err := s.Send(&b.env); err != nil {
		b.count.dropped.Inc(link.ReasonOf(err))
	}
}

// innerAnswer passes the answer of a router or a queue on to the region that waits for it.
func (b *Border) innerAnswer(s stream, e *link.Envelope) {
	if e.Kind == link.KindNotLeader && b.leaders[e.Group].stream == s {
		delete(b.leaders, e.Group)
	}
	c, ok := b.take(e)
	if !ok {
		b.count.dropped.Inc(stanza.ReasonGone)
		return
	}
	switch {
	case e.Kind == link.KindNotLeader:
		b.refuse(&c, stanza.ReasonUnavailable, 0)
	case e.Kind == link.KindResult && c.query:
		b.result(&c, e.Payload)
	case c.query || e.Kind == link.KindResult:
		b.refuse(&c, stanza.ReasonInternal, 0)
	case e.Kind == link.KindAck:
		b.count.in.Inc()
		b.forwarded(&c, &link.Envelope{Flags: e.Flags})
	default:
		b.refuse(&c, e.Reason, e.RetryAfter)
	}
}

// take ends the call that an answer of this region is for: it went to a router, but a queue may answer.
func (b *Border) take(e *link.Envelope) (call, bool) {
	if int(e.Slot) >= len(b.calls.all) {
		return call{}, false
	}
	c := &b.calls.all[e.Slot]
	if !c.abroad || c.id != e.ID {
		return call{}, false
	}
	return b.calls.take(c.to, e.Slot, e.Gen)
}
