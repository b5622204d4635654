package mediad

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"linecard.example/internal/wire"
)

func TestPutAndGet(t *testing.T) {
	s := newSite(t)
	data := bytesOf(2, 1<<20+3)
	h := s.put(data)
	if h != blobHash(sha256.Sum256(data)) {
		t.Fatal("another name")
	}
	path := blobsPath + "/" + h.String()
	a := s.do("GET", path, s.downloadGrant(h), nil, nil)
	s.wantStatus(a, http.StatusOK)
	if a.body != string(data) {
		t.Fatal("another body")
	}
	for name, want := range map[string]string{
		"ETag": `"` + h.String() + `"`, "Cache-Control": "public, max-age=31536000, immutable", "Content-Type": "application/octet-stream",
		"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment", "Accept-Ranges": "bytes", "Content-Length": fmt.Sprint(len(data)),
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	a = s.do("HEAD", path, s.downloadGrant(h), nil, nil)
	if s.wantStatus(a, http.StatusOK); a.ContentLength != int64(len(data)) {
		t.Errorf("HEAD: %d bytes", a.ContentLength)
	}
	a = s.do("GET", path+"?grant="+s.downloadGrant(h), "", nil, nil)
	if s.wantStatus(a, http.StatusOK); a.body != string(data) {
		t.Error("another body by a URL alone")
	}
	s.wantStatus(s.do("PUT", path, s.uploadGrant(1<<30), nil, data), http.StatusCreated) // again, by its name
	s.wantStatus(s.do("PUT", blobsPath, s.uploadGrant(1<<30), nil, io.MultiReader(strings.NewReader("of "), strings.NewReader("no length"))), http.StatusCreated)
	s.wantStatus(s.do("PUT", blobsPath, s.uploadGrant(1), nil, nil), http.StatusCreated) // nothing is a blob as well
	s.idle()
}

func TestRanges(t *testing.T) {
	s := newSite(t)
	data := bytesOf(3, 300000)
	h := s.put(data)
	etag := `"` + h.String() + `"`
	for _, c := range []struct {
		name   string
		h      head
		status int
		from   int
		to     int
	}{
		{"first bytes", head{"Range", "bytes=0-99"}, 206, 0, 100},
		{"the middle", head{"Range", "bytes=1000-200999"}, 206, 1000, 201000},
		{"to the end", head{"Range", "bytes=299990-"}, 206, 299990, 300000},
		{"last bytes", head{"Range", "bytes=-7"}, 206, 299993, 300000},
		{"beyond the end", head{"Range", "bytes=299999-400000"}, 206, 299999, 300000},
		{"several: the whole", head{"Range", "bytes=0-1,5-6"}, 200, 0, 300000},
		{"if it is still the same", head{"Range", "bytes=5-9", "If-Range", etag}, 206, 5, 10},
		{"if it were another", head{"Range", "bytes=5-9", "If-Range", `"x"`}, 200, 0, 300000},
		{"the client has it", head{"If-None-Match", etag}, 304, 0, 0},
		{"the client has another", head{"If-None-Match", `"x"`}, 200, 0, 300000},
		{"it must be this", head{"If-Match", etag}, 200, 0, 300000},
	} {
		a := s.do("GET", blobsPath+"/"+h.String(), s.downloadGrant(h), c.h, nil)
		if a.StatusCode != c.status || a.body != string(data[c.from:c.to]) {
			t.Errorf("%s: %d and %d bytes, want %d and bytes %d to %d", c.name, a.StatusCode, len(a.body), c.status, c.from, c.to)
		}
		if want := fmt.Sprintf("bytes %d-%d/300000", c.from, c.to-1); c.status == 206 && a.Header.Get("Content-Range") != want {
			t.Errorf("%s: Content-Range %q, want %q", c.name, a.Header.Get("Content-Range"), want)
		}
	}
	a := s.do("GET", blobsPath+"/"+h.String(), s.downloadGrant(h), head{"Range", "bytes=300000-"}, nil)
	if s.want(a, RangeUnsatisfiable); a.Header.Get("Content-Range") != "bytes */300000" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("416: %v", a.Header)
	}
	s.want(s.do("GET", blobsPath+"/"+h.String(), s.downloadGrant(h), head{"If-Match", `"x"`}, nil), Precondition)
	s.idle()
}

func TestDelete(t *testing.T) {
	s := newSite(t)
	h := s.put([]byte("to be forgotten"))
	path := blobsPath + "/" + h.String()
	deletion := func(g wire.Grant) string { g.Method = wire.GrantDelete; return s.grant(g) }
	s.want(s.do("DELETE", path, deletion(wire.Grant{Blob: h, Account: bob}), nil, nil), NotFound) // he has no reference
	s.want(s.do("DELETE", path, deletion(wire.Grant{Blob: blobHash{1}}), nil, nil), GrantBlob)
	s.wantStatus(s.do("GET", path, s.downloadGrant(h), nil, nil), http.StatusOK)
	s.wantStatus(s.do("DELETE", path, deletion(wire.Grant{Blob: h}), nil, nil), http.StatusNoContent)
	s.want(s.do("GET", path, s.downloadGrant(h), nil, nil), NotFound)
	s.want(s.do("DELETE", path, deletion(wire.Grant{Blob: h}), nil, nil), NotFound)
}
