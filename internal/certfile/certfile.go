// Package certfile holds the certificate that a public listener shows: read from PEM files, followed when they change, so that a renewed one
// is used for new connections with no restart. What cannot be used changes nothing.
//
// Links between daemons have their certificates elsewhere: those of one cluster trust one CA, and are not renewed by somebody else.
package certfile

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Every is how often the files are looked at.
const Every = 10 * time.Second

// maxPEM bounds a file: what is longer is another one.
const maxPEM = 1 << 20

// Options say who is told. All are retained.
type Options struct {
	Logger *slog.Logger
	// Expiry is set to when the certificate in use ends, in seconds since 1970; nil: nowhere.
	Expiry prometheus.Gauge
	// Failures counts changed files that could not be used; nil: nowhere.
	Failures prometheus.Counter
}

// Pair is a certificate chain and its key. Current and Config are safe for concurrent use, Watch is for one goroutine.
type Pair struct {
	certFile, keyFile string
	opt               Options

	current atomic.Pointer[tls.Certificate]
	seen    [2][]byte // the files, as they were tried last
}

// Open reads the files.
func Open(certFile, keyFile string, opt Options) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile, opt: opt}
	if err := p.load(); err != nil {
		return nil, err
	}
	return p, nil
}

// load reads the files, and uses them if they are others than before. An error is told once for each content.
func (p *Pair) load() error {
	var now [2][]byte
	for i, path := range []string{p.certFile, p.keyFile} {
		b, err := os.ReadFile(path)
		if err == nil && len(b) > maxPEM {
			err = errors.New("it is larger than any certificate")
		}
		if err != nil {
			b = []byte(err.Error()) // so that it is told once
		}
		now[i] = b
	}
	if p.seen[0] != nil && bytes.Equal(p.seen[0], now[0]) && bytes.Equal(p.seen[1], now[1]) {
		return nil
	}
	p.seen = now
	pair, err := tls.X509KeyPair(now[0], now[1])
	if err != nil {
		return fmt.Errorf("TLS files %s, %s: %w", p.certFile, p.keyFile, err)
	}
	p.current.Store(&pair)
	if p.opt.Expiry != nil {
		p.opt.Expiry.Set(float64(pair.Leaf.NotAfter.Unix()))
	}
	p.opt.Logger.Info("TLS certificate in use", "expires", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// Watch follows the files until ctx ends.
func (p *Pair) Watch(ctx context.Context, every time.Duration) {
	look := time.NewTicker(every)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if err := p.load(); err != nil {
			if p.opt.Failures != nil {
				p.opt.Failures.Inc()
			}
			p.opt.Logger.Error("the TLS files changed and cannot be used; the certificate before them stays", "err", err)
		}
	}
}

// Current returns the certificate in use; it must not be changed.
func (p *Pair) Current() *tls.Certificate { return p.current.Load() }

// Config returns what a TLS listener needs.
func (p *Pair) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.Current(), nil },
	}
}
