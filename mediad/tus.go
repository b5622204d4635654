package mediad

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"

	"linecard.example/internal/wire"
)

// checksums are the algorithms of Upload-Checksum. They find errors of transfer: a blob's name is always SHA-256.
var checksums = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "md5": md5.New}

const checksumNames = "sha1,sha256,md5"

// offsetType is the content type of a body of a PATCH.
const offsetType = "application/offset+octet-stream"

// evictWait is how long a request waits for an older one of the same upload, which was told to end, before it is answered locked.
const evictWait = 5 * time.Second

// create answers POST: a new upload, and where it is. A body is its first bytes.
func (q *request) create() error {
	if err := q.authorize(wire.GrantUpload); err != nil {
		return err
	}
	length, err := q.announced()
	if err != nil {
		return err
	}
	meta := q.r.Header.Get("Upload-Metadata")
	if !validMetadata(meta) {
		return fail(BadRequest)
	}
	if q.r.ContentLength != 0 && q.r.Header.Get("Content-Type") != offsetType {
		return fail(WrongType)
	}
	sum, err := q.checksum()
	if err != nil {
		return err
	}
	if q.r.ContentLength > length {
		return fail(TooLarge)
	}
	x, err := q.s.depot.uploads.create(q.grant.Account, length, []byte(meta))
	if err != nil {
		return err
	}
	if err := q.first(x, sum); err != nil {
		return errors.Join(err, x.remove()) // nobody was told its name
	}
	return nil
}

// first takes in what came with the creation, and answers.
func (q *request) first(x *upload, sum *checksum) error {
	if err := q.append(x, sum); err != nil {
		return err
	}
	at := uploadsPath + "/" + x.id
	if q.signed != "" {
		at += "?grant=" + q.signed
	}
	q.w.Header().Set("Location", at)
	q.progress(x)
	q.leave(x)
	q.answer(http.StatusCreated, nil)
	return nil
}

// offset answers HEAD: how far the upload is. An older request that still brings bytes ends, so that the answer is true when it comes.
func (q *request) offset() error {
	x, err := q.open()
	if err != nil {
		return err
	}
	defer q.leave(x)
	if err := q.complete(x); err != nil {
		return err
	}
	h := q.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Upload-Length", strconv.FormatInt(x.length(), 10))
	if meta := x.meta(); len(meta) > 0 {
		h.Set("Upload-Metadata", string(meta))
	}
	q.progress(x)
	q.answer(http.StatusOK, nil)
	return nil
}

// patch answers PATCH: bytes for an upload, at its offset.
func (q *request) patch() error {
	x, err := q.open()
	if err != nil {
		return err
	}
	defer q.leave(x)
	offset, ok := parseCount(q.r.Header.Get("Upload-Offset"))
	switch {
	case q.r.Header.Get("Content-Type") != offsetType:
		return fail(WrongType)
	case !ok:
		return fail(BadRequest)
	case offset != x.position():
		return fail(WrongOffset)
	}
	sum, err := q.checksum()
	if err != nil {
		return err
	}
	if q.r.ContentLength > x.length()-offset {
		if _, done := x.finished(); done {
			return fail(Finished)
		}
		return fail(TooLarge)
	}
	if err := q.append(x, sum); err != nil {
		return err
	}
	q.progress(x)
	q.leave(x) // before the answer: who asks next finds it free
	q.answer(http.StatusNoContent, nil)
	return nil
}

// terminate answers DELETE of an upload. The blob of a finished one stays.
func (q *request) terminate() error {
	x, err := q.open()
	if err != nil {
		return err
	}
	if err := x.remove(); err != nil {
		return errors.Join(err, x.close())
	}
	q.answer(http.StatusNoContent, nil)
	return nil
}

// open opens the upload of the path, which an older request of the same account has to let go of.
func (q *request) open() (*upload, error) {
	if err := q.authorize(wire.GrantUpload); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), q.s.patience)
	defer cancel()
	return q.s.depot.uploads.open(ctx, q.id, q.grant.Account, func() { q.cut(TakenOver) })
}

// leave lets go of the upload: all that came is durable then. It may be called twice.
func (q *request) leave(x *upload) {
	if err := x.close(); err != nil {
		q.log(err)
	}
}

// append takes the body in, and completes the upload with its last byte. With a checksum all of the body counts or nothing.
func (q *request) append(x *upload, sum *checksum) error {
	if sum == nil {
		if err := q.intake(x, nil); err != nil {
			return err
		}
		return q.complete(x)
	}
	if err := x.mark(); err != nil {
		return err
	}
	err := q.intake(x, sum.hash)
	if err == nil && !sum.fits() {
		err = fail(ChecksumMismatch)
	}
	if err != nil {
		return errors.Join(err, x.rollback())
	}
	if err := x.keep(); err != nil {
		return err
	}
	return q.complete(x)
}

// complete commits an upload that has all its bytes. The client's connection may end meanwhile: the commit goes on.
func (q *request) complete(x *upload) error {
	_, done := x.finished()
	if done || !x.complete() {
		return nil
	}
	if _, err := x.finish(q.s.life); err != nil {
		return err
	}
	q.s.count.uploaded.Inc()
	return nil
}

// progress says in the header how far the upload is.
func (q *request) progress(x *upload) {
	h := q.w.Header()
	h.Set("Upload-Offset", strconv.FormatInt(x.position(), 10))
	h.Set("Upload-Expires", time.Unix(x.expires(), 0).UTC().Format(http.TimeFormat))
	if hash, done := x.finished(); done {
		h.Set("Linecard-Blob", hash.String())
	}
}

// announced returns the length of the upload to be created.
func (q *request) announced() (int64, error) {
	text := q.r.Header.Get("Upload-Length")
	if text == "" {
		return 0, fail(LengthRequired)
	}
	n, ok := parseCount(text)
	if !ok {
		return 0, fail(BadRequest)
	}
	if n > q.most() {
		return 0, fail(TooLarge)
	}
	return n, nil
}

// most is the largest blob that the request may bring.
func (q *request) most() int64 { return int64(min(q.grant.Limit, uint64(q.s.cfg.MaxUpload))) }

// parseCount reads a number of bytes as tus writes it: digits alone.
func parseCount(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// checksum is one that came with a body, and what came.
type checksum struct {
	hash hash.Hash
	want []byte
}

func (c *checksum) fits() bool { return subtle.ConstantTimeCompare(c.hash.Sum(nil), c.want) == 1 }

// checksum reads Upload-Checksum; nil without one.
func (q *request) checksum() (*checksum, error) {
	text := q.r.Header.Get("Upload-Checksum")
	if text == "" {
		return nil, nil
	}
	name, digest, _ := strings.Cut(text, " ")
	make := checksums[name]
	if make == nil {
		return nil, fail(ChecksumAlgorithm)
	}
	c := &checksum{hash: make()}
	var err error
	if c.want, err = base64.StdEncoding.DecodeString(digest); err != nil || len(c.want) != c.hash.Size() {
		return nil, fail(BadRequest)
	}
	return c, nil
}

// validMetadata reports whether s is pairs of a key and a base64 value, as Upload-Metadata has them; each key once.
func validMetadata(s string) bool {
	if s == "" {
		return true
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), " ")
		_, err := base64.StdEncoding.DecodeString(value)
		if key == "" || seen[key] || err != nil {
			return false
		}
		seen[key] = true
	}
	return true
}
