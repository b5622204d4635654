package media

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Upload is a planned file on its way to a mediad, by tus 1.0. One goroutine at a time.
type Upload struct {
	Plan *Plan
	File io.ReaderAt // of which Plan is; read concurrently by nothing else of this package
	// URL is where the server keeps the upload; "" until it was made. Who keeps it beside the plan goes on where the server is.
	URL string
	// Save is told about each change of URL, before a byte is sent there. An error ends the upload. May be nil.
	Save func(url string) error
	// Progress is told how much of the blob the server, or the path to it, has taken; it may fall back after a failure. Called on a goroutine
	// of the HTTP client, by one at a time. May be nil.
	Progress func(done, total int64)
}

const (
	tusVersion = "1.0.0"
	bytesType  = "application/offset+octet-stream"
	blobHeader = "Linecard-Blob"
	// maxRestarts is how often one call makes an upload anew, because the server forgot it or has other bytes than were sent.
	maxRestarts = 3
)

// Upload brings u's blob to the mediad that the grants name, and returns when the mediad has it durably, under the name that the
// plan has found. What fails on the path or passes at the server is tried again. Errors: ErrChanged, *StatusError, ErrAnswer, those of
// the file, of Save and of grants, ctx's. After any of them but ErrChanged the same u may go on later.
func (t *Transport) Upload(ctx context.Context, u *Upload, grants Grants) error {
	if err := u.Plan.Check(); err != nil {
		return err
	}
	run := &uploading{t: t, u: u, total: BlobSize(u.Plan.Size), grants: grants, pace: pacer{t: t}}
	for restarts := 0; ; {
		err := run.try(ctx)
		if err == nil {
			return nil
		}
		v, stop := run.pace.after(ctx, err)
		switch {
		case stop != nil:
			return stop
		case v == regrant:
			run.grant = nil
		case v == restart && restarts == maxRestarts:
			return err
		case v == restart:
			restarts++
			u.URL = ""
		}
	}
}

// uploading is the state of one call of Upload.
type uploading struct {
	t      *Transport
	u      *Upload
	total  int64
	grants Grants
	grant  *Grant
	base   *url.URL
	pace   pacer
	top    int64 // the highest offset that the server has confirmed
}

// errForgotten: the server does not know the upload, or has something else under it.
var errForgotten = errors.New("the media server does not have the upload any more")

// try goes on with the upload as far as it gets.
func (r *uploading) try(ctx context.Context) error {
	if r.grant == nil {
		g, err := r.grants(ctx)
		if err != nil {
			return local(err)
		}
		if r.base, err = baseOf(g); err != nil {
			return err
		}
		r.grant = g
	}
	if r.u.URL != "" && !sameServer(r.base, r.u.URL) { // the operator has moved it; a grant is not for a stranger
		r.u.URL = ""
	}
	offset, name, err := r.begin(ctx)
	if err != nil {
		return err
	}
	r.confirm(offset)
	if offset < r.total || name == "" {
		if name, err = r.send(ctx, offset); err != nil {
			return err
		}
	}
	if name != hex.EncodeToString(r.u.Plan.Blob[:]) {
		r.t.forget(ctx, r.u.URL, r.grant)
		return fmt.Errorf("%w: other bytes arrived than were sent", errForgotten)
	}
	return nil
}

// begin makes the upload, or finds out how far it is.
func (r *uploading) begin(ctx context.Context) (offset int64, name string, err error) {
	if r.u.URL == "" {
		return 0, "", r.create(ctx)
	}
	return r.where(ctx)
}

// confirm notes how far the server says it is.
func (r *uploading) confirm(offset int64) {
	if offset > r.top {
		r.top = offset
		r.pace.further()
	}
	if r.u.Progress != nil {
		r.u.Progress(offset, r.total)
	}
}

// create makes the upload at the server.
func (r *uploading) create(ctx context.Context) error {
	ctx, w := r.t.watched(ctx)
	defer w.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base.JoinPath("v1/uploads").String(), nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	req.Header.Set("Tus-Resumable", tusVersion)
	req.Header.Set("Upload-Length", strconv.FormatInt(r.total, 10))
	resp, err := r.t.do(req, r.grant, http.StatusCreated)
	if err != nil {
		return err
	}
	resp.Body.Close()
	where, err := resp.Location()
	if err != nil || !sameServer(r.base, where.String()) {
		return fmt.Errorf("%w: it names no place for the upload", ErrAnswer)
	}
	where.RawQuery, where.Fragment = "", "" // a grant in it is not for keeping
	r.u.URL = where.String()
	if r.u.Save != nil {
		return local(r.u.Save(r.u.URL))
	}
	return nil
}

// sameServer reports whether address is at base's server.
func sameServer(base *url.URL, address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == base.Scheme && u.Host == base.Host && u.User == nil
}

// where asks how far the upload is. name is the blob's when the server has finished it.
func (r *uploading) where(ctx context.Context) (offset int64, name string, err error) {
	ctx, w := r.t.watched(ctx)
	defer w.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, r.u.URL, nil)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", errForgotten, err)
	}
	req.Header.Set("Tus-Resumable", tusVersion)
	resp, err := r.t.do(req, r.grant, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return 0, "", forgotten(err)
	}
	resp.Body.Close()
	offset, err = strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || offset < 0 || offset > r.total || resp.Header.Get("Upload-Length") != strconv.FormatInt(r.total, 10) {
		return 0, "", fmt.Errorf("%w: it has one of another length there", errForgotten)
	}
	return offset, resp.Header.Get(blobHeader), nil
}

// forgotten turns the refusals that mean so into errForgotten.
func forgotten(err error) error {
	var refused *StatusError
	if errors.As(err, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusGone) {
		return fmt.Errorf("%w: %w", errForgotten, err)
	}
	return err
}

// send sends the rest of the blob in one request and returns the name under which the server has it now.
func (r *uploading) send(ctx context.Context, offset int64) (name string, err error) {
	ctx, w := r.t.watched(ctx)
	defer w.stop()
	source := r.u.Plan.Source(r.u.File)
	source.SeekTo(offset)
	body := &sending{source: source, w: w, at: offset, r: r}
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, r.u.URL, body)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errForgotten, err)
	}
	if req.ContentLength = r.total - offset; req.ContentLength == 0 {
		req.Body = http.NoBody // the last answer was lost, or the server is still at it
	}
	req.Header.Set("Tus-Resumable", tusVersion)
	req.Header.Set("Content-Type", bytesType)
	req.Header.Set("Upload-Offset", strconv.FormatInt(offset, 10))
	if req.ContentLength > ChunkSize {
		req.Header.Set("Expect", "100-continue") // what is refused need not be sent
	}
	resp, err := r.t.do(req, r.grant, http.StatusNoContent, http.StatusOK)
	if own := body.failed(); own != nil {
		if err == nil {
			resp.Body.Close()
		}
		return "", own
	}
	if err != nil {
		return "", forgotten(err)
	}
	resp.Body.Close()
	at, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || at < offset || at > r.total {
		return "", fmt.Errorf("%w: no offset in it", ErrAnswer)
	}
	r.confirm(at)
	if at < r.total {
		return "", errStalled // it took a part; the rest is the next try's
	}
	return strings.ToLower(resp.Header.Get(blobHeader)), nil
}

// forget ends an upload at the server, as well as that goes: it would expire by itself.
func (t *Transport) forget(ctx context.Context, address string, g *Grant) {
	ctx, w := t.watched(ctx)
	defer w.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, address, nil)
	if err != nil {
		return
	}
	req.Header.Set("Tus-Resumable", tusVersion)
	if resp, err := t.do(req, g, http.StatusNoContent); err == nil {
		resp.Body.Close()
	}
}

// Forget ends an unfinished upload at the server, which frees what it took of the quota. Errors of the server are none: it expires by itself.
func (t *Transport) Forget(ctx context.Context, address string, grants Grants) error {
	g, err := grants(ctx)
	if err != nil {
		return err
	}
	base, err := baseOf(g)
	if err != nil {
		return err
	}
	if sameServer(base, address) {
		t.forget(ctx, address, g)
	}
	return nil
}
