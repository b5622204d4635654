package media

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// uploadOf is the upload of a counting file.
func uploadOf(t *testing.T, size int) (*Upload, []byte) {
	t.Helper()
	file := counting(size)
	plan, blob := sealed(t, file)
	return &Upload{Plan: plan, File: bytes.NewReader(file)}, blob
}

func (f *fakeMedia) wantBlob(u *Upload, blob []byte) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := f.blobs[hex.EncodeToString(u.Plan.Blob[:])]; !bytes.Equal(got, blob) {
		f.t.Errorf("the server has %d bytes of %d", len(got), len(blob))
	}
}

func TestUpload(t *testing.T) {
	for _, size := range []int{0, 1, ChunkSize, 5*ChunkSize + 1} {
		f := newFakeMedia(t)
		u, blob := uploadOf(t, size)
		var saved []string
		var last int64
		u.Save = func(url string) error { saved = append(saved, url); return nil }
		u.Progress = func(done, total int64) {
			last = done
			if total != int64(len(blob)) || done > total {
				t.Errorf("progress %d of %d", done, total)
			}
		}
		if err := f.transport().Upload(context.Background(), u, f.grants); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		f.wantBlob(u, blob)
		if len(saved) != 1 || saved[0] != u.URL || strings.Contains(u.URL, "secret") || last != int64(len(blob)) || f.granted != 1 {
			t.Errorf("%d bytes: saved %q, progress up to %d, %d grants", size, saved, last, f.granted)
		}
	}
}

// TestUploadGoesOn: what a broken connection, a lost answer or a new process interrupts goes on where the server is.
func TestUploadGoesOn(t *testing.T) {
	f := newFakeMedia(t)
	u, blob := uploadOf(t, 4*ChunkSize+99)
	f.cutUp = []int64{70_000, 1, 100_000}
	f.loseFinal = true
	if err := f.transport().Upload(context.Background(), u, f.grants); err != nil {
		t.Fatal(err)
	}
	f.wantBlob(u, blob)
	if got := strings.Join(f.log(), ", "); got != "POST, PATCH 0, HEAD, PATCH 70000, HEAD, PATCH 70001, HEAD, PATCH 170001, HEAD" || f.made != 1 {
		t.Error(got)
	}
	// The process that knows the URL of the finished one learns that it is.
	next := &Upload{Plan: u.Plan, File: u.File, URL: u.URL}
	if err := f.transport().Upload(context.Background(), next, f.grants); err != nil || f.made != 1 {
		t.Errorf("%v, %d made", err, f.made)
	}
}

// TestUploadAfterRefusals: what passes is waited for, what a fresh grant cures gets one.
func TestUploadAfterRefusals(t *testing.T) {
	f := newFakeMedia(t)
	u, blob := uploadOf(t, 100_000)
	for _, r := range []struct {
		status         int
		reason, method string
	}{
		{http.StatusServiceUnavailable, "starting", http.MethodPost}, {http.StatusTooManyRequests, "busy", http.MethodPost},
		{http.StatusUnauthorized, "grant_expired", http.MethodPatch}, {http.StatusLocked, "locked", http.MethodPatch},
		{http.StatusConflict, "wrong_offset", http.MethodPatch}, {http.StatusBadRequest, "interrupted", http.MethodPatch}, {http.StatusForbidden, "", http.MethodHead},
	} {
		f.once(r.status, r.reason, r.method)
	}
	if err := f.transport().Upload(context.Background(), u, f.grants); err != nil {
		t.Fatalf("%v after %q", err, f.log())
	}
	f.wantBlob(u, blob)
	if f.granted != 3 || f.made != 1 || len(f.refuse) != 0 {
		t.Errorf("%d grants, %d uploads, %d refusals left", f.granted, f.made, len(f.refuse))
	}
}

func TestUploadStartsAnew(t *testing.T) {
	f := newFakeMedia(t)
	u, blob := uploadOf(t, 100_000)
	u.URL = f.srv.URL + "/v1/uploads/expired"
	if err := f.transport().Upload(context.Background(), u, f.grants); err != nil || f.made != 1 {
		t.Fatalf("%v, %d made", err, f.made)
	}
	f.wantBlob(u, blob)
	f.uploads["longer"] = &fakeUpload{length: 1 << 20}
	u.URL = f.srv.URL + "/v1/uploads/longer"
	if err := f.transport().Upload(context.Background(), u, f.grants); err != nil || f.made != 2 {
		t.Errorf("upload of another length: %v, %d made", err, f.made)
	}
	u.URL = "http://elsewhere.example/v1/uploads/u1"
	if err := f.transport().Upload(context.Background(), u, f.grants); err != nil || f.made != 3 {
		t.Errorf("at another server: %v, %d made", err, f.made)
	}
	f.uploads["altered"] = &fakeUpload{length: int64(len(blob)), data: flip(blob, 50_000)[:60_000]}
	u.URL = f.srv.URL + "/v1/uploads/altered"
	if err := f.transport().Upload(context.Background(), u, f.grants); err != nil || f.made != 4 || f.uploads["altered"] != nil {
		t.Errorf("other bytes at the server: %v, %d made", err, f.made)
	}
}

func TestUploadGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		order func(*fakeMedia, *Upload, *Transport)
		want  func(error) bool
		left  int // grants asked for
	}{
		"too large": {func(f *fakeMedia, _ *Upload, _ *Transport) { f.once(413, "too_large", http.MethodPost) }, reason("too_large"), 1},
		"quota":     {func(f *fakeMedia, _ *Upload, _ *Transport) { f.once(507, "quota", http.MethodPost) }, reason("quota"), 1},
		"grants that are never good": {func(f *fakeMedia, _ *Upload, _ *Transport) {
			for range 10 {
				f.once(401, "grant_bad", http.MethodPost)
			}
		}, reason("grant_bad"), maxGrants + 1},
		"a file that changes": {func(_ *fakeMedia, u *Upload, _ *Transport) {
			u.File = bytes.NewReader(flip(counting(int(u.Plan.Size)), 80_000))
		}, is(ErrChanged), 1},
		"a file that cannot be read": {func(_ *fakeMedia, u *Upload, _ *Transport) {
			f, _ := os.Open(os.DevNull)
			f.Close()
			u.File = f
		}, is(os.ErrClosed), 1},
		"a store that fails": {func(_ *fakeMedia, u *Upload, _ *Transport) { u.Save = func(string) error { return os.ErrPermission } }, is(os.ErrPermission), 1},
		"a server elsewhere": {func(f *fakeMedia, _ *Upload, _ *Transport) {
			f.refuse = append(f.refuse, func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Location", "https://elsewhere.example/v1/uploads/1")
				w.WriteHeader(http.StatusCreated)
				return true
			})
		}, is(ErrAnswer), 1},
		"a redirection": {func(f *fakeMedia, _ *Upload, _ *Transport) {
			f.refuse = append(f.refuse, func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
				return true
			})
		}, func(err error) bool { var e *StatusError; return errors.As(err, &e) && e.Status == 307 }, 1},
		"nobody there": {func(f *fakeMedia, _ *Upload, tr *Transport) {
			f.srv.Close()
			tr.Patience = 20 * time.Millisecond
		}, is(ErrGivenUp), 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeMedia(t)
			u, _ := uploadOf(t, 100_000)
			tr := f.transport()
			c.order(f, u, tr)
			err := tr.Upload(context.Background(), u, f.grants)
			if err == nil || !c.want(err) || f.granted != c.left {
				t.Errorf("%v, %d grants", err, f.granted)
			}
			if len(f.blobs) > 0 {
				t.Error("the server has a blob")
			}
		})
	}
}

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

func reason(want string) func(error) bool {
	return func(err error) bool {
		var e *StatusError
		return errors.As(err, &e) && e.Reason == want && strings.Contains(err.Error(), "the test says so")
	}
}

// TestUploadStalls: a server that takes a request and says nothing is left alone, and asked again.
func TestUploadStalls(t *testing.T) {
	f := newFakeMedia(t)
	u, blob := uploadOf(t, 100_000)
	release := make(chan struct{})
	defer close(release)
	silent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch && f.made == 1 {
			f.mu.Lock()
			f.made++
			f.mu.Unlock()
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		f.serve(w, r)
	})
	f.srv.Config.Handler = silent
	tr := f.transport()
	tr.Stall = 50 * time.Millisecond
	if err := tr.Upload(context.Background(), u, f.grants); err != nil {
		t.Fatal(err)
	}
	f.wantBlob(u, blob)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tr.Upload(ctx, u, f.grants); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestForget(t *testing.T) {
	f := newFakeMedia(t)
	f.uploads["u"] = &fakeUpload{length: 10}
	tr := f.transport()
	if err := tr.Forget(context.Background(), "https://elsewhere.example/v1/uploads/u", f.grants); err != nil || len(f.log()) != 0 {
		t.Errorf("%v, %q", err, f.log())
	}
	if err := tr.Forget(context.Background(), f.srv.URL+"/v1/uploads/u", f.grants); err != nil || len(f.uploads) != 0 {
		t.Errorf("%v, %d uploads left", err, len(f.uploads))
	}
}
