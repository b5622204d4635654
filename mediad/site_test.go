package mediad

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"linecard.example/internal/config"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// site is a server on a port of this machine, and a client of it.
type site struct {
	*Server
	t      testing.TB
	url    string
	dir    string
	clock  *clock
	reg    *prometheus.Registry
	log    *syncBuffer
	client *http.Client
	stop   func() error // ends Run; may be called again
}

// syncBuffer is a log that a test reads while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The account that tests act for, and another one.
const (
	alice stanza.Account = 0x1001
	bob   stanza.Account = 0x1002
)

// grantKeys are the keys of the test's cluster: the newest, and the one before.
var grantKeys = []wire.GrantKey{{ID: 7, Seed: [32]byte{7}}, {ID: 6, Seed: [32]byte{6}}}

func grantPublics() []wire.GrantPublic {
	return []wire.GrantPublic{grantKeys[0].Public(), grantKeys[1].Public()}
}

// newSite starts a server; change may change its configuration. It ends with the test, which fails if anything is left.
func newSite(t testing.TB, change ...func(*Config)) *site {
	t.Helper()
	return newSiteAt(t, t.TempDir(), change...)
}

func newSiteAt(t testing.TB, dir string, change ...func(*Config)) *site {
	t.Helper()
	return startSite(t, dir, nil, nil, change)
}

// newSiteOn is newSite on a listener of the test's.
func newSiteOn(t testing.TB, ln net.Listener, change ...func(*Config)) *site {
	t.Helper()
	return startSite(t, t.TempDir(), ln, nil, change)
}

// newSiteWith is newSite with a server that is prepared before it runs.
func newSiteWith(t testing.TB, prepare func(*Server), change ...func(*Config)) *site {
	t.Helper()
	return startSite(t, t.TempDir(), nil, prepare, change)
}

func startSite(t testing.TB, dir string, ln net.Listener, prepare func(*Server), change []func(*Config)) *site {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.FreeSpace, cfg.Drain = "127.0.0.1:0", 0, config.Duration(time.Second)
	for _, f := range change {
		f(&cfg)
	}
	s := &site{t: t, dir: dir, clock: newClock(), reg: prometheus.NewRegistry(), log: &syncBuffer{}}
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	s.Server, err = New(cfg, Deps{Dir: dir, Logger: log, Registerer: s.reg, Clock: s.clock.Now, Listener: ln})
	mustDo(t, err)
	s.SetKeys(grantPublics())
	if prepare != nil {
		prepare(s.Server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-done })
	s.url = "http://" + s.Addr().String()
	if cfg.TLSCert != "" {
		s.url = "https://" + s.Addr().String()
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 4, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	s.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	s.until(func() bool { ok, _ := s.Ready(); return ok })
	return s
}

// until waits for what other goroutines do.
func (s *site) until(ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) { // they tell nobody: they are asked again
		if time.Now().After(end) {
			s.t.Fatal("it did not come to pass")
		}
	}
}

// grant returns a grant's text for an hour.
func (s *site) grant(g wire.Grant) string {
	if g.Account == 0 {
		g.Account = alice
	}
	if g.Expires == 0 {
		g.Expires = s.clock.Now().Unix() + 3600
	}
	return string(wire.AppendGrantText(nil, wire.AppendGrant(nil, grantKeys[0].Signer(), &g)))
}

func (s *site) uploadGrant(limit uint64) string {
	return s.grant(wire.Grant{Method: wire.GrantUpload, Limit: limit})
}

func (s *site) downloadGrant(h blobHash) string {
	return s.grant(wire.Grant{Method: wire.GrantDownload, Blob: h})
}

// answer is what came back.
type answer struct {
	*http.Response
	body string
}

func (a answer) reason() string {
	var f failure
	_ = json.Unmarshal([]byte(a.body), &f)
	return f.Error
}

// head is a request's header: names and values by turns; grant is put into Authorization unless it is "".
type head []string

// do sends a request and reads the answer.
func (s *site) do(method, path, grant string, h head, body any) answer {
	s.t.Helper()
	a, err := s.try(context.Background(), method, path, grant, h, body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// try is do for requests that may fail. body is a string, []byte, io.Reader or nil.
func (s *site) try(ctx context.Context, method, path, grant string, h head, body any) (answer, error) {
	var r io.Reader
	switch b := body.(type) {
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	case io.Reader:
		r = b
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, r)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(h); i += 2 {
		req.Header.Set(h[i], h[i+1])
	}
	if grant != "" {
		req.Header.Set("Authorization", "Bearer "+grant)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b)}, err
}

// want checks status and reason.
func (s *site) want(a answer, r Reason) {
	s.t.Helper()
	if a.StatusCode != r.Status() || a.Request.Method != http.MethodHead && a.reason() != r.String() {
		s.t.Fatalf("%s %s: %d %q, want %d %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.body, r.Status(), r)
	}
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		s.t.Fatalf("%s: content type %q", r, got)
	}
}

// wantStatus checks the status of what must succeed.
func (s *site) wantStatus(a answer, status int) {
	s.t.Helper()
	if a.StatusCode != status {
		s.t.Fatalf("%s %s: %d %q, want %d", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.body, status)
	}
}

// tus is the header of a tus request.
func tus(more ...string) head { return append(head{"Tus-Resumable", tusVersion}, more...) }

// put stores a blob and returns its name.
func (s *site) put(b []byte) blobHash {
	s.t.Helper()
	a := s.do("PUT", blobsPath, s.uploadGrant(1<<40), nil, b)
	s.wantStatus(a, http.StatusCreated)
	var got stored
	mustDo(s.t, json.Unmarshal([]byte(a.body), &got))
	h, ok := parseHash(got.Blob)
	if !ok || got.Size != int64(len(b)) {
		s.t.Fatalf("answer %q", a.body)
	}
	return h
}

// idle checks that nothing of all requests is left: no place taken, no buffer lent, no upload open.
func (s *site) idle() {
	s.t.Helper()
	s.until(func() bool {
		s.tally.mu.Lock()
		defer s.tally.mu.Unlock()
		s.work.mu.Lock()
		defer s.work.mu.Unlock()
		s.buffers.mu.Lock()
		defer s.buffers.mu.Unlock()
		return s.tally.now == 0 && len(s.tally.account) == 0 && len(s.work.live) == 0 &&
			s.buffers.left+len(s.buffers.free) == s.cfg.Buffers.Int()/bigBuffer
	})
}

// refused returns how many requests were refused with a reason.
func (s *site) refused(r Reason) int { return int(testutil.ToFloat64(s.count.refused[r])) }
