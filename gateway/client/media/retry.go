package media

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// ErrGivenUp: a transfer did not get further for as long as Transport.Patience. It wraps what the last try failed with; another call may
// go on.
var ErrGivenUp = errors.New("given up for now")

const (
	firstWait = 500 * time.Millisecond
	maxWait   = 30 * time.Second
	// maxGrants is how many grants in a row may be refused: a mediad that refuses a fresh one has other keys or another clock.
	maxGrants = 3
)

// verdict says what becomes of a transfer after an error.
type verdict int

const (
	final   verdict = iota // the caller gets it
	again                  // the same again, after a wait
	regrant                // again, with a fresh grant
	restart                // the server knows nothing of the upload: make a new one
)

// judge sorts errors. What is not a refusal and not trouble on this side is the path's, and passes.
func judge(err error) verdict {
	var (
		refused   *StatusError
		own       *localError
		untrusted *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, errForgotten):
		return restart
	case errors.As(err, &own), errors.As(err, &untrusted), errors.Is(err, ErrAnswer), errors.Is(err, ErrDamaged):
		return final
	case errors.As(err, &refused):
		return judgeStatus(refused)
	}
	return again
}

func judgeStatus(e *StatusError) verdict {
	switch e.Status {
	case http.StatusUnauthorized:
		return regrant
	case http.StatusBadRequest:
		if e.Reason == "interrupted" { // the server's word for a path that broke
			return again
		}
		return final
	case http.StatusForbidden:
		if e.Reason == "" || strings.HasPrefix(e.Reason, "grant") { // an answer to HEAD has no body to say why
			return regrant
		}
		return final
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusLocked, http.StatusTooManyRequests, statusChecksum:
		return again
	case http.StatusInsufficientStorage: // a full disk or a used-up quota: neither passes by itself
		return final
	}
	if e.Status >= 500 && e.Status != http.StatusNotImplemented && e.Status != http.StatusHTTPVersionNotSupported {
		return again
	}
	return final
}

// statusChecksum is tus's "460 Checksum Mismatch".
const statusChecksum = 460

// localError marks trouble on this side: a grant that was not to be had, a file, a store.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// local marks err as trouble on this side.
func local(err error) error {
	if err == nil {
		return nil
	}
	return &localError{err}
}

// pacer decides how long a transfer waits between its tries, and when it has tried enough.
type pacer struct {
	t      *Transport
	tries  int       // in a row without getting further
	grants int       // refused in a row
	since  time.Time // of the first of them
}

// further notes that a try got somewhere.
func (p *pacer) further() { p.tries, p.grants = 0, 0 }

// after decides what to do after err: it returns what the next try is to do otherwise, when it is time for it, or the error to return.
func (p *pacer) after(ctx context.Context, err error) (verdict, error) {
	if ctx.Err() != nil {
		return final, err
	}
	v := judge(err)
	if v == regrant {
		p.grants++
	}
	if v == final || p.grants > maxGrants {
		return final, err
	}
	return v, p.wait(ctx, err)
}

// wait sleeps before the next try, or returns why there is none: err, wrapped with how long it was tried.
func (p *pacer) wait(ctx context.Context, err error) error {
	if p.tries == 0 {
		p.since = time.Now()
	}
	patience := p.t.Patience
	if patience <= 0 {
		patience = defaultPatience
	}
	unit := p.t.unit
	if unit <= 0 {
		unit = firstWait
	}
	span := min(unit<<min(p.tries, 8), maxWait)
	span = span/2 + rand.N(span/2+1)
	var refused *StatusError
	if errors.As(err, &refused) {
		span = max(span, refused.RetryAfter)
	}
	p.tries++
	if time.Since(p.since)+span > patience {
		return fmt.Errorf("%w: %w", ErrGivenUp, err)
	}
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w (the last try: %w)", context.Cause(ctx), err)
	}
}
