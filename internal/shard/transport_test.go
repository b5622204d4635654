package shard

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	promtest "github.com/prometheus/client_golang/prometheus/testutil"
	"linecard.example/internal/stanza"
)

// knock dials s by hand with a configuration and the bytes of a hello, and returns the connection and the welcome.
func knock(t *testing.T, s *station, conf *tls.Config, h hello) (*tls.Conn, welcome, error) {
	t.Helper()
	c, err := tls.Dial("tcp", s.addr, conf)
	if err != nil {
		return nil, welcome{}, err
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(appendHello(nil, &h)); err != nil {
		return nil, welcome{}, err
	}
	w, err := readWelcome(c)
	return c, w, err
}

// pair returns a station that serves, and one that is only a member.
func pair(t *testing.T) (s, other *station) {
	t.Helper()
	ca, all := newAuthority(t), new(members)
	s, other = newStation(t, ca, all, "n0"), newStation(t, ca, all, "n1")
	s.open(t, 1, false)
	return s, other
}

func TestNetworkRefusals(t *testing.T) {
	s, _ := pair(t)
	later := time.Now().Add(time.Hour)
	conf := s.ca.config(t, "name-n1", later)
	good := hello{purpose: purposeRaft, group: 0, shards: 16, incarnation: 1, cluster: "test", from: "n1", to: "n0"}
	for _, c := range []struct {
		name   string
		change func(*hello)
		conf   *tls.Config
		label  string
		log    string
	}{
		{"cluster", func(h *hello) { h.cluster = "prod" }, conf, "cluster", `cluster differs: \"test\" here, \"prod\" there`},
		{"format", func(h *hello) { h.format = 2 }, conf, "format", "the data are of a newer linecard: format 2 there, 1 is read here"},
		{"shards", func(h *hello) { h.shards = 8 }, conf, "shards", "number of shards differs: 16 here, 8 there"},
		{"another node", func(h *hello) { h.to = "n7" }, conf, "target", "this is another node: n0, and not n7"},
		{"itself", func(h *hello) { h.from = "n0" }, conf, "target", "the dialler itself"},
		{"same id", func(h *hello) { h.from, h.incarnation = "n0", 99 }, conf, "duplicate", "another process runs as this node"},
		{"stranger", func(h *hello) { h.from = "n9" }, conf, "stranger", "node is not in the roster: n9"},
		{"certificate of another", func(*hello) {}, s.ca.config(t, "name-n5", later), "name", `certificate is of another member: want \"name-n1\"`},
		{"group", func(h *hello) { h.group = 5 }, conf, "not_served", ""},
		{"purpose", func(h *hello) { h.purpose = 9 }, conf, "hello", "not a header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			count := s.n.metrics.refusals.WithLabelValues(c.label)
			before := promtest.ToFloat64(count)
			h := good
			c.change(&h)
			for range 2 {
				_, w, err := knock(t, s, c.conf, h)
				if err != nil || w.err() == nil || refusals[w.refusal].name != c.label || w.node != "n0" {
					t.Fatalf("%+v, %v", w, err)
				}
			}
			eventually(t, "counted", func() bool { return promtest.ToFloat64(count) == before+2 })
			eventually(t, "logged", func() bool { return strings.Contains(s.log.String(), c.log) })
			if text := s.log.String(); c.log != "" && strings.Count(text, c.log) != 1 {
				t.Errorf("want one line with %s:\n%s", c.log, text)
			}
		})
	}
	c, w, err := knock(t, s, conf, good)
	if err != nil || w.err() != nil {
		t.Fatalf("refused: %+v, %v", w, err)
	}
	c.Close()
}

// Who shows no certificate of the authority, or one that has expired, gets no word in, and the log says why.
func TestNetworkRefusesCertificates(t *testing.T) {
	s, _ := pair(t)
	good := hello{purpose: purposeStatus, shards: 16, cluster: "test", from: "n1", to: "n0", incarnation: 1}
	stranger := newAuthority(t).config(t, "name-n1", time.Now().Add(time.Hour))
	stranger.RootCAs = s.ca.pool
	none := s.ca.config(t, "x", time.Now().Add(time.Hour))
	none.Certificates = nil
	for log, conf := range map[string]*tls.Config{
		"signed by unknown authority":            stranger,
		"certificate has expired":                s.ca.config(t, "name-n1", time.Now().Add(-time.Hour)),
		"client didn't provide a certificate":    none,
		"client offered only unsupported versio": {RootCAs: s.ca.pool, ServerName: "link", MaxVersion: tls.VersionTLS12},
	} {
		if _, w, err := knock(t, s, conf, good); err == nil {
			t.Errorf("%s: %+v", log, w)
		}
		eventually(t, log, func() bool { return strings.Contains(s.log.String(), log) })
	}
}

// A dialler is as careful as the listener.
func TestDiallerRefuses(t *testing.T) {
	s, other := pair(t)
	ctx := context.Background()
	ask := func() error { _, err := other.n.Status(ctx, "n0"); return err }
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	other.hangUp(t) // the connection above would serve
	other.listen(t)
	s.all.set("n0", Peer{Addr: s.addr, Name: "name-n3"})
	if err := ask(); !errors.Is(err, errName) {
		t.Errorf("a certificate of another member: %v", err)
	}
	s.all.set("n5", Peer{Addr: s.addr, Name: "name-n0"})
	if _, err := other.n.Status(ctx, "n5"); !errors.Is(err, errTarget) {
		t.Errorf("another node at the address: %v", err)
	}
	if _, err := other.n.Status(ctx, "n9"); !errors.Is(err, errNoMember) {
		t.Errorf("no member: %v", err)
	}
	s.all.set("n0", Peer{Addr: s.addr, Name: "name-n0"})
	if err := ask(); err != nil {
		t.Error(err)
	}
	if text := other.log.String(); strings.Count(text, "replica cannot be reached") != 2 || strings.Count(text, "can be reached again") != 1 {
		t.Errorf("log:\n%s", text)
	}
}

// A connection that says nothing, or stops within its header, is closed after a while; so is one past the bound of those that have
// not said who they are, at once.
func TestSlowHello(t *testing.T) {
	ca, all := newAuthority(t), new(members)
	s := newStation(t, ca, all, "n0")
	s.hangUp(t)
	n, err := NewNetwork(s.config(t))
	if err != nil {
		t.Fatal(err)
	}
	n.helloLimit = 2 * time.Second // what a machine in use takes for all the handshakes
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- n.Serve(context.Background(), lis) }()
	h := sampleHello()
	whole := appendHello(nil, &h)
	raw, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conns := []net.Conn{raw}
	for _, said := range [][]byte{nil, whole[:5], whole[:len(whole)-1]} {
		c, err := tls.Dial("tcp", lis.Addr().String(), ca.config(t, "name-n1", time.Now().Add(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(said); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		closedByPeer(t, c)
	}
	if n.Connections() != 0 {
		t.Error("counted as open")
	}
	n.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func closedByPeer(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

// Connections that have not said who they are are bounded: the oldest makes room, so that who holds all places keeps no member out.
func TestNetworkBoundsHandshakes(t *testing.T) {
	ca, all := newAuthority(t), new(members)
	s := &station{ca: ca, all: all, id: "n0", fs: vfs.NewMem(), addr: "127.0.0.1:0", patience: time.Hour}
	s.listen(t)
	s.open(t, 1, false)
	other := newStation(t, ca, all, "n1")
	full := s.n.metrics.refusals.WithLabelValues("full")
	var conns []net.Conn
	for range maxHandshakes + 1 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	eventually(t, "one too many", func() bool { return promtest.ToFloat64(full) == 1 })
	if _, err := conns[0].Read(make([]byte, 1)); err == nil {
		t.Error("the oldest has not made room")
	}
	if _, err := other.n.Status(context.Background(), "n0"); err != nil {
		t.Error(err)
	}
	if n := promtest.ToFloat64(full); n != 2 {
		t.Errorf("%v connections had to make room, want 2", n)
	}
}

// One node gets so many connections for one group and no more.
func TestNetworkBoundsConnections(t *testing.T) {
	s, _ := pair(t)
	conf := s.ca.config(t, "name-n1", time.Now().Add(time.Hour))
	h := hello{purpose: purposeRaft, shards: 16, incarnation: 1, cluster: "test", from: "n1", to: "n0"}
	var last *tls.Conn
	for range maxPerGroup {
		c, w, err := knock(t, s, conf, h)
		if err != nil || w.err() != nil {
			t.Fatal(err, w.err())
		}
		last = c
	}
	if _, w, err := knock(t, s, conf, h); err != nil || !errors.Is(w.err(), errFull) {
		t.Fatal(err, w.err())
	}
	h.purpose = purposeStatus
	if _, w, err := knock(t, s, conf, h); err != nil || w.err() != nil {
		t.Error("another purpose is refused, too", err, w.err())
	}
	h.purpose = purposeRaft
	last.Close()
	eventually(t, "room again", func() bool { _, w, err := knock(t, s, conf, h); return err == nil && w.err() == nil })
}

// What is no RPC behind a good header ends that connection and nothing else.
func TestGarbageBehindTheHeader(t *testing.T) {
	s, _ := pair(t)
	conf := s.ca.config(t, "name-n1", time.Now().Add(time.Hour))
	h := hello{purpose: purposeRaft, shards: 16, incarnation: 1, cluster: "test", from: "n1", to: "n0"}
	for i, junk := range [][]byte{{77}, append([]byte{0}, strings.Repeat("\xdf\xff\xff\xff\xff", 30)...), append([]byte{2}, strings.Repeat("\x91", 3000)...),
		append([]byte{0}, "\x81\xa7Entries\xdd\xff\xff\xff\xff"...)} {
		c, w, err := knock(t, s, conf, h)
		if err != nil || w.err() != nil {
			t.Fatal(err, w.err())
		}
		if _, err := c.Write(junk); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite() // it may be closed already
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("junk %d: %v", i, err)
		}
	}
	awaitLead(t, s.ms[0])
	commit(t, 0, 3, s)
}

func TestNetworkConfig(t *testing.T) {
	_, err := NewNetwork(NetworkConfig{Timeout: 1, TLS: &tls.Config{}})
	for _, want := range []string{"cluster name", "shards", "node id", "no peers", "Timeout", "authority"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
	ca := newAuthority(t)
	for want, change := range map[string]func(*tls.Config){
		"certificate": func(c *tls.Config) { c.Certificates = nil }, "name": func(c *tls.Config) { c.ServerName = "" },
		"authority": func(c *tls.Config) { c.ClientCAs = nil },
	} {
		conf := ca.config(t, "x", time.Now().Add(time.Hour))
		change(conf)
		if err := checkMutual(conf); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Status answers for groups that are open and for those that are not, in the order asked for.
func TestStatus(t *testing.T) {
	s, other := pair(t)
	awaitLead(t, s.ms[0])
	commit(t, 0, 10, s)
	got, err := other.n.Status(context.Background(), "n0", 3, 0)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if got[0] != (ReplicaStatus{Group: 3}) {
		t.Errorf("%+v", got[0])
	}
	if r := got[1]; r.Group != 0 || !r.Open || !r.Leading || r.Stopped || r.Term == 0 || r.Applied < 10 || r.Last < r.Applied {
		t.Errorf("%+v", r)
	}
	if all, err := other.n.Status(context.Background(), "n0"); err != nil || len(all) != 1 || all[0].Group != 0 {
		t.Error(all, err)
	}
	if own, err := s.n.Status(context.Background(), "n0", stanza.QueueGroup(1)); err != nil || len(own) != 1 || own[0].Open {
		t.Error(own, err)
	}
	// Its connection is gone, and nobody notices but by asking.
	s.close(t)
	s.listen(t)
	if _, err := other.n.Status(context.Background(), "n0", 0); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := other.n.Status(done, "n0", 0); err == nil {
		t.Error("answered though nobody waits")
	}
	if _, err := other.n.Status(context.Background(), "n0", make([]stanza.Group, maxAsked+1)...); err == nil {
		t.Error("too many groups")
	}
	if other.n.Connections() != 1 {
		t.Error("the connection is not counted")
	}
}
