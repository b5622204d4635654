package mediad

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// raw sends bytes as they are, and returns the status and the body of the answer.
func (s *site) raw(text string) (int, string) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	mustDo(s.t, err)
	defer c.Close()
	_, err = io.WriteString(c, text)
	mustDo(s.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	mustDo(s.t, err)
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// TestPathTricks: a name is hexadecimal digits of one length, as they are. Nothing else is ever looked for.
func TestPathTricks(t *testing.T) {
	s := newSite(t)
	h := s.put([]byte("a blob"))
	grant := s.downloadGrant(h)
	hex := h.String()
	for _, path := range []string{
		"/", "/v1", "/v1/", "/v2/blobs/" + hex, "/v1/blobs/" + hex + "/", "/v1/blobs//" + hex, "//v1/blobs/" + hex, "/v1/blobs/" + hex[:63], "/v1/blobs/" + hex + "0",
		"/v1/blobs/" + strings.ToUpper(hex), "/v1/blobs/%" + fmt.Sprintf("%x", hex[0]) + hex[1:], "/v1/blobs/../blobs/" + hex, "/v1/blobs/%2e%2e%2f" + hex,
		"/v1/blobs/" + hex[:2] + "/" + hex[2:], "/v1/blobs/..%2f..%2f..%2fetc%2fpasswd", "/v1/blobs/" + hex + "%00", "/v1/blobs/" + hex + ".tmp",
		"/v1/uploads/..", "/v1/uploads/../format", "/v1/uploads/%2e%2e/format", "/v1/uploads/" + strings.Repeat("g", idSize), "/v1/uploads/" + strings.Repeat("0", idSize-1),
		"/v1/uploads/" + strings.Repeat("0", idSize) + ".state", "/v1/uploadsx", "/v1/blobsx", "/v1/uploads/" + strings.Repeat("0", idSize) + "/",
	} {
		for _, method := range []string{"GET", "HEAD", "PATCH", "DELETE"} {
			status, body := s.raw(method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTus-Resumable: 1.0.0\r\nAuthorization: Bearer " + grant + "\r\n\r\n")
			if status != http.StatusNotFound || method != "HEAD" && !strings.Contains(body, `"unknown_path"`) {
				t.Errorf("%s %s: %d %s", method, path, status, body)
			}
		}
	}
}

// TestBadRequests: what a client can do wrong with a good grant.
func TestBadRequests(t *testing.T) {
	s := newSite(t, func(c *Config) { c.MaxUpload = 2048 })
	path := s.begin(10)
	s.wantStatus(s.push(path, 0, "01234"), http.StatusNoContent)
	grant := s.uploadGrant(1000)
	patch := func(h ...string) head { return tus(append([]string{"Content-Type", patchType}, h...)...) }
	for _, c := range []struct {
		name, method, path string
		h                  head
		body               any
		want               Reason
	}{
		{"behind the offset", "PATCH", path, patch("Upload-Offset", "4"), "x", WrongOffset},
		{"before the offset", "PATCH", path, patch("Upload-Offset", "6"), "x", WrongOffset},
		{"no offset", "PATCH", path, patch(), "x", BadRequest},
		{"a negative offset", "PATCH", path, patch("Upload-Offset", "-5"), "x", BadRequest},
		{"an offset with a sign", "PATCH", path, patch("Upload-Offset", "+5"), "x", BadRequest},
		{"an offset too large for any number", "PATCH", path, patch("Upload-Offset", "99999999999999999999"), "x", BadRequest},
		{"another type", "PATCH", path, tus("Upload-Offset", "5", "Content-Type", "text/plain"), "x", WrongType},
		{"more than announced", "PATCH", path, patch("Upload-Offset", "5"), "123456", TooLarge},
		{"more than announced, in chunks", "PATCH", path, patch("Upload-Offset", "5"), io.MultiReader(strings.NewReader("123456")), TooLarge},
		{"no length", "POST", uploadsPath, tus(), nil, LengthRequired},
		{"a length that comes later", "POST", uploadsPath, tus("Upload-Defer-Length", "1"), nil, LengthRequired},
		{"a length that is none", "POST", uploadsPath, tus("Upload-Length", "ten"), nil, BadRequest},
		{"a negative length", "POST", uploadsPath, tus("Upload-Length", "-1"), nil, BadRequest},
		{"more than the grant allows", "POST", uploadsPath, tus("Upload-Length", "1001"), nil, TooLarge},
		{"metadata that are none", "POST", uploadsPath, tus("Upload-Length", "1", "Upload-Metadata", "a !"), nil, BadRequest},
		{"metadata twice", "POST", uploadsPath, tus("Upload-Length", "1", "Upload-Metadata", "a,a"), nil, BadRequest},
		{"much metadata", "POST", uploadsPath, tus("Upload-Length", "1", "Upload-Metadata", "a "+strings.Repeat("AAAA", 3000)), nil, BadRequest},
		{"a blob larger than the grant", "PUT", blobsPath, nil, strings.Repeat("x", 1001), TooLarge},
		{"the same in chunks", "PUT", blobsPath, nil, io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))), TooLarge},
		{"another blob than the path's", "PUT", blobsPath + "/" + blobHash{}.String(), nil, "x", HashMismatch},
		{"no method of this path", "GET", uploadsPath, tus(), nil, MethodNotAllowed},
		{"nor of this", "POST", blobsPath, nil, nil, MethodNotAllowed},
		{"nor of this one", "PATCH", blobsPath + "/" + blobHash{}.String(), nil, nil, MethodNotAllowed},
		{"no method at all", "BREW", uploadsPath, tus(), nil, MethodNotAllowed},
		{"a method in disguise", "POST", path, tus("X-HTTP-Method-Override", "BREW"), nil, MethodNotAllowed},
	} {
		a := s.do(c.method, c.path, grant, c.h, c.body)
		if a.StatusCode != c.want.Status() || a.reason() != c.want.String() {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.StatusCode, a.body, c.want.Status(), c.want)
		}
	}
	s.want(s.do("POST", uploadsPath, s.uploadGrant(1<<20), tus("Upload-Length", "2049"), nil), TooLarge) // above the server's own limit
	if got := s.offsetOf(path); got != "5" && got != "10" {
		t.Errorf("offset %s", got)
	}
	s.nothingStaged(1)
	if open := len(glob(t, s.dir, "blobs/*/*/*")); open != 0 {
		t.Errorf("%d blobs came of it", open)
	}
	s.idle()
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	mustDo(t, err)
	return list
}

// nothingStaged checks that no bytes are in the folder of uploads but those of n that can be resumed.
func (s *site) nothingStaged(n int) {
	s.t.Helper()
	list, err := os.ReadDir(filepath.Join(s.dir, "uploads"))
	mustDo(s.t, err)
	data := 0
	for _, e := range list {
		if strings.HasSuffix(e.Name(), putSuffix) {
			s.t.Errorf("%s is left", e.Name())
		}
		if strings.HasSuffix(e.Name(), dataSuffix) {
			data++
		}
	}
	if data != n {
		s.t.Errorf("%d uploads are on the disk, want %d", data, n)
	}
}

// TestSameThingTwice: clients that upload the same blob at once get the same name, and it is kept once, for each of them.
func TestSameThingTwice(t *testing.T) {
	s := newSite(t)
	data := bytesOf(5, 700000)
	want := blobHash(sha256.Sum256(data))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			g := s.grant(wire.Grant{Method: wire.GrantUpload, Limit: 1 << 20, Account: []stanza.Account{alice, bob}[i%2]})
			a := s.do("PUT", blobsPath, g, nil, data)
			if a.StatusCode != http.StatusCreated || !strings.Contains(a.body, want.String()) {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		})
	}
	all.Wait()
	if n := len(glob(t, s.dir, "blobs/*/*/*")); n != 1 {
		t.Errorf("%d blobs", n)
	}
	if n := len(glob(t, s.dir, "refs/*/*/*")); n != 2 {
		t.Errorf("%d references", n)
	}
	for _, a := range []wire.Grant{{Account: alice}, {Account: bob}} {
		a.Method, a.Blob = wire.GrantDelete, want
		s.wantStatus(s.do("GET", blobsPath+"/"+want.String(), s.downloadGrant(want), nil, nil), http.StatusOK)
		s.wantStatus(s.do("DELETE", blobsPath+"/"+want.String(), s.grant(a), nil, nil), http.StatusNoContent)
	}
	s.want(s.do("GET", blobsPath+"/"+want.String(), s.downloadGrant(want), nil, nil), NotFound)
	s.nothingStaged(0)
}

// TestCutBody: a body that ends early leaves its bytes to an upload that can be resumed, and nothing of a PUT.
func TestCutBody(t *testing.T) {
	s := newSite(t)
	path := s.begin(100)
	for _, start := range []string{
		"PATCH " + path + " HTTP/1.1\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: " + patchType + "\r\n",
		"PUT /v1/blobs HTTP/1.1\r\n",
	} {
		c, err := net.Dial("tcp", s.Addr().String())
		mustDo(t, err)
		fmt.Fprintf(c, "%sHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n0123456789", start, s.uploadGrant(1000))
		c.Close()
	}
	s.until(func() bool { return s.offsetOf(path) == "10" })
	s.idle()
	s.nothingStaged(1)
	s.until(func() bool { return s.refused(Interrupted) == 2 })
}

// TestLargeBodyHearsWhy: a client that writes all of a body before it reads still gets the answer that refuses it. The body is larger than what
// the sockets hold.
func TestLargeBodyHearsWhy(t *testing.T) {
	s := newSite(t)
	const size = 12 << 20
	for name, head := range map[string]string{
		"announced": fmt.Sprintf("Content-Length: %d\r\n\r\n", size),
		"in chunks": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size),
	} {
		c := s.dial()
		text := fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s", blobsPath, s.uploadGrant(5<<20), head)
		if _, err := c.Write([]byte(text + strings.Repeat("x", size))); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s.want(s.answerOn(c), TooLarge)
	}
	s.idle()
}
