package link

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// recorder is a Handler that keeps what it sees and checks the order of its calls.
type recorder struct {
	t        testing.TB
	onUp     func(*Stream)
	onBatch  func(*Stream, []Envelope)
	onDown   func(*Stream, error)
	autoDone bool

	mu     sync.Mutex
	open   map[*Stream]bool
	ups    []*Stream
	downs  []error
	got    []Envelope
	change chan struct{} // closed and replaced at each event
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, open: map[*Stream]bool{}, change: make(chan struct{})}
}

func (r *recorder) event() { close(r.change); r.change = make(chan struct{}) }

func (r *recorder) Up(s *Stream) {
	r.mu.Lock()
	if _, seen := r.open[s]; seen {
		r.t.Error("Up twice")
	}
	r.open[s] = true
	r.ups = append(r.ups, s)
	r.event()
	r.mu.Unlock()
	if r.onUp != nil {
		r.onUp(s)
	}
}

func (r *recorder) Receive(s *Stream, batch []Envelope) {
	if len(batch) == 0 || len(batch) > maxBatch {
		r.t.Errorf("batch of %d", len(batch))
	}
	r.mu.Lock()
	if !r.open[s] {
		r.t.Error("Receive on a stream that is not up")
	}
	r.got = append(r.got, batch...)
	r.event()
	r.mu.Unlock()
	if r.onBatch != nil {
		r.onBatch(s, batch)
	}
	if r.autoDone {
		for i := range batch {
			s.Done(batch[i].Group, batch[i].Size())
		}
	}
}

func (r *recorder) Down(s *Stream, err error) {
	r.mu.Lock()
	if !r.open[s] {
		r.t.Error("Down without Up")
	}
	if err == nil {
		r.t.Error("Down without a reason")
	}
	r.open[s] = false
	r.downs = append(r.downs, err)
	r.event()
	r.mu.Unlock()
	if r.onDown != nil {
		r.onDown(s, err)
	}
}

// await waits until cond, called under the lock, is true.
func (r *recorder) await(what string, cond func() bool) {
	r.t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for {
		r.mu.Lock()
		ok, change := cond(), r.change
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-limit.C:
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// count returns how many envelopes came.
func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func (r *recorder) stream(i int) *Stream {
	r.t.Helper()
	r.await("Up", func() bool { return len(r.ups) > i })
	return r.ups[i]
}

func (r *recorder) envelopes(n int) []Envelope {
	r.t.Helper()
	r.await("envelopes", func() bool { return len(r.got) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func info(r Role) Info {
	return Info{Role: r, Node: uint64(r), Incarnation: 7, Shards: 4, Cluster: "test"}
}

func message(id uint64) *Envelope {
	return &Envelope{
		Kind: KindMessage, Group: stanza.DirGroup(1), Slot: 9, Gen: 2, Account: 1 << 20, Device: 1, ID: id, Charge: 80,
		Payload: []byte("a stanza that goes from one daemon to another as it is, about as long as most of them are."),
	}
}

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
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: cert, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// config returns a configuration for either side, with a certificate for the loopback address.
func (a *authority) config(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "daemon"}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"daemon"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      a.pool, ClientCAs: a.pool,
	}
}
