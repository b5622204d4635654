package testkit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/node"
)

// These tests use media as a client without linecard's code does: grants from the session, everything else by plain HTTP.

// web speaks HTTP to a mediad. Connections are not kept: a process that was killed has none.
var web = &http.Client{Timeout: waitLimit, Transport: &http.Transport{DisableKeepAlives: true}}

// request makes a request by pre-signed URL; text is the grant, "" for none.
func request(t testing.TB, method, url, text string, body []byte, header ...string) (status int, answer []byte) {
	t.Helper()
	if text != "" {
		url += "?grant=" + text
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := web.Do(r)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, answer
}

// refuses checks that a request is refused for a reason.
func refuses(t testing.TB, what string, reason string, status int, answer []byte) {
	t.Helper()
	var fault struct{ Error string }
	if err := json.Unmarshal(answer, &fault); err != nil || fault.Error != reason || status < 400 {
		t.Errorf("%s: %d %.200q, want %s", what, status, answer, reason)
	}
}

// granted is the outcome of asking for a grant.
func granted(t testing.TB) func(*client.Grant, error) *client.Grant {
	return func(g *client.Grant, err error) *client.Grant {
		t.Helper()
		must(t, err)
		return g
	}
}

// randomBlob returns n bytes and their name.
func randomBlob(seed byte, n int) (blob []byte, hash [client.BlobSize]byte) {
	blob = make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(blob)
	return blob, sha256.Sum256(blob)
}

// upload puts a blob and checks the answer.
func upload(t testing.TB, g *client.Grant, blob []byte) {
	t.Helper()
	status, answer := request(t, http.MethodPut, g.URL+"/v1/blobs", g.Text, blob)
	var got struct {
		Blob string
		Size int
	}
	hash := sha256.Sum256(blob)
	if err := json.Unmarshal(answer, &got); err != nil || status != http.StatusCreated || got.Blob != hex.EncodeToString(hash[:]) || got.Size != len(blob) {
		t.Fatalf("PUT: %d %s", status, answer)
	}
}

func blobURL(g *client.Grant, hash [client.BlobSize]byte) string {
	return fmt.Sprintf("%s/v1/blobs/%x", g.URL, hash)
}

// checkDownload gets a blob, whole and in part.
func checkDownload(t testing.TB, g *client.Grant, blob []byte, hash [client.BlobSize]byte) {
	t.Helper()
	if status, got := request(t, http.MethodGet, blobURL(g, hash), g.Text, nil); status != http.StatusOK || sha256.Sum256(got) != hash {
		t.Errorf("GET: %d, %d bytes", status, len(got))
	}
	if status, got := request(t, http.MethodGet, blobURL(g, hash), g.Text, nil, "Range", "bytes=1000-1999"); status != http.StatusPartialContent || !bytes.Equal(got, blob[1000:2000]) {
		t.Errorf("GET of a range: %d, %d bytes", status, len(got))
	}
	if status, got := request(t, http.MethodGet, blobURL(g, hash), "", nil, "Authorization", "Bearer "+g.Text); status != http.StatusOK || !bytes.Equal(got, blob) {
		t.Errorf("GET by header: %d, %d bytes", status, len(got))
	}
}

// TestMedia: ann asks for a grant and uploads, bob, who knows the hash, asks for his own and downloads; what no grant permits is refused.
func TestMedia(t *testing.T) {
	for _, shape := range []Shape{Inside, Together} {
		t.Run(string(shape), func(t *testing.T) {
			s := Start(t, shape, Settings{Gateway: "media_max = \"4MiB\"\n"})
			ann, bob := s.NewDevice("ann", nil, DeviceOptions{}), s.NewDevice("bob", nil, DeviceOptions{})
			blob, hash := randomBlob(1, 3<<20)
			up := granted(t)(ann.UploadGrant(t.Context(), int64(len(blob))))
			down := granted(t)(bob.DownloadGrant(t.Context(), hash))
			status, answer := request(t, http.MethodGet, blobURL(down, hash), down.Text, nil)
			refuses(t, "a blob before it is there", "not_found", status, answer)
			upload(t, up, blob)
			checkDownload(t, down, blob, hash)
			checkRefusals(t, ann, up, down, hash)
			remove := granted(t)(ann.DeleteGrant(t.Context(), hash))
			if status, answer := request(t, http.MethodDelete, blobURL(remove, hash), remove.Text, nil); status != http.StatusNoContent {
				t.Errorf("DELETE: %d %s", status, answer)
			}
		})
	}
}

// checkRefusals asks for what the grants do not permit. Nothing of that leaves anything behind.
func checkRefusals(t *testing.T, d *Device, up, down *client.Grant, hash [client.BlobSize]byte) {
	t.Helper()
	other, otherHash := randomBlob(2, 1000)
	forged := []byte(down.Text)
	forged[20] ^= 1 // of the account
	mangled := strings.ToUpper(up.Text)
	small := granted(t)(d.UploadGrant(t.Context(), int64(len(other)-1))) // little enough to be sent before the answer comes
	get, put := http.MethodGet, http.MethodPut
	for _, c := range []struct {
		what, reason, method, url, text string
		body                            []byte
	}{
		{"no grant", "no_grant", get, blobURL(down, hash), "", nil},
		{"no grant to upload", "no_grant", put, up.URL + "/v1/blobs", "", other},
		{"forged grant", "bad_grant", get, blobURL(down, hash), string(forged), nil},
		{"mangled grant", "bad_grant", put, up.URL + "/v1/blobs", mangled, other},
		{"no such grant", "bad_grant", get, blobURL(down, hash), "AAAA", nil},
		{"download with a grant to upload", "grant_method", get, blobURL(down, hash), up.Text, nil},
		{"upload with a grant to download", "grant_method", put, up.URL + "/v1/blobs", down.Text, other},
		{"deletion with a grant to download", "grant_method", http.MethodDelete, blobURL(down, hash), down.Text, nil},
		{"another blob", "grant_blob", get, blobURL(down, otherHash), down.Text, nil},
		{"more than the grant allows", "too_large", put, up.URL + "/v1/blobs", small.Text, other},
		{"another hash than that in the path", "hash_mismatch", put, blobURL(up, hash), up.Text, other},
	} {
		status, answer := request(t, c.method, c.url, c.text, c.body)
		refuses(t, c.what, c.reason, status, answer)
	}
	missing := granted(t)(d.DownloadGrant(t.Context(), otherHash))
	status, answer := request(t, get, blobURL(missing, otherHash), missing.Text, nil)
	refuses(t, "what was refused", "not_found", status, answer)
	if _, err := d.UploadGrant(t.Context(), 4<<20+1); err == nil || !strings.Contains(err.Error(), client.ErrBlobTooLarge.Error()) {
		t.Errorf("a grant for more than media_max: %v", err)
	}
}

// TestMediaRestart: blobs and grants outlive the process, and grants end when they say so.
func TestMediaRestart(t *testing.T) {
	s := Start(t, Together, Settings{Media: fmt.Sprintf("listen = %q\n", FreeAddr(t))})
	ann := s.NewDevice("ann", nil, DeviceOptions{})
	blob, hash := randomBlob(1, 1<<20)
	upload(t, granted(t)(ann.UploadGrant(t.Context(), int64(len(blob)))), blob)
	down := granted(t)(ann.DownloadGrant(t.Context(), hash))
	s.KillAll()
	s.StartAll()
	checkDownload(t, down, blob, hash)
	stop(t, s, "up")
	s.writeConfig("up", "", Settings{Gateway: "media_grant_life = \"1s\"\n", Media: fmt.Sprintf("listen = %q\n", strings.TrimPrefix(down.URL, "http://"))})
	s.StartAll()
	short := granted(t)(ann.DownloadGrant(t.Context(), hash))
	Eventually(t, "a grant expires", func() bool {
		status, answer := request(t, http.MethodGet, blobURL(short, hash), short.Text, nil)
		if status == http.StatusOK {
			return false
		}
		refuses(t, "after its time", "grant_expired", status, answer)
		return true
	})
	checkDownload(t, down, blob, hash) // which has its own time
}

// addMediad gives a system of processes a mediad, and has its gateway tell clients of it.
func (s *System) addMediad(set Settings) {
	s.t.Helper()
	listen := FreeAddr(s.t)
	s.addDaemon("mediad", fmt.Sprintf("[media]\nlisten = %q\n", listen), fmt.Sprintf("media_url = \"http://%s\"\n", listen), set)
}

// addDaemon gives a system of processes one that gets keys from its routers: its own section, and what its gateway is to know of it.
func (s *System) addDaemon(role, section, gateway string, set Settings) {
	s.t.Helper()
	must(s.t, node.IssueKeys(filepath.Join(s.Dir, "keys"), role, time.Now()))
	s.admin[role] = FreeAddr(s.t)
	s.links[role] = s.links["gateway"] // of which it dials the routers
	s.writeConfig(role, s.links[role]+section, set)
	set.Gateway += gateway
	s.writeConfig("gateway", s.links["gateway"], set)
	s.procs = append(s.procs, NewProcess(s.t, role, role, "--config", s.config(role)))
}

// TestMediaApart: a mediad of its own hears the keys from the routers, and needs them no more once it has.
func TestMediaApart(t *testing.T) {
	s := prepare(t, Apart, Settings{})
	s.addMediad(Settings{})
	s.StartAll()
	ann := s.NewDevice("ann", nil, DeviceOptions{})
	blob, hash := randomBlob(1, 100_000)
	up := granted(t)(ann.UploadGrant(t.Context(), int64(len(blob))))
	upload(t, up, blob)
	down := granted(t)(ann.DownloadGrant(t.Context(), hash))
	s.Process("router").Kill()
	KillTogether(s.Process("mediad"))
	s.Process("mediad").Start()
	Eventually(t, "the mediad serves without a router", func() bool {
		status, _ := request(t, http.MethodGet, blobURL(down, hash), down.Text, nil)
		return status == http.StatusOK
	})
	checkDownload(t, down, blob, hash)
	if status, page := s.Get("mediad", "/readyz"); status != http.StatusOK {
		t.Errorf("a mediad that serves is not ready: %s", page)
	}
	status, answer := request(t, http.MethodGet, blobURL(down, hash), up.Text, nil)
	refuses(t, "without a router, a grant for another method", "grant_method", status, answer)
	s.StartAll()
	other, otherHash := randomBlob(3, 50_000)
	upload(t, granted(t)(ann.UploadGrant(t.Context(), int64(len(other)))), other)
	checkDownload(t, granted(t)(ann.DownloadGrant(t.Context(), otherHash)), other, otherHash)
}
