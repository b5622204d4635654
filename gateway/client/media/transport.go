package media

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Grant is the permission to do one thing with media over HTTP, as the gateway signed it. It is as secret as what it permits.
type Grant struct {
	URL     string    // of the media server, without a slash at the end
	Text    string    // base64url: for the header "Authorization: Bearer TEXT", or the query ?grant=TEXT
	Expires time.Time // by the server's clock: not valid from then on
}

// Grants gets a fresh grant for what is to be done. A transfer calls it at its begin, and again when a grant has expired.
type Grants func(ctx context.Context) (*Grant, error)

// StatusError is a refusal of the mediad.
type StatusError struct {
	Status     int
	Reason     string        // of mediad's enumeration; "" when the answer is not a mediad's
	Message    string        // for people
	RetryAfter time.Duration // 0: none was named
}

func (e *StatusError) Error() string {
	switch {
	case e.Message != "" && e.Reason != "":
		return fmt.Sprintf("%s (%s)", e.Message, e.Reason)
	case e.Reason != "":
		return fmt.Sprintf("the media server refuses (%s)", e.Reason)
	}
	return fmt.Sprintf("the media server answers %d %s", e.Status, http.StatusText(e.Status))
}

var (
	// errStalled: nothing moved for a while. It is tried again.
	errStalled = errors.New("the media server is silent")
	// ErrAnswer: what answered does not speak the protocol.
	ErrAnswer = errors.New("not a media server's answer")
)

// Transport carries blobs to and from mediads. The zero value is ready. Safe for concurrent use.
type Transport struct {
	// HTTP makes the requests; nil = a client that verifies certificates by the system's roots, follows no redirection (a grant is for
	// one server) and bounds each step. Give one to trust another root.
	HTTP *http.Client
	// Stall is how long a request may be without a byte before it is given up and tried again. 0 = 30 s.
	Stall time.Duration
	// Patience is how long a transfer goes on trying without getting further. 0 = 5 min; ctx bounds all of it.
	Patience time.Duration

	unit time.Duration // first wait between tries; 0 = 500 ms
}

const (
	defaultStall    = 30 * time.Second
	defaultPatience = 5 * time.Minute
	maxErrorBody    = 4 << 10
)

// standard is the client of Transports without one of their own: they share its idle connections.
var standard = NewHTTPClient(nil)

// NewHTTPClient returns a client as Transport has it by default; base, when not nil, is changed and used: for a root of its own, say.
func NewHTTPClient(base *http.Transport) *http.Client {
	if base == nil {
		base = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	}
	base.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	base.TLSHandshakeTimeout = 10 * time.Second
	base.ExpectContinueTimeout = time.Second
	base.IdleConnTimeout = time.Minute
	base.MaxIdleConnsPerHost = 4
	base.DisableCompression = true // ciphertext; and ranges are of what is stored
	return &http.Client{
		Transport:     base,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (t *Transport) client() *http.Client {
	if t.HTTP != nil {
		return t.HTTP
	}
	return standard
}

// watch ends a request that does not move: each touch gives it another span.
type watch struct {
	timer  *time.Timer
	span   time.Duration
	cancel context.CancelCauseFunc
}

// watched returns a context that ends with errStalled unless the watch is touched. The caller calls stop.
func (t *Transport) watched(ctx context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{span: t.Stall, cancel: cancel}
	if w.span <= 0 {
		w.span = defaultStall
	}
	w.timer = time.AfterFunc(w.span, func() { cancel(errStalled) })
	return ctx, w
}

func (w *watch) touch() { w.timer.Reset(w.span) }

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause returns errStalled in place of what a request says that was given up for that.
func cause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// do sends a request under a grant and returns the answer when its status is one of want, else a *StatusError. The caller closes the body.
func (t *Transport) do(req *http.Request, g *Grant, want ...int) (*http.Response, error) {
	req.Header.Set("Authorization", "Bearer "+g.Text)
	resp, err := t.client().Do(req)
	if err != nil {
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err // people are not helped by the address of a blob
		}
		return nil, cause(req.Context(), err)
	}
	for _, status := range want {
		if resp.StatusCode == status {
			return resp, nil
		}
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

// refusal reads what a mediad says of why.
func refusal(resp *http.Response) error {
	e := &StatusError{Status: resp.StatusCode}
	var said struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // whatever came of it
	if json.Unmarshal(body, &said) == nil && isReason(said.Error) {
		e.Reason, e.Message = said.Error, plain(said.Message)
	}
	if after, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s"); err == nil {
		e.RetryAfter = min(max(after, 0), maxWait)
	}
	return e
}

// isReason reports whether s looks like a name of an enumeration.
func isReason(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// plain keeps a server's text from doing more in a terminal than being read.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}

// baseOf parses the URL of a grant.
func baseOf(g *Grant) (*url.URL, error) {
	u, err := url.Parse(g.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || g.Text == "" {
		return nil, fmt.Errorf("%w: no usable address of it in the grant", ErrAnswer)
	}
	return u, nil
}
