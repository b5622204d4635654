package mediad

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"linecard.example/internal/wire"
)

// request is one HTTP request from its beginning to its end. It belongs to the goroutine that serves it, but for cut.
type request struct {
	s  *Server
	w  http.ResponseWriter
	r  *http.Request
	rc *http.ResponseController

	op     op
	route  route
	body   io.Reader // as it comes, without limits
	id     string    // of the upload in the path
	hash   blobHash  // of the blob in the path
	named  bool      // there is one
	grant  wire.Grant
	signed string // the grant as the query has it; "" when it came in the header
	taken  bool   // it is counted for its account
	broken bool   // its body ended, or was ended, before its end
	begun  bool   // a blob's bytes are being answered: what goes wrong from then on ends the connection

	mu    sync.Mutex
	over  bool   // served: the connection may be another request's
	cutBy Reason // why its body ends early
}

// route is what a path can do.
type route struct {
	allow   string
	tus     bool
	methods map[string]handler
}

type handler struct {
	op    op
	serve func(*request) error
}

var (
	uploadsRoute = route{"OPTIONS, POST", true, map[string]handler{"POST": {opCreate, (*request).create}}}
	uploadRoute  = route{"OPTIONS, HEAD, PATCH, DELETE", true, map[string]handler{
		"HEAD": {opOffset, (*request).offset}, "PATCH": {opPatch, (*request).patch}, "DELETE": {opTerminate, (*request).terminate},
	}}
	blobsRoute = route{"OPTIONS, PUT", false, map[string]handler{"PUT": {opPut, (*request).put}}}
	blobRoute  = route{"OPTIONS, GET, HEAD, PUT, DELETE", false, map[string]handler{
		"GET": {opGet, (*request).get}, "HEAD": {opStat, (*request).get}, "PUT": {opPut, (*request).put}, "DELETE": {opDelete, (*request).end},
	}}
)

const (
	uploadsPath = "/v1/uploads"
	blobsPath   = "/v1/blobs"
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{s: s, w: w, r: r, body: r.Body, rc: http.NewResponseController(w)}
	if !s.tally.enter() {
		q.finish(fail(Busy))
		return
	}
	s.count.active.Inc()
	defer func() {
		q.close()
		s.count.active.Dec()
		s.tally.leave()
	}()
	q.finish(q.serve())
}

// serve finds out what is asked, and does it.
func (q *request) serve() error {
	q.armWrite()
	if err := q.find(); err != nil {
		return err
	}
	method := q.r.Method
	if method == http.MethodPost && q.route.tus {
		if other := q.r.Header.Get("X-HTTP-Method-Override"); other != "" {
			method = other
		}
	}
	if q.route.tus {
		q.w.Header().Set("Tus-Resumable", tusVersion)
	}
	if q.cors() {
		q.op = opOptions
		q.answer(http.StatusNoContent, nil)
		return nil
	}
	if method == http.MethodOptions {
		q.op = opOptions
		return q.options()
	}
	h, ok := q.route.methods[method]
	if !ok {
		return fail(MethodNotAllowed)
	}
	q.op = h.op
	switch {
	case q.s.draining.Load():
		return fail(Draining)
	case q.route.tus && q.r.Header.Get("Tus-Resumable") != tusVersion:
		return fail(TusVersion)
	}
	return h.serve(q)
}

// find reads the path as it came, undecoded: there is one way to write each name, and none to leave the folder of names.
func (q *request) find() error {
	path := q.r.URL.EscapedPath()
	if rest, ok := strings.CutPrefix(path, uploadsPath); ok {
		id, below := strings.CutPrefix(rest, "/")
		switch {
		case rest == "" || rest == "/":
			q.route = uploadsRoute
			return nil
		case below && validID(id):
			q.route, q.id = uploadRoute, id
			return nil
		}
	}
	if rest, ok := strings.CutPrefix(path, blobsPath); ok {
		name, below := strings.CutPrefix(rest, "/")
		switch {
		case rest == "" || rest == "/":
			q.route = blobsRoute
			return nil
		case below:
			if q.hash, q.named = parseHash(name); q.named {
				q.route = blobRoute
				return nil
			}
		}
	}
	return fail(UnknownPath)
}

// idSize is the length of an upload's name: 16 random bytes in hexadecimal digits.
const idSize = 32

func validID(id string) bool {
	if len(id) != idSize {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

const (
	// linger is how long the rest of a refused body is read, so that clients that read only after they have written get the answer.
	linger = 2 * time.Second
	// lingerBytes is how much of it is waited for before the answer, to go on with the connection after it.
	lingerBytes = 64 << 10
	// drainBytes is how much of it is read after the answer, where the connection ends by it.
	drainBytes = 16 << 20
)

// finish counts the outcome, and answers it where nothing was answered yet.
func (q *request) finish(err error) {
	q.s.count.requests[q.op].Inc()
	if err == nil {
		return
	}
	reason := reasonOf(err)
	q.s.count.refused[reason].Inc()
	q.log(err)
	if q.begun {
		panic(http.ErrAbortHandler) // the client must see that the body is not whole
	}
	n := q.r.ContentLength
	ends := q.r.ProtoMajor == 1 && (n < 0 || n > lingerBytes || q.broken) // HTTP/2 would end all its streams
	_ = q.rc.SetReadDeadline(time.Now().Add(min(linger, q.s.cfg.Stall.D()/2)))
	if ends {
		q.w.Header().Set("Connection", "close")
		_ = q.rc.EnableFullDuplex()
	}
	q.refuse(reason)
	if ends && q.wasCut() == OK {
		q.drain()
	}
}

// drain reads what of the body is still on its way, for a moment, behind an answer that ends the connection. A socket that is closed with
// bytes unread resets its connection, and the client loses the answer that it has not read yet.
func (q *request) drain() {
	if q.rc.Flush() == nil {
		_, _ = io.CopyN(io.Discard, q.body, drainBytes)
	}
}

// close ends what others may do to the request, and gives back its account's place.
func (q *request) close() {
	q.mu.Lock()
	q.over = true
	q.mu.Unlock()
	if q.taken {
		q.taken = false
		q.s.tally.give(q.grant.Account)
	}
}

// cut ends the request's body, for a reason. It is for other goroutines, and does nothing to a request that is over.
func (q *request) cut(why Reason) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over || q.cutBy != OK {
		return
	}
	q.cutBy = why
	_ = q.rc.SetReadDeadline(time.Unix(1, 0)) // a Read that waits returns now, and so does each after it
}

// armRead sets when a Read that waits gives up; false when the body was cut.
func (q *request) armRead(t time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cutBy != OK {
		return false
	}
	_ = q.rc.SetReadDeadline(t)
	return true
}

// wasCut returns why the body ended early, OK when it did not.
func (q *request) wasCut() Reason {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cutBy
}

// armWrite gives what is written next the time that a stall may take. Connections are used again, so each request sets it first.
func (q *request) armWrite() { _ = q.rc.SetWriteDeadline(time.Now().Add(q.s.cfg.Stall.D())) }
