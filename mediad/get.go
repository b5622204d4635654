package mediad

import (
	"net/http"
	"strings"
	"time"

	"linecard.example/internal/wire"
)

// get answers GET and HEAD of a blob: whole, a range, or not at all when the client has it. What a name stands for never changes, so any
// cache may keep it for ever.
func (q *request) get() error {
	if err := q.authorizeBlob(wire.GrantDownload); err != nil {
		return err
	}
	b, err := q.s.depot.open(q.r.Context(), q.hash)
	if err != nil {
		return err
	}
	defer b.Close()
	h := q.w.Header()
	h.Set("ETag", `"`+q.hash.String()+`"`)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", "attachment")
	h.Set("X-Content-Type-Options", "nosniff")
	if strings.Contains(q.r.Header.Get("Range"), ",") {
		q.r.Header.Del("Range") // several ranges would cost more than they are worth: the whole is a legal answer (RFC 9110, 14.2)
	}
	out := &outflow{q: q, pace: q.pace()}
	http.ServeContent(out, q.r, "", time.Time{}, b.ReadSeekCloser)
	switch {
	case out.refused != OK:
		for _, name := range []string{"ETag", "Content-Disposition"} {
			h.Del(name)
		}
		return fail(out.refused)
	case out.err != nil:
		return out.err
	}
	return nil
}

// end answers DELETE of a blob: the account's reference to it ends, and the blob with its last reference.
func (q *request) end() error {
	if err := q.authorizeBlob(wire.GrantDelete); err != nil {
		return err
	}
	if err := q.s.depot.end(q.r.Context(), q.hash, q.grant.Account); err != nil {
		return err
	}
	q.answer(http.StatusNoContent, nil)
	return nil
}
