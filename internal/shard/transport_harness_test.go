package shard

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// authority is a CA made for a test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// config returns a configuration for both ends, with a certificate issued for a member.
func (a *authority) config(t testing.TB, name string, end time.Time) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"link", name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs: a.pool, ClientCAs: a.pool, ServerName: "link"}
}

// members is a roster that tests change.
type members struct {
	mu sync.Mutex
	m  map[string]Peer
}

func (r *members) Peer(node string) (Peer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.m[node]
	return p, ok
}

func (r *members) set(node string, p Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = map[string]Peer{}
	}
	r.m[node] = p
}

// lines is a log that tests read.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// station is one process as far as replication sees it: a network that serves, and a host with groups.
type station struct {
	ca   *authority
	all  *members
	id   string
	run  uint64 // incarnation of the last start
	fs   vfs.FS
	addr string
	log  lines

	writes    int // formats of the network; 0: default
	reads     int
	timeout   time.Duration // the same
	patience  time.Duration // with connections that say nothing; 0: default
	heartbeat time.Duration // of the groups; 0: 1 s, since three processes share one, on a machine that may be busy

	n     *Network
	ended chan error
	h     *Host
	ms    map[stanza.Group]*toy
	gs    map[stanza.Group]*toyGroup
}

// newStation returns a station that is a member of all and listens.
func newStation(t testing.TB, ca *authority, all *members, id string) *station {
	t.Helper()
	s := &station{ca: ca, all: all, id: id, fs: vfs.NewMem(), addr: "127.0.0.1:0"}
	s.listen(t)
	return s
}

func (s *station) config(t testing.TB) NetworkConfig {
	t.Helper()
	return NetworkConfig{Cluster: "test", Shards: 16, Node: s.id, Incarnation: s.run, TLS: s.ca.config(t, "name-"+s.id, time.Now().Add(time.Hour)),
		Peers: s.all, Logger: s.log.logger(), Writes: s.writes, Reads: s.reads, Timeout: s.timeout}
}

// listen starts the network of a new run.
func (s *station) listen(t testing.TB) {
	t.Helper()
	s.run++
	n, err := NewNetwork(s.config(t))
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	n.helloLimit = cmp.Or(s.patience, n.helloLimit)
	s.n, s.addr, s.ended = n, lis.Addr().String(), make(chan error, 1)
	s.all.set(s.id, Peer{Addr: s.addr, Name: "name-" + s.id})
	go func(ended chan error) { ended <- n.Serve(context.Background(), lis) }(s.ended)
	t.Cleanup(n.Close)
}

// hangUp ends the network, and waits for it.
func (s *station) hangUp(t testing.TB) {
	t.Helper()
	s.n.Close()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the network does not end")
	}
}

// open opens the host and groups 0..groups-1; join: without a first voter.
func (s *station) open(t testing.TB, groups int, join bool) {
	t.Helper()
	cfg := testConfig(s.fs)
	cfg.NodeID, cfg.Heartbeat, cfg.Join, cfg.Network = s.id, cmp.Or(s.heartbeat, time.Second), join, s.n
	cfg.TrailingLogs, cfg.SnapshotCount = 1<<20, 1<<20 // whoever was away gets entries
	cfg.Logger = s.log.logger()
	s.h = openHost(t, cfg)
	s.ms, s.gs = map[stanza.Group]*toy{}, map[stanza.Group]*toyGroup{}
	for i := range groups {
		g := stanza.Group(i)
		m := newToy()
		x, err := Open[int, uint64](s.h, g, m)
		if err != nil {
			t.Fatal(err)
		}
		s.ms[g], s.gs[g] = m, x
	}
}

// close ends everything, as an orderly shutdown does.
func (s *station) close(t testing.TB) {
	t.Helper()
	if err := s.h.Close(); err != nil {
		t.Fatal(err)
	}
	s.hangUp(t)
}

// openStations opens three stations with replicas of all groups, the first of which leads.
func openStations(t testing.TB, groups int) []*station { return openStationsWith(t, groups, 0) }

func openStationsWith(t testing.TB, groups int, heartbeat time.Duration) []*station {
	t.Helper()
	ca, all := newAuthority(t), new(members)
	var ss []*station
	for i := range 3 {
		s := newStation(t, ca, all, fmt.Sprint("n", i))
		s.heartbeat = heartbeat
		s.open(t, groups, i > 0)
		ss = append(ss, s)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of %s:\n%.9000s", s.id, s.log.String())
			}
		})
	}
	for g := range ss[0].gs {
		awaitLead(t, ss[0].ms[g])
		for _, s := range ss[1:] {
			if err := ss[0].gs[g].raft.AddVoter(raft.ServerID(s.id), raft.ServerAddress(s.id), 0, 10*time.Second).Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return ss
}

// leads waits until one of the stations leads g.
func leads(t testing.TB, g stanza.Group, ss ...*station) *station {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) { // raft tells nobody outside
		for _, s := range ss {
			if _, ok := s.gs[g].Leading(); ok {
				return s
			}
		}
	}
	t.Fatalf("nobody leads %s", g)
	return nil
}

// commit proposes commands to g until n of them are committed; what fails because the leadership moves is tried again.
func commit(t testing.TB, g stanza.Group, n int, ss ...*station) {
	t.Helper()
	limit := time.Now().Add(60 * time.Second)
	for done := 0; done < n; {
		s := leads(t, g, ss...)
		got := make(chan Outcome, 1)
		onShard(t, s.gs[g], func() {
			s.ms[g].onDone = func(_ int, o Outcome) { got <- o }
			if !s.gs[g].Propose([]byte(fmt.Sprint("k", done)), 0) {
				got <- Rejected
			}
		})
		if <-got == Committed {
			done++
		}
		onShard(t, s.gs[g], func() { s.ms[g].onDone = nil })
		if time.Now().After(limit) {
			t.Fatalf("%s: %d of %d committed", g, done, n)
		}
	}
}

// concur waits until all have applied what the leader has, and compares their states.
func concur(t testing.TB, g stanza.Group, ss ...*station) {
	t.Helper()
	commit(t, g, 1, ss...)
	lead := leads(t, g, ss...)
	var at uint64
	onShard(t, lead.gs[g], func() { at = lead.gs[g].at })
	want := hashOf(t, lead.gs[g], lead.ms[g])
	for _, s := range ss {
		waitFor(t, s.gs[g], func() bool { return s.gs[g].at >= at })
		if got := hashOf(t, s.gs[g], s.ms[g]); got != want {
			t.Errorf("%s of %s: hash %x, the leader has %x", g, s.id, got, want)
		}
	}
}
