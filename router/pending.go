package router

import (
	"errors"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// want says what a pending request asked for.
type want uint8

const (
	wantBind want = iota
	wantRebind
	wantRegister
	wantRedeem
	wantMessage
	wantLookup
	wantLink
	wantUnlink
	wantUnlinkIdle
	wantDropDone
	wantInvite
	wantTicketKey
	wantMember
	wantRoster
)

// pending is a request that waits for its entry to commit or for verified leadership; which fields it uses depends on want.
type pending struct {
	want      want
	gw        *gateway // who asked; nil: offline, or this process
	slot, gen uint32
	account   stanza.Account // of the session
	device    stanza.Device  // of the session; unlink, drop: the device in question
	id        uint64         // highest id used, number of the query, id of the message
	charge    uint32
	serial    link.Fence
	epoch     link.Fence // re-bind: of the session's attachment; id is the number that it expects next
	resumed   bool       // bind: hash is what the session was asked for, not key
	key       [keySize]byte
	hash      [wire.HashSize]byte
	about     stanza.Account // the account that a message is for, or that is looked up; 0: by handle
	handle    string         // looked up
	regional  bool           // it was asked for as name@region
	reply     chan<- error   // invite only; has room for one
	operator  sender         // member only
}

// asked starts a pending request from an envelope of a gateway.
func asked(w want, gw *gateway, e *link.Envelope) *pending {
	return &pending{want: w, gw: gw, slot: e.Slot, gen: e.Gen, account: e.Account, device: e.Device, id: e.ID, charge: e.Charge}
}

var (
	errNotLeading = errors.New("router: this process does not lead the shard")
	errOutcome    = errors.New("router: the outcome is unknown, the shard changed its leader")
	errStorage    = errors.New("router: the disk is below its free-space floor")
	errBusy       = errors.New("router: too many requests pending")
)

// propose puts c into the log; p hears of it. p may be nil: nobody waits. A request that cannot be taken is answered busy.
func (m *dirShard) propose(c *command, p *pending) bool {
	m.cmd = c.append(m.cmd[:0])
	if p == nil {
		return m.group.ProposeLazy(m.cmd, nil)
	}
	if m.waiting >= m.cfg.MaxPending || !m.group.Propose(m.cmd, p) {
		m.refusePending(p, stanza.ReasonBusy)
		return false
	}
	m.waiting++
	return true
}

// verify answers p once this process is known to lead still. All that wait at the end of a turn share one verification.
func (m *dirShard) verify(p *pending) {
	if m.waiting >= m.cfg.MaxPending {
		m.refusePending(p, stanza.ReasonBusy)
		return
	}
	m.waiting++
	m.verifying = append(m.verifying, p)
}

// startVerify begins the verification for what was collected in this turn.
func (m *dirShard) startVerify() {
	if len(m.verifying) == 0 {
		return
	}
	batch := m.verifying
	m.verifying = nil
	m.group.Verify(func(ok bool) {
		for _, p := range batch {
			m.waiting--
			if ok && m.leading {
				m.verified(p)
			} else {
				m.refusePending(p, stanza.ReasonUnavailable)
			}
		}
		m.startVerify()
	})
}

// Done hears what became of a proposed command, maybe after Follow.
func (m *dirShard) Done(p *pending, o shard.Outcome, r result) {
	if p == nil {
		return
	}
	m.waiting--
	switch {
	case o == shard.Committed && !m.leading && (p.want == wantBind || p.want == wantRegister):
		m.refusePending(p, stanza.ReasonUnavailable) // the leadership ended first: the next leader binds the session
	case o == shard.Committed:
		m.committed(p, r)
	case o == shard.Unknown && (p.want == wantLink || p.want == wantUnlink):
		m.refusePending(p, stanza.ReasonRetry)
	default:
		m.refusePending(p, stanza.ReasonUnavailable)
	}
}

// committed answers after a commit.
func (m *dirShard) committed(p *pending, r result) {
	switch p.want {
	case wantBind:
		m.finishBind(p, r.noted)
	case wantRegister:
		m.registered(p, r)
	case wantRedeem:
		m.redeemed(p, r.reason)
	case wantLink:
		m.linked(p, r)
	case wantUnlink, wantUnlinkIdle:
		m.unlinked(p, r)
	case wantDropDone:
		delete(m.drops.due, keyOf(p.account, p.device))
		m.countDrops()
	case wantInvite:
		p.reply <- inviteError(r.reason)
	case wantTicketKey:
		m.rotated(true)
	case wantMember:
		m.memberChanged(p, r.refusal)
	case wantRoster:
		m.learnt(true)
	}
}

// verified answers under verified leadership.
func (m *dirShard) verified(p *pending) {
	switch p.want {
	case wantBind:
		m.finishBind(p, noteUnchanged)
	case wantRebind:
		m.finishRebind(p)
	case wantMessage:
		m.finishUnknown(p)
	case wantLookup:
		m.finishLookup(p)
	}
}

// refusePending tells whoever asked that nothing was decided.
func (m *dirShard) refusePending(p *pending, reason stanza.Reason) {
	switch p.want {
	case wantBind, wantRegister:
		m.closeAsked(p, reason)
	case wantRedeem:
		m.redeemed(p, reason)
	case wantMessage:
		m.refuse(p.gw, p.message(m.id), reason)
	case wantLookup, wantLink, wantUnlink:
		m.queryError(p, reason, m.retryAfter)
	case wantDropDone:
		if d, ok := m.drops.due[keyOf(p.account, p.device)]; ok {
			d.confirming = false
			m.drops.due[keyOf(p.account, p.device)] = d
		}
	case wantInvite:
		switch reason {
		case stanza.ReasonBusy:
			p.reply <- errBusy
		default:
			p.reply <- errOutcome
		}
	case wantTicketKey:
		m.rotated(false)
	case wantMember:
		why := roster.Unknown
		if reason == stanza.ReasonBusy {
			why = roster.Busy
		}
		m.answerOperator(p.operator, p.id, why)
	case wantRoster:
		m.learnt(false)
	case wantRebind, wantUnlinkIdle:
		// The next leader's hello, or offline's next try, asks again.
	}
}

// message is the header of the message that p stands for, as a refusal needs it.
func (p *pending) message(g stanza.Group) *link.Envelope {
	return &link.Envelope{Kind: link.KindMessage, Group: g, Slot: p.slot, Gen: p.gen, Account: p.account, Device: p.device, ID: p.id, Charge: p.charge}
}
