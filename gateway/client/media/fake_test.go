package media

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeMedia is a mediad in memory, with faults that a test orders. Its uploads take what arrives before a request breaks.
type fakeMedia struct {
	t   *testing.T
	srv *httptest.Server

	mu       sync.Mutex
	uploads  map[string]*fakeUpload
	blobs    map[string][]byte
	made     int
	granted  int
	requests []string // method and path, with the range or offset
	// faults, each for one request unless it says otherwise
	refuse    []func(http.ResponseWriter, *http.Request) bool // the first that returns true has answered; it is removed
	cutUp     []int64                                         // PATCH takes so many bytes, then the connection breaks
	cutDown   []int64                                         // GET likewise
	loseFinal bool                                            // the answer to the last PATCH
	alter     func(blob []byte) []byte                        // what GET sends
}

type fakeUpload struct {
	length int64
	data   []byte
}

func newFakeMedia(t *testing.T) *fakeMedia {
	f := &fakeMedia{t: t, uploads: map[string]*fakeUpload{}, blobs: map[string][]byte{}}
	f.srv = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.srv.Close)
	return f
}

// transport is one that does not dawdle.
func (f *fakeMedia) transport() *Transport {
	return &Transport{unit: time.Millisecond, HTTP: f.client()}
}

func (f *fakeMedia) client() *http.Client {
	tr := &http.Transport{}
	f.t.Cleanup(tr.CloseIdleConnections)
	return NewHTTPClient(tr)
}

func (f *fakeMedia) grants(context.Context) (*Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.granted++
	return &Grant{URL: f.srv.URL, Text: fmt.Sprintf("grant-%d", f.granted)}, nil
}

// once orders an answer to the next request.
func (f *fakeMedia) once(status int, reason string, method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = append(f.refuse, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method {
			return false
		}
		deny(w, status, reason)
		return true
	})
}

func deny(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":%q,"message":"the test says so"}`, reason)
}

func (f *fakeMedia) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requests...)
}

func (f *fakeMedia) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, strings.TrimSpace(r.Method+" "+r.Header.Get("Upload-Offset")+r.Header.Get("Range")))
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer grant-") {
		deny(w, http.StatusUnauthorized, "grant_missing")
		return
	}
	for i, no := range f.refuse {
		if no(w, r) {
			f.refuse = append(f.refuse[:i], f.refuse[i+1:]...)
			return
		}
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/v1/blobs/"); ok {
		f.get(w, r, name)
		return
	}
	if r.Header.Get("Tus-Resumable") != tusVersion {
		f.t.Errorf("%s without Tus-Resumable", r.Method)
	}
	if r.URL.Path == "/v1/uploads" && r.Method == http.MethodPost {
		f.post(w, r)
		return
	}
	id, _ := strings.CutPrefix(r.URL.Path, "/v1/uploads/")
	up := f.uploads[id]
	switch {
	case up == nil:
		deny(w, http.StatusNotFound, "no_upload")
	case r.Method == http.MethodHead:
		w.Header().Set("Upload-Length", strconv.FormatInt(up.length, 10))
		up.tell(w)
	case r.Method == http.MethodPatch:
		f.patch(w, r, up)
	case r.Method == http.MethodDelete:
		delete(f.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (f *fakeMedia) post(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.Header.Get("Upload-Length"), 10, 64)
	if err != nil {
		f.t.Error(err)
	}
	f.made++
	id := fmt.Sprintf("u%d", f.made)
	f.uploads[id] = &fakeUpload{length: n}
	w.Header().Set("Location", "/v1/uploads/"+id+"?grant=secret")
	w.WriteHeader(http.StatusCreated)
}

// tell writes the headers of where the upload is.
func (u *fakeUpload) tell(w http.ResponseWriter) {
	w.Header().Set("Upload-Offset", strconv.Itoa(len(u.data)))
	if int64(len(u.data)) == u.length {
		sum := sha256.Sum256(u.data)
		w.Header().Set(blobHeader, hex.EncodeToString(sum[:]))
	}
}

func (f *fakeMedia) patch(w http.ResponseWriter, r *http.Request, up *fakeUpload) {
	if r.Header.Get("Upload-Offset") != strconv.Itoa(len(up.data)) {
		deny(w, http.StatusConflict, "wrong_offset")
		return
	}
	from := io.Reader(r.Body)
	cut := false
	if len(f.cutUp) > 0 {
		from, cut = io.LimitReader(from, f.cutUp[0]), true
		f.cutUp = f.cutUp[1:]
	}
	more, err := io.ReadAll(from)
	up.data = append(up.data, more...)
	if cut || err != nil {
		panic(http.ErrAbortHandler)
	}
	if int64(len(up.data)) == up.length {
		sum := sha256.Sum256(up.data)
		f.blobs[hex.EncodeToString(sum[:])] = up.data
		if f.loseFinal {
			f.loseFinal = false
			panic(http.ErrAbortHandler)
		}
	}
	up.tell(w)
	w.WriteHeader(http.StatusNoContent)
}

func (f *fakeMedia) get(w http.ResponseWriter, r *http.Request, name string) {
	blob, ok := f.blobs[name]
	if !ok {
		deny(w, http.StatusNotFound, "no_blob")
		return
	}
	if f.alter != nil {
		blob = f.alter(blob)
	}
	if len(f.cutDown) > 0 {
		w = &cutWriter{w, f.cutDown[0]}
		f.cutDown = f.cutDown[1:]
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(blob)))
}

// cutWriter breaks the connection behind so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if int64(len(p)) >= c.left {
		c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= int64(len(p))
	return c.ResponseWriter.Write(p)
}

// put stores the blob of a file and returns the pointer to it.
func (f *fakeMedia) put(file []byte) *Pointer {
	plan, blob := sealed(f.t, file)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[hex.EncodeToString(plan.Blob[:])] = blob
	return &Pointer{Blob: plan.Blob, Key: plan.Key, Size: plan.Size}
}
