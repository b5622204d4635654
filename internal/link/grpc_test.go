package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	promtest "github.com/prometheus/client_golang/prometheus/testutil"

	"linecard.example/internal/stanza"
)

// noLeaks fails the test when it leaves goroutines of this package or of gRPC behind; gRPC's last ones end a moment after Close.
func noLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		var left string
		for range 200 {
			buf := make([]byte, 1<<20)
			buf = buf[:runtime.Stack(buf, true)]
			left = ""
			for g := range strings.SplitSeq(string(buf), "\n\n") {
				if strings.Contains(g, "noLeaks") {
					continue
				}
				if strings.Contains(g, "internal/link") || strings.Contains(g, "google.golang.org/grpc") {
					left = g
				}
			}
			if left == "" {
				return
			}
			time.Sleep(10 * time.Millisecond) // polls for goroutines that nobody can wait for
		}
		t.Errorf("goroutine left:\n%s", left)
	})
}

// running is a server or dialler under way.
type running struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (r *running) stop() { r.cancel(); r.done.Wait() }

func serve(t testing.TB, addr string, conf *tls.Config, eps ...*Endpoint) (string, *running) {
	t.Helper()
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel}
	srv := NewServer(conf, eps...)
	r.done.Go(func() {
		if err := srv.Serve(ctx, lis); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return lis.Addr().String(), r
}

func dial(t testing.TB, e *Endpoint, addr string, role Role, conf *tls.Config) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel}
	r.done.Go(func() { e.Dial(ctx, addr, role, conf) })
	t.Cleanup(r.stop)
	return r
}

func TestGRPCRoundTrip(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	a, b, c := newRecorder(t), newRecorder(t), newRecorder(t)
	a.autoDone, b.autoDone = true, true
	b.onBatch = func(s *Stream, batch []Envelope) {
		for i := range batch {
			if err := s.Send(&Envelope{Kind: KindAck, Group: batch[i].Group, ID: batch[i].ID}); err != nil {
				t.Error(err)
			}
		}
	}
	addr, srv := serve(t, "127.0.0.1:0", ca.config(t),
		NewEndpoint(info(RoleRouter), b, Options{}), NewEndpoint(info(RoleOffline), c, Options{}))
	d := dial(t, NewEndpoint(info(RoleGateway), a, Options{}), addr, RoleRouter, ca.config(t))
	s := a.stream(0)
	if p := b.stream(0); p.Peer() != info(RoleGateway) || !p.Incoming() || s.Peer() != info(RoleRouter) || s.Incoming() {
		t.Error("identity")
	}
	const n = 10_000
	for i := range uint64(n) {
		e := message(i + 1)
		e.Group = stanza.DirGroup(int(i % 4))
		for s.Send(e) != nil {
			runtime.Gosched()
		}
	}
	for i, e := range append(b.envelopes(n), a.envelopes(n)...) {
		want := message(uint64(i%n + 1))
		if e.ID != want.ID || (i < n && !bytes.Equal(e.Payload, want.Payload)) {
			t.Fatalf("position %d: %+v", i, e)
		}
	}
	if len(c.ups) > 0 {
		t.Error("the other endpoint got a stream")
	}
	// An orderly end loses nothing that Send took.
	for i := range uint64(1000) {
		if err := s.Send(message(i)); err != nil {
			t.Fatal(err)
		}
	}
	d.stop()
	b.await("Down", func() bool { return len(b.downs) == 1 })
	if len(b.got) != n+1000 || !errors.Is(b.downs[0], ErrStopped) || len(a.downs) != 1 || !errors.Is(a.downs[0], ErrStopped) {
		t.Errorf("%d arrived, downs %v %v", len(b.got), a.downs, b.downs)
	}
	srv.stop()
}

// TestGRPCReconnects: a server goes and comes back on the same address; each stream has its own Up and Down.
func TestGRPCReconnects(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	a, b := newRecorder(t), newRecorder(t)
	addr, srv := serve(t, "127.0.0.1:0", ca.config(t), NewEndpoint(info(RoleRouter), b, Options{}))
	d := dial(t, NewEndpoint(info(RoleGateway), a, Options{}), addr, RoleRouter, ca.config(t))
	for i := range 3 {
		s := a.stream(i)
		if err := s.Send(message(uint64(i))); err != nil {
			t.Fatal(err)
		}
		b.envelopes(i + 1)
		srv.stop()
		a.await("Down", func() bool { return len(a.downs) == i+1 })
		if err := s.Send(message(1)); !errors.Is(err, ErrDown) {
			t.Errorf("send: %v", err)
		}
		_, srv = serve(t, addr, ca.config(t), NewEndpoint(info(RoleRouter), b, Options{}))
	}
	a.stream(3)
	if s := b.stream(3); !s.IssuedFor("daemon") || s.IssuedFor("other") || a.stream(3).IssuedFor("daemon") {
		t.Error("the names in the dialler's certificate are others")
	}
	d.stop()
	if len(a.ups) != len(a.downs) {
		t.Errorf("%d ups, %d downs", len(a.ups), len(a.downs))
	}
}

// TestGRPCConnectionCut: the TCP connection breaks without a word.
func TestGRPCConnectionCut(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	a, b := newRecorder(t), newRecorder(t)
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), NewEndpoint(info(RoleRouter), b, Options{}))
	p := newProxy(t, addr)
	dial(t, NewEndpoint(info(RoleGateway), a, Options{}), p.addr(), RoleRouter, ca.config(t))
	a.stream(0)
	b.stream(0)
	p.cut()
	a.await("Down", func() bool { return len(a.downs) == 1 })
	b.await("Down", func() bool { return len(b.downs) == 1 })
	if errors.Is(a.downs[0], ErrStopped) || errors.Is(b.downs[0], ErrStopped) {
		t.Errorf("a broken connection was reported as an orderly end: %v, %v", a.downs, b.downs)
	}
	a.stream(1)
}

// TestGRPCSilence: packets are swallowed, both ends see it by the missing pulse.
func TestGRPCSilence(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	a, b := newRecorder(t), newRecorder(t)
	fast := Options{Pulse: 50 * time.Millisecond}
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), NewEndpoint(info(RoleRouter), b, fast))
	p := newProxy(t, addr)
	dial(t, NewEndpoint(info(RoleGateway), a, fast), p.addr(), RoleRouter, ca.config(t))
	a.stream(0)
	b.stream(0)
	p.mute(true)
	a.await("Down", func() bool { return len(a.downs) == 1 })
	b.await("Down", func() bool { return len(b.downs) == 1 })
	if !errors.Is(a.downs[0], errSilent) {
		t.Errorf("down because of %v", a.downs[0])
	}
	p.mute(false)
	p.cut()
	a.stream(1)
}

func TestGRPCRefusals(t *testing.T) {
	noLeaks(t)
	ca, other := newAuthority(t), newAuthority(t)
	anonymous := ca.config(t)
	anonymous.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	stranger := other.config(t)
	stranger.RootCAs = ca.pool
	for _, c := range []struct {
		name   string
		change func(*Info)
		want   Role
		conf   *tls.Config
		log    string
		label  string
	}{
		{"shards", func(i *Info) { i.Shards = 8 }, RoleRouter, ca.config(t), "number of shards differs: 8 here, 4 there", "shards"},
		{"cluster", func(i *Info) { i.Cluster = "x" }, RoleRouter, ca.config(t), "cluster differs", "cluster"},
		{"nobody of that role", func(*Info) {}, RoleOffline, ca.config(t), "role is not the one wanted", "peer"},
		{"unknown role", func(i *Info) { i.Role = roleEnd }, RoleRouter, ca.config(t), "refused by the peer: role", "peer"},
		{"server of another CA", func(*Info) {}, RoleRouter, other.config(t), "certificate signed by unknown authority", "other"},
		{"client of another CA", func(*Info) {}, RoleRouter, stranger, "certificate signed by unknown authority", "other"},
		{"client without certificate", func(*Info) {}, RoleRouter, anonymous, "client didn't provide a certificate", "other"},
		{"no configuration", func(*Info) {}, RoleRouter, nil, "no TLS configuration", ""},
		{"no roots", func(*Info) {}, RoleRouter, &tls.Config{}, "without root CAs", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newRecorder(t), newRecorder(t)
			var log, serverLog lines
			addr, srv := serve(t, "127.0.0.1:0", ca.config(t),
				NewEndpoint(info(RoleRouter), b, Options{Logger: slog.New(slog.NewTextHandler(&serverLog, nil))}))
			ai := info(RoleGateway)
			c.change(&ai)
			ea := NewEndpoint(ai, a, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			d := dial(t, ea, addr, c.want, c.conf)
			told := &log
			if strings.HasPrefix(c.name, "client") { // a refused client may see no more than a broken connection
				told = &serverLog
			}
			told.await(t, c.log)
			if c.label != "" { // refused again and again, logged once
				refusals := ea.metrics.refusals.WithLabelValues(c.label)
				for end := time.Now().Add(20 * time.Second); promtest.ToFloat64(refusals) < 3; time.Sleep(5 * time.Millisecond) {
					if time.Now().After(end) { // counted by the dialler's goroutine, which tells nobody
						t.Fatalf("refused %v times, want 3", promtest.ToFloat64(refusals))
					}
				}
				if text := told.String(); strings.Count(text, c.log) != 1 || strings.Count(text, "\n") > maxReasons {
					t.Errorf("logged more than once:\n%s", text)
				}
			}
			d.stop()
			srv.stop()
			if len(a.ups)+len(b.ups) > 0 {
				t.Error("up in spite of it")
			}
		})
	}
}

// TestGRPCLimit: streams past MaxStreams are refused, and there is room again when one ends.
func TestGRPCLimit(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	b := newRecorder(t)
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), NewEndpoint(info(RoleRouter), b, Options{MaxStreams: 1}))
	a, x := newRecorder(t), newRecorder(t)
	var log lines
	first := dial(t, NewEndpoint(info(RoleGateway), a, Options{}), addr, RoleRouter, ca.config(t))
	a.stream(0)
	dial(t, NewEndpoint(info(RoleGateway), x, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}), addr, RoleRouter, ca.config(t))
	log.await(t, "too many streams")
	first.stop()
	x.stream(0)
}

// TestGRPCStuck: over gRPC too, a handler that does nothing with what it gets costs one grant.
func TestGRPCStuck(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	a, b := newRecorder(t), newRecorder(t)
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), NewEndpoint(info(RoleRouter), b, Options{}))
	dial(t, NewEndpoint(info(RoleGateway), a, Options{}), addr, RoleRouter, ca.config(t))
	s, n := a.stream(0), 0
	for s.Send(message(1)) == nil {
		n++
	}
	if n != DefaultCredits/message(1).Size() {
		t.Errorf("%d were taken", n)
	}
	b.envelopes(n)
	b.stream(0).Done(stanza.DirGroup(1), n*message(1).Size())
	for errors.Is(s.Send(message(1)), ErrNoCredit) {
		runtime.Gosched()
	}
	b.envelopes(n + 1)
}

// Connections that never show a certificate are bounded; others get in when those are gone.
func TestServerBoundsHandshakes(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	a, b := newRecorder(t), newRecorder(t)
	router := NewEndpoint(info(RoleRouter), b, Options{})
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), router)
	conns := make([]net.Conn, maxHandshakes+1)
	ended := make(chan error, len(conns))
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			err = c.SetReadDeadline(time.Now().Add(introTimeout / 2))
		}
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
	}
	if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("all are kept")
	}
	if n := promtest.ToFloat64(router.metrics.refusals.WithLabelValues("full")); n != 1 {
		t.Errorf("%v refused as full", n)
	}
	for _, c := range conns {
		c.Close()
	}
	dial(t, NewEndpoint(info(RoleGateway), a, Options{}), addr, RoleRouter, ca.config(t))
	b.stream(0)
}

func TestServerRefusesBadTLS(t *testing.T) {
	for _, conf := range []*tls.Config{nil, {}, {ClientCAs: newAuthority(t).pool}} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := NewServer(conf).Serve(t.Context(), lis); err == nil {
			t.Error("served")
		}
	}
}

func TestBackoff(t *testing.T) {
	const ms = time.Millisecond
	for n, want := range map[int]time.Duration{1: 100 * ms, 2: 200 * ms, 3: 400 * ms, 6: 3200 * ms, 7: 5000 * ms, 1000: 5000 * ms} {
		if lo, hi := backoff(n, 0), backoff(n, 0.9999); lo != want/2 || hi <= want*9/10 || hi > want {
			t.Errorf("attempt %d: %v to %v, want half of %v to all", n, lo, hi, want)
		}
	}
}
