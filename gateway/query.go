package gateway

import (
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// query sends a client's query to the directory that can answer it: of the handle or the account asked about, or the asker's own
// for what changes its devices. Grants for media and credentials for relays are the gateway's own to give.
func (l *loop) query(s *session, q *stanza.Query, raw []byte) {
	if !l.takeLookup(s) {
		l.queryError(s, q.ID, stanza.ReasonBusy, l.rateRetry())
		return
	}
	var group stanza.Group
	switch q.Op {
	case stanza.OpLookup:
		name, _, _ := stanza.SplitHandle(q.Handle)
		handle, err := stanza.FoldHandle(name)
		if err != nil {
			l.queryError(s, q.ID, stanza.ReasonUnknownAccount, 0) // nobody can have such a handle
			return
		}
		group = stanza.DirGroup(stanza.HandleShard(handle, l.g.shards))
	case stanza.OpDeviceList:
		group = l.g.dirOf(s.account)
		if q.Account != 0 {
			group = l.g.dirOf(q.Account)
		}
	case stanza.OpLink, stanza.OpUnlink:
		group = l.g.dirOf(s.account)
	case stanza.OpMediaGrant:
		l.mediaGrant(s, q)
		return
	case stanza.OpRelay:
		l.relayCredential(s, q)
		return
	default:
		l.queryError(s, q.ID, stanza.ReasonForbidden, 0) // of a later version
		return
	}
	l.env = link.Envelope{
		Kind: link.KindQuery, Group: group, Slot: s.self, Gen: l.slots.Gen(s.slot()),
		Account: s.account, Device: s.dev(), ID: q.ID, Payload: raw,
	}
	if reason := l.g.sendHard(&l.env); reason != 0 {
		l.queryError(s, q.ID, reason, jitter(l.g.cfg.RetryAfter.D()))
	}
}

func (l *loop) queryError(s *session, id uint64, reason stanza.Reason, retryAfter uint32) {
	e := stanza.QueryError{ID: id, Reason: reason, RetryAfter: retryAfter}
	l.scratch = e.Append(l.scratch[:0])
	l.push(s, l.scratch)
	l.g.metrics.refusals.Inc(reason)
	l.g.lines.Write("query refused", reason, s.account, s.dev())
}
