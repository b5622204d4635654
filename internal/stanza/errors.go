package stanza

import "errors"

// ErrStanza is what every decoding error of this package wraps: errors.Is(err, ErrStanza). A session that sent such bytes is
// closed with bad_stanza; the bytes before the faulty stanza were good.
var ErrStanza = errors.New("stanza: malformed")

// fault is a decoding error: a value known at compile time, so that returning one allocates nothing.
type fault struct{ text string }

func (f *fault) Error() string { return f.text }

// Unwrap makes errors.Is(err, ErrStanza) hold.
func (f *fault) Unwrap() error { return ErrStanza }

// The decoding errors.
var (
	ErrTruncated    error = &fault{"stanza: truncated"}
	ErrNotCanonical error = &fault{"stanza: not canonical"}
	ErrTooLong      error = &fault{"stanza: over a length limit"}
	ErrTooMany      error = &fault{"stanza: over a count limit"}
	ErrTooDeep      error = &fault{"stanza: lists nested too deep"}
	ErrFlags        error = &fault{"stanza: unknown frame flags"}
	ErrTag          error = &fault{"stanza: unexpected tag"}
	ErrWireType     error = &fault{"stanza: attribute of another wire type"}
	ErrMissing      error = &fault{"stanza: required attribute missing"}
	ErrValue        error = &fault{"stanza: value out of range"}
	ErrBody         error = &fault{"stanza: body missing, unexpected or malformed"}
)
