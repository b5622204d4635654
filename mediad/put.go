package mediad

import (
	"errors"
	"net/http"
	"time"

	"linecard.example/internal/wire"
)

// stored is the answer to a PUT.
type stored struct {
	Blob    string `json:"blob"`
	Size    int64  `json:"size"`
	Expires string `json:"expires"` // when the account's reference ends, RFC 3339
}

// put answers PUT: a whole blob in one request, for clients that speak nothing but HTTP. What does not come whole leaves nothing. With the
// hash in the path it must be the body's.
func (q *request) put() error {
	if err := q.authorize(wire.GrantUpload); err != nil {
		return err
	}
	if q.r.ContentLength > q.most() {
		return fail(TooLarge)
	}
	x, err := q.s.depot.uploads.stage(q.grant.Account, q.r.ContentLength)
	if err != nil {
		return err
	}
	answer, err := q.whole(x)
	if err != nil {
		return errors.Join(err, x.remove())
	}
	q.leave(x)
	q.w.Header().Set("Location", blobsPath+"/"+answer.Blob)
	q.json(http.StatusCreated, answer)
	return nil
}

// whole takes the body in and makes it a blob.
func (q *request) whole(x *upload) (answer stored, err error) {
	q.r.Body = http.MaxBytesReader(nil, q.r.Body, q.most()) // for one that does not say how long it is
	if err := q.intake(x, nil); err != nil {
		return answer, err
	}
	if q.named && x.hash() != q.hash {
		return answer, fail(HashMismatch)
	}
	hash, err := x.finish(q.s.life)
	if err != nil {
		return answer, err
	}
	q.s.count.uploaded.Inc()
	until := q.s.deps.Clock().Add(q.s.cfg.Retention.D()).UTC().Truncate(time.Second)
	return stored{Blob: hash.String(), Size: x.position(), Expires: until.Format(time.RFC3339)}, nil
}
