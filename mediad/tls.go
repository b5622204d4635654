package mediad

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
)

// tlsEvery is how often the TLS files are looked at.
const tlsEvery = 10 * time.Second

// maxPEM bounds a TLS file: what is longer is another one.
const maxPEM = 1 << 20

// certificate is the one that the listener shows. It follows its files: a renewed one is used for new connections, with no restart, and
// one that cannot be used changes nothing. current is safe for concurrent use, load is for one goroutine.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	count             *counters

	current atomic.Pointer[tls.Certificate]
	seen    [2][]byte // the files, as they were tried last
}

// load reads the files, and uses them if they are others than before. An error is told once for each content.
func (c *certificate) load() error {
	var now [2][]byte
	for i, path := range []string{c.certFile, c.keyFile} {
		b, err := os.ReadFile(path)
		if err == nil && len(b) > maxPEM {
			err = errors.New("it is larger than any certificate")
		}
		if err != nil {
			b = []byte(err.Error()) // so that it is told once
		}
		now[i] = b
	}
	if c.seen[0] != nil && bytes.Equal(c.seen[0], now[0]) && bytes.Equal(c.seen[1], now[1]) {
		return nil
	}
	c.seen = now
	pair, err := tls.X509KeyPair(now[0], now[1])
	if err != nil {
		return fmt.Errorf("TLS files %s, %s: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&pair)
	c.count.certificate.Set(float64(pair.Leaf.NotAfter.Unix()))
	c.log.Info("TLS certificate in use", "expires", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// watch follows the files until ctx ends.
func (c *certificate) watch(ctx context.Context, every time.Duration) {
	for rest(ctx, every) {
		if err := c.load(); err != nil {
			c.count.reloads.Inc()
			c.log.Error("the TLS files changed and cannot be used; the certificate before them stays", "err", err)
		}
	}
}

// config is what a listener needs.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
