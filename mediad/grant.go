package mediad

import (
	"errors"
	"strings"

	"linecard.example/internal/wire"
)

// SetKeys replaces the keys that grants are verified with; it retains keys. Without any, requests are answered starting.
func (s *Server) SetKeys(keys []wire.GrantPublic) { s.keys.Store(&keys) }

// authorize verifies the request's grant, which must be for one of the methods, and counts the request for its account. A header wins
// over the query: a client that has a new grant can use it on an old URL.
func (q *request) authorize(methods ...wire.GrantMethod) error {
	text, query := q.r.URL.Query().Get("grant"), true
	if scheme, rest, ok := strings.Cut(q.r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		text, query = strings.TrimSpace(rest), false
	}
	if text == "" {
		return fail(NoGrant)
	}
	keys := q.s.keys.Load()
	if keys == nil || len(*keys) == 0 {
		return fail(Starting)
	}
	b, err := wire.ParseGrantText(text)
	if err == nil {
		err = wire.OpenGrant(&q.grant, *keys, b[:], q.s.deps.Clock().Unix())
	}
	switch {
	case errors.Is(err, wire.ErrGrantExpired):
		return fail(GrantExpired)
	case err != nil:
		return fail(BadGrant)
	}
	if query {
		q.signed = text
	}
	return q.permit(methods)
}

// permit checks the method, and takes the account's place among the requests under way.
func (q *request) permit(methods []wire.GrantMethod) error {
	for _, m := range methods {
		if m != q.grant.Method {
			continue
		}
		if !q.s.tally.take(q.grant.Account) {
			return fail(AccountBusy)
		}
		q.taken = true
		return nil
	}
	return fail(GrantMethod)
}

// authorizeBlob is authorize for a blob's own path: the grant names it.
func (q *request) authorizeBlob(m wire.GrantMethod) error {
	if err := q.authorize(m); err != nil {
		return err
	}
	if q.hash != q.grant.Blob {
		return fail(GrantBlob)
	}
	return nil
}
