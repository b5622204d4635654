package router

import (
	"slices"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// query answers a question about the directory, or changes the asker's own account.
func (m *dirShard) query(gw *gateway, e *link.Envelope) {
	v, rest, err := stanza.Decode(e.Payload)
	q, perr := stanza.ParseQuery(v)
	if err != nil || perr != nil || len(rest) != 0 {
		m.queryError(asked(wantLookup, gw, e), stanza.ReasonInternal, 0)
		return
	}
	switch q.Op {
	case stanza.OpLookup:
		if _, r, ok := stanza.SplitHandle(q.Handle); ok && r != m.region {
			m.queryAbroad(asked(wantLookup, gw, e), e, r)
			return
		}
		m.lookup(asked(wantLookup, gw, e), &q)
	case stanza.OpDeviceList:
		if q.Account.Region() != m.region && q.Account != 0 {
			m.queryAbroad(asked(wantLookup, gw, e), e, q.Account.Region())
			return
		}
		m.listDevices(asked(wantLookup, gw, e), &q)
	case stanza.OpLink:
		m.link(asked(wantLink, gw, e), &q)
	case stanza.OpUnlink:
		m.unlink(asked(wantUnlink, gw, e), &q)
	default:
		m.queryError(asked(wantLookup, gw, e), stanza.ReasonForbidden, 0)
	}
}

// lookup finds an account by its handle. A handle that nobody can have is answered like one that nobody has.
func (m *dirShard) lookup(p *pending, q *stanza.Query) {
	if !m.mayAsk(p) {
		return
	}
	name, _, regional := stanza.SplitHandle(q.Handle)
	handle, err := stanza.FoldHandle(name)
	if err != nil {
		m.queryError(p, stanza.ReasonUnknownAccount, 0)
		return
	}
	if stanza.HandleShard(handle, m.shards) != m.id.Shard() {
		m.queryError(p, stanza.ReasonInternal, 0)
		return
	}
	p.handle, p.regional = handle, regional
	m.answerLookup(p, false)
}

// listDevices answers with the devices of an account. A client asks for its own as often as it likes.
func (m *dirShard) listDevices(p *pending, q *stanza.Query) {
	if q.Account != p.account && !m.mayAsk(p) {
		return
	}
	if !m.mine(q.Account) {
		m.queryError(p, stanza.ReasonInternal, 0)
		return
	}
	p.about = q.Account
	m.answerLookup(p, false)
}

// finishLookup answers under verified leadership what was not found before.
func (m *dirShard) finishLookup(p *pending) { m.answerLookup(p, true) }

// answerLookup answers with the account's devices. That it does not exist is answered under verified leadership only.
func (m *dirShard) answerLookup(p *pending, verified bool) {
	a, err := m.lookedUpAccount(p)
	switch {
	case err != nil:
		m.queryError(p, stanza.ReasonUnavailable, m.retryAfter)
	case a == nil && !verified:
		m.verify(p)
	case a == nil:
		m.queryError(p, stanza.ReasonUnknownAccount, 0)
	case verified || m.mayBeAsked(p):
		res := stanza.Result{ID: p.id, Account: p.about, Version: a.version, Devices: m.deviceList(a)}
		if p.handle != "" {
			res.Handle = a.handle
			if p.regional {
				res.Handle = append(slices.Clip(res.Handle), suffix(m.region)...)
			}
		}
		m.result(p, &res)
	}
}

func (m *dirShard) lookedUpAccount(p *pending) (*accountRecord, error) {
	if p.handle != "" {
		owner, err := m.directory.owner([]byte(p.handle))
		if err != nil || owner == 0 {
			return nil, err
		}
		p.about = owner
	}
	if p.about == 0 {
		return nil, nil
	}
	return m.directory.account(p.about)
}

// mayAsk takes one of the asker's look-ups of this shard.
func (m *dirShard) mayAsk(p *pending) bool {
	wait, ok := m.lookups.take(uint64(p.account), 0, m.clock)
	if !ok {
		m.queryError(p, stanza.ReasonBusy, uint32(wait/time.Millisecond))
	}
	return ok
}

// mayBeAsked takes one of the look-ups of the account that was found.
func (m *dirShard) mayBeAsked(p *pending) bool {
	if p.about == p.account {
		return true
	}
	wait, ok := m.lookedUp.take(uint64(p.about), 0, m.clock)
	if !ok {
		m.queryError(p, stanza.ReasonBusy, uint32(wait/time.Millisecond))
	}
	return ok
}

// link adds a device with the key asked for to the asker's account.
func (m *dirShard) link(p *pending, q *stanza.Query) {
	if !m.ownAccount(p, q) || len(q.Key) != keySize {
		m.queryError(p, stanza.ReasonForbidden, 0)
		return
	}
	if m.group.StorageFull() {
		m.queryError(p, stanza.ReasonStorageFull, m.wait(stanza.ReasonStorageFull))
		return
	}
	m.propose(&command{op: opLink, account: p.account, by: p.device, key: [keySize]byte(q.Key)}, p)
}

// linked answers after the commit.
func (m *dirShard) linked(p *pending, r result) {
	if r.reason != 0 {
		m.queryError(p, r.reason, 0)
		return
	}
	m.result(p, &stanza.Result{ID: p.id, Account: r.account, Device: r.device, Version: r.version})
}

// unlink removes a device of the asker's account; it may be the asking one.
func (m *dirShard) unlink(p *pending, q *stanza.Query) {
	if !m.ownAccount(p, q) || q.Device == 0 {
		m.queryError(p, stanza.ReasonForbidden, 0)
		return
	}
	by := p.device
	p.device = q.Device
	m.propose(&command{op: opUnlink, account: p.account, by: by, device: q.Device}, p)
}

// ownAccount reports whether a query that changes an account comes from one of its sessions.
func (m *dirShard) ownAccount(p *pending, q *stanza.Query) bool {
	return p.account != 0 && p.device != 0 && p.account.Region() == m.region && m.mine(p.account) && (q.Account == 0 || q.Account == p.account)
}

// unlinkIdle takes an offline's word that a device's queue is full and has not been read for 14 days. A device that is bound now
// is about to read it; which ones are is known when the gateways have re-sent their bindings. Offline asks again.
func (m *dirShard) unlinkIdle(e *link.Envelope) {
	a, err := m.directory.account(e.Account)
	if err != nil || a == nil || a.device(e.Device) == nil {
		return
	}
	if _, bound := m.bindings.get(keyOf(e.Account, e.Device)); bound || !m.rebuilt() {
		return
	}
	m.propose(&command{op: opUnlink, account: e.Account, device: e.Device},
		&pending{want: wantUnlinkIdle, account: e.Account, device: e.Device})
}

// unlinked goes on after the commit: the answer first, for the session that asked may be the one to be closed.
func (m *dirShard) unlinked(p *pending, r result) {
	if p.want == wantUnlink && r.reason != 0 {
		m.queryError(p, r.reason, 0)
		return
	}
	if p.want == wantUnlink {
		m.result(p, &stanza.Result{ID: p.id, Account: r.account, Device: r.device, Version: r.version})
	}
	if !r.changed || !m.leading {
		return // the next leader finds the queue to drop in the tables, and refuses the session when it re-binds
	}
	k := keyOf(r.account, r.device)
	if b, bound := m.bindings.get(k); bound {
		m.closeSession(k, b, stanza.ReasonUnlinked)
		m.bindings.remove(k)
		m.countBindings()
		m.detach(k, b)
	}
	m.dropQueue(k)
}

func (m *dirShard) result(p *pending, res *stanza.Result) {
	m.metrics.answered(p)
	m.stanza = res.Append(m.stanza[:0])
	m.sendResult(p)
}

func (m *dirShard) queryError(p *pending, reason stanza.Reason, after uint32) {
	if reason.Retry() != stanza.RetryLater {
		after = 0
	}
	m.metrics.queries.Inc(reason)
	m.metrics.lines.Write("query refused", reason, p.account, 0)
	qe := stanza.QueryError{ID: p.id, Reason: reason, RetryAfter: after}
	m.stanza = qe.Append(m.stanza[:0])
	m.sendResult(p)
}

func (m *dirShard) sendResult(p *pending) {
	m.send(p.gw.to, link.Envelope{Kind: link.KindResult, Group: m.id, Slot: p.slot, Gen: p.gen, Account: p.account, ID: p.id, Payload: m.stanza})
}
