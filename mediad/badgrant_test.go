package mediad

import (
	"net/http"
	"strings"
	"testing"

	"linecard.example/internal/wire"
)

// known and unknown are what an attacker would like to tell apart: names of what is there, and of what is not.
type names struct{ upload, noUpload, blob, noBlob string }

func (s *site) names() (n names, h blobHash) {
	h = s.put([]byte("there is a blob"))
	n.blob, n.noBlob = blobsPath+"/"+h.String(), blobsPath+"/"+strings.Repeat("ab", 32)
	n.upload, n.noUpload = s.begin(10), uploadsPath+"/"+strings.Repeat("ab", idSize/2)
	return n, h
}

// everything is each method of each path that exists, with its tus header.
func (n names) everything(f func(method, path string, h head)) {
	for _, path := range []string{n.upload, n.noUpload} {
		f("HEAD", path, tus())
		f("PATCH", path, tus("Upload-Offset", "0", "Content-Type", patchType))
		f("DELETE", path, tus())
	}
	f("POST", uploadsPath, tus("Upload-Length", "5"))
	f("PUT", blobsPath, nil)
	for _, path := range []string{n.blob, n.noBlob} {
		f("GET", path, nil)
		f("HEAD", path, nil)
		f("PUT", path, nil)
		f("DELETE", path, nil)
	}
}

// TestBadGrants: whatever is wrong with a grant, the answer says that and nothing of what is stored.
func TestBadGrants(t *testing.T) {
	s := newSite(t)
	n, h := s.names()
	good := func(m wire.GrantMethod) wire.Grant {
		g := wire.Grant{Method: m, Account: alice, Expires: s.clock.Now().Unix() + 60, Blob: h}
		if m == wire.GrantUpload {
			g.Limit, g.Blob = 100, blobHash{}
		}
		return g
	}
	signedBy := func(k wire.GrantKey, g wire.Grant) string {
		return string(wire.AppendGrantText(nil, wire.AppendGrant(nil, k.Signer(), &g)))
	}
	spoil := func(text string, at int) string { return text[:at] + string(text[at]^1) + text[at+1:] }
	expired := good(wire.GrantUpload)
	expired.Expires = s.clock.Now().Unix()
	for _, c := range []struct {
		name, grant string
		want        Reason
	}{
		{"none", "", NoGrant},
		{"of another cluster's key with the same number", signedBy(wire.GrantKey{ID: 7, Seed: [32]byte{9}}, good(wire.GrantUpload)), BadGrant},
		{"of a key that is gone", signedBy(wire.GrantKey{ID: 5, Seed: [32]byte{5}}, good(wire.GrantDownload)), BadGrant},
		{"with another account", spoil(s.grant(good(wire.GrantUpload)), 15), BadGrant},
		{"with another blob", spoil(s.grant(good(wire.GrantDownload)), 70), BadGrant},
		{"with another signature", spoil(s.grant(good(wire.GrantDownload)), 150), BadGrant},
		{"cut", s.grant(good(wire.GrantDownload))[:100], BadGrant},
		{"longer", s.grant(good(wire.GrantDownload)) + "AAAA", BadGrant},
		{"padded", s.grant(good(wire.GrantDownload)) + "=", BadGrant},
		{"not base64", strings.Repeat("%", wire.GrantTextSize), BadGrant},
		{"expired", s.grant(expired), GrantExpired},
	} {
		n.everything(func(method, path string, header head) {
			a := s.do(method, path, c.grant, header, nil)
			s.want(a, c.want)
			if got := a.Header.Get("WWW-Authenticate"); got != "Bearer" {
				t.Errorf("%s: WWW-Authenticate %q", c.name, got)
			}
			for _, leak := range []string{"ETag", "Upload-Offset", "Upload-Length", "Linecard-Blob", "Content-Range"} {
				if a.Header.Get(leak) != "" {
					t.Errorf("%s: %s %s tells %s", c.name, method, path, leak)
				}
			}
			if c.grant == "" {
				return
			}
			if a := s.do(method, path+"?grant="+strings.ReplaceAll(c.grant, "%", "%25"), "", header, nil); a.StatusCode != c.want.Status() {
				t.Errorf("%s in the query: %s %s: %d", c.name, method, path, a.StatusCode)
			}
		})
	}
	s.wantStatus(s.do("GET", n.blob, signedBy(grantKeys[1], good(wire.GrantDownload)), nil, nil), http.StatusOK) // of the key before the newest
	s.idle()
}

// TestGrantOfAnotherMethod: each grant does what it is for and nothing else, and only to what it names.
func TestGrantOfAnotherMethod(t *testing.T) {
	s := newSite(t)
	n, h := s.names()
	grants := map[wire.GrantMethod]string{
		wire.GrantUpload: s.uploadGrant(100), wire.GrantDownload: s.downloadGrant(h), wire.GrantDelete: s.grant(wire.Grant{Method: wire.GrantDelete, Blob: h}),
	}
	right := map[string]wire.GrantMethod{"GET": wire.GrantDownload, "HEAD": wire.GrantDownload, "DELETE": wire.GrantDelete}
	n.everything(func(method, path string, header head) {
		want := wire.GrantUpload
		if strings.HasPrefix(path, blobsPath) && method != "PUT" {
			want = right[method]
		}
		for m, text := range grants {
			if m != want {
				s.want(s.do(method, path, text, header, nil), GrantMethod)
			}
		}
	})
	for _, path := range []string{n.noBlob} { // there or not: the grant is for another
		s.want(s.do("GET", path, grants[wire.GrantDownload], nil, nil), GrantBlob)
		s.want(s.do("HEAD", path, grants[wire.GrantDownload], nil, nil), GrantBlob)
		s.want(s.do("DELETE", path, grants[wire.GrantDelete], nil, nil), GrantBlob)
	}
	other := s.put([]byte("another blob"))
	s.want(s.do("GET", blobsPath+"/"+other.String(), grants[wire.GrantDownload], nil, nil), GrantBlob)
}

// TestForeignUpload: an upload is there for its account only.
func TestForeignUpload(t *testing.T) {
	s := newSite(t)
	n, _ := s.names()
	his := s.grant(wire.Grant{Method: wire.GrantUpload, Limit: 100, Account: bob})
	for _, path := range []string{n.upload, n.noUpload} {
		s.want(s.do("HEAD", path, his, tus(), nil), NotFound)
		s.want(s.do("PATCH", path, his, tus("Upload-Offset", "0", "Content-Type", patchType), "x"), NotFound)
		s.want(s.do("DELETE", path, his, tus(), nil), NotFound)
	}
	if got := s.offsetOf(n.upload); got != "0" {
		t.Fatalf("offset %s", got)
	}
}

// TestNoKeys: a mediad that heard of no key yet says that it starts, not that grants are forged.
func TestNoKeys(t *testing.T) {
	s := newSite(t)
	s.SetKeys(nil)
	a := s.do("PUT", blobsPath, s.uploadGrant(100), nil, "x")
	if s.want(a, Starting); a.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to come again")
	}
	s.want(s.do("PUT", blobsPath, "", nil, "x"), NoGrant)
	if ok, why := s.Ready(); ok || why == "" {
		t.Errorf("ready %t, %q", ok, why)
	}
}
