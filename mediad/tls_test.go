package mediad

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// writeCert makes a certificate of its own with a serial number, and its key, in dir.
func writeCert(t testing.TB, dir string, serial int64) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	mustDo(t, err)
	from := time.Now().Add(-time.Hour)
	c := x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: from, NotAfter: from.Add(time.Duration(serial) * 24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, &private.PublicKey, private)
	mustDo(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	mustDo(t, err)
	cert, key = filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key")
	putFile(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	putFile(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	return cert, key
}

// putFile has b in a file at once: nobody sees it empty or half written.
func putFile(t testing.TB, path string, b []byte) {
	t.Helper()
	mustDo(t, os.WriteFile(path+".new", b, 0o600))
	mustDo(t, os.Rename(path+".new", path))
}

// withTLS makes a site speak TLS, or not. Its client believes any certificate.
func withTLS(t testing.TB, on bool) func(*Config) {
	return func(c *Config) {
		if on {
			c.TLSCert, c.TLSKey = writeCert(t, t.TempDir(), 1)
		}
	}
}

// TestHTTP2: all of it works over HTTP/2, and the client may send no more than what is bounded.
func TestHTTP2(t *testing.T) {
	s := newSite(t, withTLS(t, true))
	transport := s.client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = true
	data := bytesOf(6, 5<<20+1)
	h := s.put(data)
	a := s.do("GET", blobsPath+"/"+h.String(), s.downloadGrant(h), head{"Range", "bytes=1000-"}, nil)
	if s.wantStatus(a, http.StatusPartialContent); a.ProtoMajor != 2 || a.body != string(data[1000:]) {
		t.Fatalf("HTTP/%d, %d bytes", a.ProtoMajor, len(a.body))
	}
	path := s.begin(20)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, "01234") }()
	lost := make(chan error, 1)
	go func() {
		_, err := s.try(ctx, "PATCH", path, s.uploadGrant(1), tus("Upload-Offset", "0", "Content-Type", patchType), r)
		lost <- err
	}()
	s.until(func() bool { return counter(s.count.bytesIn) == len(data)+5 })
	if got := s.offsetOf(path); got != "5" { // takes over
		t.Errorf("offset %s", got)
	}
	cancel()
	<-lost
	s.wantStatus(s.push(path, 5, "567890123456789"), http.StatusNoContent)
	s.want(s.do("GET", blobsPath+"/"+h.String(), "", nil, nil), NoGrant)
	s.want(s.do("PUT", blobsPath, s.uploadGrant(1000), nil, make([]byte, 200<<10)), TooLarge)
	s.wantStatus(s.do("OPTIONS", uploadsPath, "", nil, nil), http.StatusNoContent)
	if n := gauge(s.count.connections); n != 1 {
		t.Errorf("%d connections: a refusal must not end the others' streams", n)
	}
	s.idle()
}

// TestHTTP2Bounds reads the server's SETTINGS and the window of the connection: they are what clients may have unread in memory.
func TestHTTP2Bounds(t *testing.T) {
	s := newSite(t, withTLS(t, true))
	c, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	mustDo(t, err)
	defer c.Close()
	mustDo(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	mustDo(t, err)
	const settings, windowUpdate = 4, 8
	got, window := map[uint16]uint32{}, 65535
	for seen := 0; seen < 2; {
		var header [9]byte
		_, err := io.ReadFull(c, header[:])
		mustDo(t, err)
		body := make([]byte, int(header[0])<<16|int(header[1])<<8|int(header[2]))
		_, err = io.ReadFull(c, body)
		mustDo(t, err)
		switch {
		case header[3] == settings && header[4] == 0:
			for ; len(body) > 0; body = body[6:] {
				got[binary.BigEndian.Uint16(body)] = binary.BigEndian.Uint32(body[2:])
			}
			seen++
		case header[3] == windowUpdate:
			window += int(binary.BigEndian.Uint32(body))
			seen++
		}
	}
	const maxStreams, streamWindow, maxFrame = 3, 4, 5
	if got[maxStreams] != uint32(s.cfg.AccountRequests) || got[streamWindow] != 64<<10 || got[maxFrame] != 16<<10 || window != s.cfg.HTTP2Window.Int() {
		t.Errorf("settings %v, window of the connection %d", got, window)
	}
}

// serialOf connects and returns the number of the certificate that is shown.
func (s *site) serialOf() int64 {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	mustDo(s.t, err)
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// TestCertificateReload: renewed files are used for new connections, files that are no pair change nothing and are told once.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCert(t, dir, 1)
	s := newSiteWith(t, func(s *Server) { s.tlsEvery = time.Millisecond }, func(c *Config) { c.TLSCert, c.TLSKey = cert, key })
	old := s.dial()
	mustDo(t, old.(*tls.Conn).Handshake())
	if n := s.serialOf(); n != 1 {
		t.Fatalf("certificate %d", n)
	}
	writeCert(t, dir, 2)
	s.until(func() bool { return s.serialOf() == 2 })
	if want := time.Now().Add(47 * time.Hour).Unix(); int64(gauge(s.count.certificate)) > want+60 || int64(gauge(s.count.certificate)) < want-600 {
		t.Errorf("expires %d, want about %d", gauge(s.count.certificate), want)
	}
	putFile(t, cert, []byte("half a renewal"))
	s.until(func() bool { return testutil.ToFloat64(s.count.reloads) > 0 })
	if n := s.serialOf(); n != 2 {
		t.Errorf("certificate %d after one that cannot be used", n)
	}
	writeCert(t, dir, 3)
	s.until(func() bool { return s.serialOf() == 3 })
	if n := strings.Count(s.log.String(), "cannot be used"); n < 1 || n > 3 { // half a renewal, and each time at most one pair of an old and a new file
		t.Errorf("%d lines", n)
	}
	_, err := io.WriteString(old, "OPTIONS /v1/uploads HTTP/1.1\r\nHost: x\r\n\r\n") // connections stay
	mustDo(t, err)
	s.wantStatus(s.answerOn(old), http.StatusNoContent)
}

func TestCertificateAtStart(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Listen, cfg.TLSCert, cfg.TLSKey = "127.0.0.1:0", filepath.Join(dir, "none.pem"), filepath.Join(dir, "none.key")
	if _, err := New(cfg, Deps{Dir: dir}); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Fatalf("%v", err)
	}
}
