package mediad

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/config"
)

// impatient has the shortest times that a configuration may have.
func impatient(c *Config) {
	c.MinRate = 256 << 10
	c.HeaderTimeout, c.IdleTimeout, c.Stall = config.Duration(100*time.Millisecond), config.Duration(100*time.Millisecond), config.Duration(100*time.Millisecond)
}

// dial connects, over TLS if the site speaks it, with HTTP/1.1. The connection fails the test if it lasts longer than any test may.
func (s *site) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	mustDo(s.t, err)
	if s.cert != nil {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	s.t.Cleanup(func() { c.Close() })
	mustDo(s.t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}

// answerOn reads an answer.
func (s *site) answerOn(c net.Conn) answer {
	s.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "GET", URL: mustURL(s.url)})
	mustDo(s.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	mustDo(s.t, err)
	return answer{resp, string(b)}
}

// startPatch sends the header of a PATCH and the first bytes of length.
func (s *site) startPatch(path string, offset int, bytes string, length int) net.Conn {
	s.t.Helper()
	c := s.dial()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: %d\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		path, s.uploadGrant(1<<30), offset, patchType, length, bytes)
	return c
}

func TestPace(t *testing.T) {
	p := pace{stall: 10 * time.Second, rate: 1000, credit: 10 * time.Second}
	for i, c := range []struct {
		n      int64
		waited time.Duration
		credit time.Duration
	}{
		{0, 4 * time.Second, 6 * time.Second},
		{1, 0, 6*time.Second + time.Millisecond},
		{2000, time.Second, 7*time.Second + time.Millisecond},
		{1 << 30, time.Second, 10 * time.Second}, // never more than a stall
		{9000, 10 * time.Second, 9 * time.Second},
		{1000, 8999 * time.Millisecond, 1001 * time.Millisecond},
	} {
		if !p.took(c.n, c.waited) || p.credit != c.credit {
			t.Fatalf("step %d: credit %v, want %v", i, p.credit, c.credit)
		}
	}
	if p.took(1, 1002*time.Millisecond) {
		t.Fatalf("credit %v, and it goes on", p.credit)
	}
}

// TestSlowUploads: bodies that stand still or trickle are ended, and what they brought of an upload is kept.
func TestSlowUploads(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			s := newSite(t, impatient, withTLS(t, scheme == "https"))
			path := s.begin(100)
			still := s.startPatch(path, 0, "0123456789", 100)
			s.want(s.answerOn(still), TooSlow)
			if got := s.offsetOf(path); got != "10" {
				t.Errorf("offset %s", got)
			}
			trickle := s.dial()
			fmt.Fprintf(trickle, "PUT /v1/blobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\n", s.uploadGrant(1<<20))
			over := make(chan struct{})
			go func() {
				defer close(over)
				for _, err := trickle.Write([]byte("x")); err == nil; _, err = trickle.Write([]byte("x")) {
					time.Sleep(5 * time.Millisecond) // 200 bytes per second, where 256 KiB are asked for
				}
			}()
			s.until(func() bool { return s.refused(TooSlow) == 2 })
			<-over
			s.idle()
			s.nothingStaged(1)
		})
	}
}

// TestSlowDownloads: who does not read is ended, whatever his connection speaks; nothing of him is left.
func TestSlowDownloads(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			s := newSite(t, impatient, withTLS(t, scheme == "https"))
			h := s.put(make([]byte, 32<<20)) // more than kernels keep for one connection
			c := s.dial()
			fmt.Fprintf(c, "GET /v1/blobs/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", h, s.downloadGrant(h))
			s.until(func() bool { return s.refused(TooSlow) == 1 })
			s.idle()
			if n, err := io.Copy(io.Discard, c); err == nil && n >= 32<<20 {
				t.Errorf("%d bytes, %v: the client cannot see that something is missing", n, err)
			}
		})
	}
}

// TestSlowloris: connections that never come to a request do not stay.
func TestSlowloris(t *testing.T) {
	for _, c := range []struct{ name, scheme, text string }{
		{"nothing at all", "http", ""},
		{"half a header", "http", "GET /v1/blobs HTTP/1.1\r\nHost: x\r\nX-Slow: "},
		{"no handshake", "https", "\x16\x03\x01"},
		{"nothing after a request", "http", "OPTIONS /v1/uploads HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, impatient, withTLS(t, c.scheme == "https"))
			conn, err := net.Dial("tcp", s.Addr().String())
			mustDo(t, err)
			defer conn.Close()
			mustDo(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
			_, err = io.WriteString(conn, c.text)
			mustDo(t, err)
			if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Error("the server keeps the connection")
			}
			s.until(func() bool { return gauge(s.count.connections) == 0 })
		})
	}
}

// TestLongHeader: a header has a size.
func TestLongHeader(t *testing.T) {
	s := newSite(t)
	status, _ := s.raw("GET /v1/blobs HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 64<<10) + "\r\n\r\n")
	if status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", status)
	}
}

// TestTakeOverByRequest: a client that comes again does not wait for its own connection that hangs.
func TestTakeOverByRequest(t *testing.T) {
	s := newSite(t)
	path := s.begin(20)
	first := s.startPatch(path, 0, "01234", 20)
	s.until(func() bool { return counter(s.count.bytesIn) == 5 })
	if got := s.offsetOf(path); got != "5" {
		t.Fatalf("offset %s", got)
	}
	s.want(s.answerOn(first), TakenOver)
	second := s.startPatch(path, 5, "56789", 15)
	s.until(func() bool { return counter(s.count.bytesIn) == 10 })
	s.wantStatus(s.push(path, 10, "0123456789"), http.StatusNoContent) // without asking: its offset is right when its turn comes
	s.want(s.answerOn(second), TakenOver)
	s.idle()
}

// TestLocked: if the older request does not let go, the newer one is told to come again.
func TestLocked(t *testing.T) {
	s := newSiteWith(t, func(s *Server) { s.patience = 50 * time.Millisecond })
	path := s.begin(20)
	x, err := s.depot.uploads.open(t.Context(), strings.TrimPrefix(path, uploadsPath+"/"), alice, nil)
	mustDo(t, err)
	a := s.push(path, 0, "01234")
	if s.want(a, Locked); a.Header.Get("Retry-After") == "" {
		t.Error("it does not say when")
	}
	mustDo(t, x.close())
	s.wantStatus(s.push(path, 0, "01234"), http.StatusNoContent)
}

// TestDrain: a server that ends cuts uploads where they are; the next one goes on from there.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	s := newSiteAt(t, dir, func(c *Config) { c.Drain = 0 })
	path := s.begin(20)
	c := s.startPatch(path, 0, "01234", 20)
	s.until(func() bool { return counter(s.count.bytesIn) == 5 })
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	a := s.answerOn(c)
	if s.want(a, Draining); a.Header.Get("Retry-After") == "" || !a.Close {
		t.Errorf("%v", a.Header)
	}
	mustDo(t, <-ended)
	s = newSiteAt(t, dir)
	if got := s.offsetOf(path); got != "5" {
		t.Errorf("offset %s", got)
	}
}
