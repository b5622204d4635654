package mediad

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"linecard.example/internal/metrics"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

func counter(c prometheus.Counter) int { return int(testutil.ToFloat64(c)) }
func gauge(g prometheus.Gauge) int     { return int(testutil.ToFloat64(g)) }

// hang starts a PUT that stays; it goes on by what is written to the connection.
func (s *site) hang(a stanza.Account) net.Conn {
	s.t.Helper()
	before := gauge(s.count.active)
	c := s.dial()
	fmt.Fprintf(c, "PUT /v1/blobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 2\r\n\r\nx", s.grant(wire.Grant{Method: wire.GrantUpload, Limit: 9, Account: a}))
	s.until(func() bool { return gauge(s.count.active) == before+1 })
	return c
}

func TestRequestLimits(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Requests, c.AccountRequests = 16, 2 })
	first := s.hang(alice)
	s.hang(alice)
	s.until(func() bool { return counter(s.count.bytesIn) == 2 }) // both are known to be hers
	a := s.do("PUT", blobsPath, s.uploadGrant(9), nil, "x")
	if s.want(a, AccountBusy); a.Header.Get("Retry-After") == "" {
		t.Error("it does not say when")
	}
	for i := range 14 {
		s.hang(bob + stanza.Account(i))
	}
	s.want(s.do("PUT", blobsPath, s.grant(wire.Grant{Method: wire.GrantUpload, Limit: 9, Account: bob + 100}), nil, "x"), Busy)
	_, err := io.WriteString(first, "y")
	mustDo(t, err)
	s.wantStatus(s.answerOn(first), http.StatusCreated)
	s.until(func() bool { return gauge(s.count.active) == 15 })
	s.wantStatus(s.do("PUT", blobsPath, s.uploadGrant(9), nil, "x"), http.StatusCreated)
}

func TestConnectionLimits(t *testing.T) {
	for _, c := range []struct {
		name      string
		all, each int
	}{{"of all", 16, 100}, {"of one source", 100, 16}} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, func(cfg *Config) { cfg.Connections, cfg.SourceConnections = c.all, c.each })
			var all []net.Conn
			for range 16 {
				all = append(all, s.dial())
			}
			s.until(func() bool { return gauge(s.count.connections) == 16 })
			if _, err := s.dial().Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Fatalf("one too many: %v", err)
			}
			all[0].Close()
			s.until(func() bool { return gauge(s.count.connections) == 15 })
			s.wantStatus(s.do("OPTIONS", uploadsPath, "", nil, nil), http.StatusNoContent)
			if n := counter(s.count.turnedAway); n != 1 {
				t.Errorf("%d turned away", n)
			}
		})
	}
}

func TestSourceOf(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2ff::1": "2001:db8:1:200::/56", "2001:db8:1:200::9": "2001:db8:1:200::/56",
	} {
		if got := sourceOf(&net.TCPAddr{IP: net.ParseIP(text)}).String(); got != want {
			t.Errorf("%s counts for %s, want %s", text, got, want)
		}
	}
}

func TestAccountLimits(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Quota, c.AccountUploads = 1<<20, 2 })
	s.begin(600 << 10)
	s.want(s.do("POST", uploadsPath, s.uploadGrant(1<<30), tus("Upload-Length", fmt.Sprint(600<<10)), nil), Quota)
	s.want(s.do("PUT", blobsPath, s.uploadGrant(1<<30), nil, make([]byte, 600<<10)), Quota)
	s.want(s.do("PUT", blobsPath, s.uploadGrant(1<<30), nil, io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)))), Quota)
	s.nothingStaged(1)
	s.begin(1)
	s.want(s.do("POST", uploadsPath, s.uploadGrant(1<<30), tus("Upload-Length", "1"), nil), TooManyUploads)
	his := s.grant(wire.Grant{Method: wire.GrantUpload, Limit: 1 << 30, Account: bob})
	s.wantStatus(s.do("PUT", blobsPath, his, nil, make([]byte, 600<<10)), http.StatusCreated)
}

func TestBuffers(t *testing.T) {
	b := newBuffers(2 * bigBuffer)
	one, two, three := &lease{from: b}, &lease{from: b}, &lease{from: b}
	if len(one.grow()) != bigBuffer || len(two.grow()) != bigBuffer || len(three.grow()) != smallBuffer {
		t.Fatal("not two big buffers")
	}
	if len(one.shrink()) != tinyBuffer || len(three.grow()) != bigBuffer || len(one.grow()) != smallBuffer {
		t.Fatal("a buffer that was given back was not lent again")
	}
	for _, l := range []*lease{one, two, three} {
		l.shrink()
	}
	if b.left != 0 || len(b.free) != 2 {
		t.Fatalf("%d left, %d free", b.left, len(b.free))
	}
	if b.trim(); b.left != 2 || b.free != nil {
		t.Fatalf("after trim %d left, %d free", b.left, len(b.free))
	}
}

// TestLinesAreFew: whoever is refused again and again does not fill the log.
func TestLinesAreFew(t *testing.T) {
	s := newSite(t)
	const tries = 50
	for range tries {
		s.want(s.do("GET", blobsPath+"/"+blobHash{}.String(), "", nil, nil), NoGrant)
	}
	s.idle()
	if n := strings.Count(s.log.String(), "request not served"); n < metrics.DefaultBudget.Burst || n == tries {
		t.Errorf("%d lines of %d, want %d and one more every 5 s", n, tries, metrics.DefaultBudget.Burst)
	}
}
