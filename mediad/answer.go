package mediad

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

const (
	tusVersion    = "1.0.0"
	tusExtensions = "creation,creation-with-upload,expiration,checksum,termination"
)

// failure is the body of an answer to a request that was not served.
type failure struct {
	Error   string `json:"error"`
	Message string `json:"message"`
}

// retryAfter is what clients are told to wait, in seconds, where waiting helps.
const retryAfter = "2"

// refuse answers with a reason. Nothing of the answer was sent before.
func (q *request) refuse(r Reason) {
	h := q.w.Header()
	info := &reasonTable[r]
	h.Set("Cache-Control", "no-store")
	if info.retry {
		h.Set("Retry-After", retryAfter)
	}
	switch r {
	case NoGrant, BadGrant, GrantExpired:
		h.Set("WWW-Authenticate", "Bearer")
	case TusVersion:
		h.Set("Tus-Version", tusVersion)
	case MethodNotAllowed:
		h.Set("Allow", q.route.allow)
	case Draining:
		h.Set("Connection", "close")
	}
	q.json(info.status, failure{Error: info.name, Message: info.message})
}

// json answers with a status and v. Whether the client got it cannot be known, and changes nothing.
func (q *request) json(status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // v is one of our own structures
	}
	h := q.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)+1))
	h.Set("X-Content-Type-Options", "nosniff")
	q.answer(status, append(b, '\n'))
}

// answer sends the header and a body, which may be nil.
func (q *request) answer(status int, body []byte) {
	q.armWrite()
	q.w.WriteHeader(status)
	if len(body) > 0 && q.r.Method != http.MethodHead {
		_, _ = q.w.Write(body)
	}
}

// What pages of other origins may send and see.
const (
	corsMethods = "OPTIONS, GET, HEAD, POST, PUT, PATCH, DELETE"
	corsHeaders = "Authorization, Content-Type, Range, If-Match, If-None-Match, If-Range, Tus-Resumable, Upload-Length, Upload-Offset, " +
		"Upload-Metadata, Upload-Checksum, Upload-Defer-Length, Upload-Concat, X-HTTP-Method-Override, X-Requested-With, X-Request-ID"
	corsExpose = "Location, Retry-After, ETag, Accept-Ranges, Content-Range, Content-Length, Tus-Resumable, Tus-Version, Tus-Extension, " +
		"Tus-Max-Size, Tus-Checksum-Algorithm, Upload-Offset, Upload-Length, Upload-Expires, Upload-Metadata, Linecard-Blob"
	corsAge = "7200"
)

// cors adds what lets pages of a configured origin use the answer; preflight says that the request only asked for that.
func (q *request) cors() (preflight bool) {
	origin := q.r.Header.Get("Origin")
	list := q.s.cfg.CORSOrigins
	if len(list) == 0 {
		return false
	}
	h := q.w.Header()
	h.Add("Vary", "Origin") // caches in front keep answers apart, also those without an origin
	any := slices.Contains(list, "*")
	if origin == "" || !any && !slices.Contains(list, origin) {
		return false
	}
	if any {
		origin = "*" // no cookies are used here, so nothing is said that the page could not have asked itself
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", corsExpose)
	if q.r.Method != http.MethodOptions || q.r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", corsAge)
	return true
}

// options answers OPTIONS: what of tus is spoken here.
func (q *request) options() error {
	h := q.w.Header()
	h.Set("Allow", q.route.allow)
	if q.route.tus {
		h.Set("Tus-Version", tusVersion)
		h.Set("Tus-Extension", tusExtensions)
		h.Set("Tus-Max-Size", strconv.FormatInt(int64(q.s.cfg.MaxUpload), 10))
		h.Set("Tus-Checksum-Algorithm", checksumNames)
	}
	q.answer(http.StatusNoContent, nil)
	return nil
}
