package mediad

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const patchType = "application/offset+octet-stream"

// begin creates an upload and returns its path.
func (s *site) begin(length int, more ...string) string {
	s.t.Helper()
	a := s.do("POST", uploadsPath, s.uploadGrant(1<<30), tus(append(more, "Upload-Length", fmt.Sprint(length))...), nil)
	s.wantStatus(a, http.StatusCreated)
	return a.Header.Get("Location")
}

// push sends bytes for an upload.
func (s *site) push(path string, offset int, body any, more ...string) answer {
	s.t.Helper()
	return s.do("PATCH", path, s.uploadGrant(1<<30), tus(append(more, "Upload-Offset", fmt.Sprint(offset), "Content-Type", patchType)...), body)
}

// offsetOf asks how far an upload is.
func (s *site) offsetOf(path string) string {
	s.t.Helper()
	a := s.do("HEAD", path, s.uploadGrant(1), tus(), nil)
	s.wantStatus(a, http.StatusOK)
	if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Tus-Resumable") != tusVersion {
		s.t.Fatalf("HEAD: %v", a.Header)
	}
	return a.Header.Get("Upload-Offset")
}

func TestTusUpload(t *testing.T) {
	s := newSite(t)
	data := bytesOf(1, 3<<20+17)
	hash := blobHash(sha256.Sum256(data))
	const meta = "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential"
	path := s.begin(len(data), "Upload-Metadata", meta)
	if got := s.offsetOf(path); got != "0" {
		t.Fatalf("offset %s", got)
	}
	half := len(data) / 2
	a := s.push(path, 0, data[:half])
	s.wantStatus(a, http.StatusNoContent)
	if a.Header.Get("Upload-Offset") != fmt.Sprint(half) || a.Header.Get("Linecard-Blob") != "" {
		t.Fatalf("PATCH: %v", a.Header)
	}
	expires, err := http.ParseTime(a.Header.Get("Upload-Expires"))
	if mustDo(t, err); !expires.Equal(s.clock.Now().Add(s.cfg.UploadLife.D()).Truncate(time.Second)) {
		t.Fatalf("expires %v", expires)
	}
	a = s.do("HEAD", path, s.uploadGrant(1), tus(), nil)
	if h := a.Header; h.Get("Upload-Length") != fmt.Sprint(len(data)) || h.Get("Upload-Offset") != fmt.Sprint(half) || h.Get("Upload-Metadata") != meta {
		t.Fatalf("HEAD: %v", h)
	}
	a = s.push(path, half, data[half:])
	s.wantStatus(a, http.StatusNoContent)
	if got := a.Header.Get("Linecard-Blob"); got != hash.String() {
		t.Fatalf("blob %q, want %v", got, hash)
	}
	a = s.do("HEAD", path, s.uploadGrant(1), tus(), nil) // who lost the last answer learns it
	if a.Header.Get("Linecard-Blob") != hash.String() || a.Header.Get("Upload-Offset") != fmt.Sprint(len(data)) {
		t.Fatalf("HEAD of a finished upload: %v", a.Header)
	}
	a = s.push(path, len(data), nil) // and so does who sends nothing once more
	s.wantStatus(a, http.StatusNoContent)
	s.want(s.push(path, len(data), "x"), Finished)
	a = s.do("GET", blobsPath+"/"+hash.String(), s.downloadGrant(hash), nil, nil)
	if s.wantStatus(a, http.StatusOK); a.body != string(data) {
		t.Fatal("the blob is not what was uploaded")
	}
	s.idle()
}

// TestTusPresigned uploads with a URL and nothing else: each Location carries the grant on.
func TestTusPresigned(t *testing.T) {
	s := newSite(t)
	signed := "?grant=" + url.QueryEscape(s.uploadGrant(100))
	a := s.do("POST", uploadsPath+"/"+signed, "", tus("Upload-Length", "5"), nil)
	s.wantStatus(a, http.StatusCreated)
	at := a.Header.Get("Location")
	if !strings.HasSuffix(at, signed) {
		t.Fatalf("Location %q", at)
	}
	s.wantStatus(s.do("HEAD", at, "", tus(), nil), http.StatusOK)
	a = s.do("POST", at, "", tus("X-HTTP-Method-Override", "PATCH", "Upload-Offset", "0", "Content-Type", patchType), "hello")
	s.wantStatus(a, http.StatusNoContent)
	if a.Header.Get("Linecard-Blob") != blobHash(sha256.Sum256([]byte("hello"))).String() {
		t.Fatalf("%v", a.Header)
	}
	s.want(s.do("HEAD", at, s.downloadGrant(blobHash{1}), tus(), nil), GrantMethod) // a header wins over the query
}

func TestTusCreationWithUpload(t *testing.T) {
	s := newSite(t)
	a := s.do("POST", uploadsPath, s.uploadGrant(100), tus("Upload-Length", "11", "Content-Type", patchType), "hello ")
	s.wantStatus(a, http.StatusCreated)
	if a.Header.Get("Upload-Offset") != "6" {
		t.Fatalf("%v", a.Header)
	}
	a = s.push(a.Header.Get("Location"), 6, "world")
	s.wantStatus(a, http.StatusNoContent)
	want := blobHash(sha256.Sum256([]byte("hello world"))).String()
	if a.Header.Get("Linecard-Blob") != want {
		t.Fatalf("%v", a.Header)
	}
	a = s.do("POST", uploadsPath, s.uploadGrant(100), tus("Upload-Length", "11", "Content-Type", patchType), "hello world")
	s.wantStatus(a, http.StatusCreated)
	if a.Header.Get("Linecard-Blob") != want || a.Header.Get("Upload-Offset") != "11" {
		t.Fatalf("whole in one request: %v", a.Header)
	}
	a = s.do("POST", uploadsPath, s.uploadGrant(100), tus("Upload-Length", "0"), nil)
	s.wantStatus(a, http.StatusCreated)
	if a.Header.Get("Linecard-Blob") != blobHash(sha256.Sum256(nil)).String() {
		t.Fatalf("an empty upload: %v", a.Header)
	}
	for _, c := range []struct {
		name string
		h    head
		body string
		want Reason
	}{
		{"longer than announced", tus("Upload-Length", "3", "Content-Type", patchType), "four", TooLarge},
		{"of another type", tus("Upload-Length", "3", "Content-Type", "text/plain"), "two", WrongType},
		{"a wrong checksum", tus("Upload-Length", "3", "Content-Type", patchType, "Upload-Checksum", sha1Of("owt")), "two", ChecksumMismatch},
	} {
		a := s.do("POST", uploadsPath, s.uploadGrant(100), c.h, c.body)
		if s.want(a, c.want); a.Header.Get("Location") != "" {
			t.Errorf("%s: a name was given", c.name)
		}
	}
	if open, complete, _ := s.depot.uploads.count(); open+complete != 0 {
		t.Errorf("%d uploads that nobody knows of are left", open+complete)
	}
}

func sha1Of(s string) string {
	sum := sha1.Sum([]byte(s))
	return "sha1 " + base64.StdEncoding.EncodeToString(sum[:])
}

func TestTusChecksum(t *testing.T) {
	s := newSite(t)
	path := s.begin(10)
	s.wantStatus(s.push(path, 0, "01234", "Upload-Checksum", sha1Of("01234")), http.StatusNoContent)
	s.want(s.push(path, 5, "56x", "Upload-Checksum", sha1Of("567")), ChecksumMismatch)
	s.want(s.push(path, 5, "56x", "Upload-Checksum", "crc32 AAAAAA=="), ChecksumAlgorithm)
	s.want(s.push(path, 5, "56x", "Upload-Checksum", "sha1 AAAA"), BadRequest)
	s.want(s.push(path, 5, "56x", "Upload-Checksum", "sha1 !"), BadRequest)
	if got := s.offsetOf(path); got != "5" {
		t.Fatalf("offset %s after checksums that did not fit", got)
	}
	sum := sha256.Sum256([]byte("56789"))
	a := s.push(path, 5, "56789", "Upload-Checksum", "sha256 "+base64.StdEncoding.EncodeToString(sum[:]))
	s.wantStatus(a, http.StatusNoContent)
	if a.Header.Get("Linecard-Blob") != blobHash(sha256.Sum256([]byte("0123456789"))).String() {
		t.Fatalf("%v", a.Header)
	}
	s.idle()
}

func TestTusTermination(t *testing.T) {
	s := newSite(t)
	path := s.begin(10)
	s.wantStatus(s.push(path, 0, "01234"), http.StatusNoContent)
	s.wantStatus(s.do("DELETE", path, s.uploadGrant(1), tus(), nil), http.StatusNoContent)
	s.want(s.do("HEAD", path, s.uploadGrant(1), tus(), nil), NotFound)
	s.want(s.push(path, 5, "56789"), NotFound)
	s.want(s.do("DELETE", path, s.uploadGrant(1), tus(), nil), NotFound)
}

func TestTusExpiration(t *testing.T) {
	s := newSite(t)
	path := s.begin(10)
	s.clock.turn(s.cfg.UploadLife.D() - time.Second)
	s.wantStatus(s.push(path, 0, "01234"), http.StatusNoContent) // progress makes it last
	s.clock.turn(s.cfg.UploadLife.D() - time.Second)
	if got := s.offsetOf(path); got != "5" {
		t.Fatalf("offset %s", got)
	}
	s.clock.turn(2 * time.Second)
	s.want(s.push(path, 5, "56789"), NotFound)
}

func TestTusOptions(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{uploadsPath, uploadsPath + "/", uploadsPath + "/" + strings.Repeat("0", idSize)} {
		a := s.do("OPTIONS", path, "", nil, nil) // without Tus-Resumable, without a grant
		s.wantStatus(a, http.StatusNoContent)
		for name, want := range map[string]string{
			"Tus-Resumable": "1.0.0", "Tus-Version": "1.0.0", "Tus-Max-Size": fmt.Sprint(int64(s.cfg.MaxUpload)),
			"Tus-Extension": "creation,creation-with-upload,expiration,checksum,termination", "Tus-Checksum-Algorithm": "sha1,sha256,md5",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s %q, want %q", path, name, got, want)
			}
		}
	}
	a := s.do("POST", uploadsPath, s.uploadGrant(1), head{"Upload-Length", "1", "Tus-Resumable", "0.2.2"}, nil)
	if s.want(a, TusVersion); a.Header.Get("Tus-Version") != "1.0.0" {
		t.Errorf("%v", a.Header)
	}
	s.want(s.do("POST", uploadsPath, s.uploadGrant(1), head{"Upload-Length", "1"}, nil), TusVersion)
}
