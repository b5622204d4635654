package gateway

import (
	"errors"
	"net/url"
	"strings"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// mediaGrant answers a query for a grant, here: who the session is, is known, and the key that signs comes with the ticket keys. It costs a
// signature, some 25 us, under the limit of look-ups. Nothing says whether a blob exists: that is the mediad's to tell who has the grant.
func (l *loop) mediaGrant(s *session, q *stanza.Query) {
	grant, reason := l.g.grantFor(s.account, q)
	if reason != 0 {
		l.queryError(s, q.ID, reason, 0)
		return
	}
	keys := l.g.tickets.Load()
	if keys == nil {
		l.queryError(s, q.ID, stanza.ReasonUnavailable, jitter(l.g.cfg.RetryAfter.D()))
		return
	}
	var buf [wire.GrantSize]byte
	r := stanza.Result{
		ID: q.ID, Expiry: grant.Expires * 1000, Grant: wire.AppendGrant(buf[:0], keys.signer, &grant), URL: l.g.mediaURL,
	}
	l.scratch = r.Append(l.scratch[:0])
	l.push(s, l.scratch)
	l.g.metrics.grants[grant.Method].Inc()
}

// grantFor returns the grant that a session of account is to have, or why it never has one.
func (g *Gateway) grantFor(account stanza.Account, q *stanza.Query) (grant wire.Grant, reason stanza.Reason) {
	grant = wire.Grant{Method: q.Method, Account: account}
	switch {
	case len(g.mediaURL) == 0:
		return grant, stanza.ReasonForbidden
	case q.Method == wire.GrantUpload:
		if grant.Limit = q.Size; q.Size > uint64(g.cfg.MediaMax) {
			return grant, stanza.ReasonTooLarge
		}
	case q.Blob != nil:
		grant.Blob = [wire.BlobSize]byte(q.Blob)
	}
	grant.Expires = g.clock().Add(g.cfg.MediaGrantLife.D()).Unix()
	if !grant.Valid() { // a method of a later version, or what its method needs is missing
		return grant, stanza.ReasonForbidden
	}
	return grant, 0
}

// checkMediaURL says what is wrong with the base URL of mediads. "" is none, and good.
func checkMediaURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Hostname() == "":
		return errors.New("want https://HOST or http://HOST, with a port and a path if need be")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#"):
		return errors.New("want no user, query or fragment in it")
	case strings.HasSuffix(text, "/"):
		return errors.New("want no slash at the end")
	case len(text) > stanza.MaxMediaURL:
		return errors.New("is too long")
	}
	return nil
}
