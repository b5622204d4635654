package certfile

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// write puts a new certificate with a serial number into the files.
func write(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRenewal: changed files are used, what cannot be used is counted once and changes nothing.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	if _, err := Open(cert, key, Options{Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("files that are not there are opened")
	}
	write(t, cert, key, 1)
	failures := prometheus.NewCounter(prometheus.CounterOpts{Name: "f"})
	synctest.Test(t, func(t *testing.T) {
		p, err := Open(cert, key, Options{Logger: slog.New(slog.DiscardHandler), Failures: failures})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Watch(ctx, Every)
		look := func(when string, serial int64, failed float64) {
			t.Helper()
			time.Sleep(3 * Every)
			synctest.Wait()
			var m dto.Metric
			_ = failures.Write(&m)
			if got := p.Current().Leaf.SerialNumber.Int64(); got != serial || m.Counter.GetValue() != failed {
				t.Errorf("%s: certificate %d, %v failures; want %d, %v", when, got, m.Counter.GetValue(), serial, failed)
			}
		}
		look("at first", 1, 0)
		write(t, cert, key, 2)
		look("renewed", 2, 0)
		if err := os.WriteFile(cert, []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
		look("broken", 2, 1)
		write(t, cert, key, 3)
		look("renewed after that", 3, 1)
	})
}
