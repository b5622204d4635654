package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func start(t *testing.T, s *Server) (base string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	return "http://" + ln.Addr().String(), func() error { cancel(); return <-done }
}

func fetch(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestEndpoints(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "linecard_test_total"})
	reg.MustRegister(c)
	c.Inc()
	now := time.Unix(1000, 0)
	var sick []Fault
	s := New(reg, func() time.Time { return now },
		func(at time.Time) []Fault {
			if !at.Equal(now) {
				t.Errorf("check asked for %v", at)
			}
			return sick
		},
		func(time.Time) []Fault { return []Fault{{Name: "dir/3", Why: "no leader"}} })
	s.Handle("/invite", func(context.Context, *http.Request) (any, error) { return map[string]string{"code": "abc"}, nil })
	s.Handle("/fail", func(context.Context, *http.Request) (any, error) { return nil, errors.New("no such thing") })
	base, stop := start(t, s)

	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/metrics", 200, "linecard_test_total 1"},
		{"GET", "/healthz", 200, `"ok":true`},
		{"GET", "/readyz", 503, "no leader"},
		{"GET", "/debug/pprof/", 200, "goroutine"},
		{"POST", "/invite", 200, `"code":"abc"`},
		{"GET", "/invite", 405, ""},
		{"POST", "/fail", 400, "no such thing"},
		{"GET", "/nothing", 404, ""},
	} {
		status, body := fetch(t, c.method, base+c.path)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %q, want %d with %q", c.method, c.path, status, body, c.status, c.want)
		}
	}
	sick = []Fault{{Name: "loop 0", Why: "has not turned for 6s"}}
	if status, body := fetch(t, "GET", base+"/healthz"); status != 503 || !strings.Contains(body, "loop 0") {
		t.Errorf("sick: %d %s", status, body)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
