package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"linecard.example/gateway/client"
)

// mediaLimits takes what mediad allows one account and one address out of the way; all load comes from few.
const mediaLimits = `quota = "1024GiB"
account_uploads = 65536
account_requests = 8192
source_connections = 8192
`

// mediaGrants has the gateway give grants for files of any size, which last for the run. Where the mediads are, the run knows itself.
const mediaGrants = `media_url = "http://localhost"
media_grant_life = "24h"
media_max = "1024GiB"
lookup_rate = 250
lookup_burst = 250
`

func (s *system) tlsCert() string { return filepath.Join(s.dir, "web.pem") }
func (s *system) tlsKey() string  { return filepath.Join(s.dir, "web.key") }

// prepareMedia makes keys and configurations of two mediads, without and with TLS, behind a router.
func (s *system) prepareMedia(o Options, keys, router string) error {
	if err := throwAwayCertificate(s.tlsCert(), s.tlsKey()); err != nil {
		return err
	}
	addrs, err := freeAddrs(4)
	if err != nil {
		return err
	}
	if err := o.run("keys", "issue", "mediad", "--dir", keys); err != nil {
		return err
	}
	s.media = []string{"http://" + addrs[0], "https://" + addrs[1]}
	for i, name := range []string{"mediad", "mediad-tls"} {
		text := fmt.Sprintf("data = %q\n[admin]\nlisten = %q\n[log]\n%s\n[links]\nkeys = %q\nname = \"mediad\"\nrouters = [%q]\n%s\n[media]\nlisten = %q\n%s%s",
			filepath.Join(s.dir, name+"-data"), addrs[2+i], o.Settings["log"], keys, router, o.Settings["links"], addrs[i], mediaLimits, o.Settings["media"])
		if i == 1 {
			text += fmt.Sprintf("tls_cert = %q\ntls_key = %q\n", s.tlsCert(), s.tlsKey())
		}
		if err := os.WriteFile(s.config(name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		s.daemons = append(s.daemons, &daemon{
			name: name, part: name, exe: o.Exe, admin: addrs[2+i], log: filepath.Join(s.dir, name+".log"), args: []string{"mediad", "--config", s.config(name)},
		})
	}
	return nil
}

// mediaServers returns the mediads as servers of files, to which a session of the gateway has the grants. The first one's close ends it.
func (s *system) mediaServers(ctx context.Context) ([]*webServer, error) {
	roots, err := client.ReadRoots(filepath.Join(s.dir, "keys", "root.pub"))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	home, err := client.OpenHome(filepath.Join(s.dir, "home"))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	c, err := client.Open(ctx, client.Options{Home: home, Address: s.servers[0].String(), Handle: "bench", Roots: roots})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %w", err), home.Close())
	}
	stop := func() error {
		c.Close()
		return home.Close()
	}
	upload, err := c.UploadGrant(ctx, 1<<30)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: %w", err), stop())
	}
	var all []*webServer
	for i, base := range s.media {
		w := &webServer{key: "media", name: "mediad", client: webClient(i == 1), root: s.daemon("mediad").pid}
		if i == 1 {
			w.key, w.name, w.root = "media_tls", "mediad, TLS", s.daemon("mediad-tls").pid
		}
		w.putURL = func(*webFile) (string, error) { return base + "/v1/blobs?grant=" + upload.Text, nil }
		w.taken = func(f *webFile, answer []byte) error { return f.named(answer) }
		w.getURL = func(f *webFile) (string, error) { return f.granted(ctx, base, c.DownloadGrant) }
		w.remove = func(ctx context.Context, f *webFile) error { return w.drop(ctx, f, base, c.DeleteGrant) }
		all = append(all, w)
	}
	all[0].closeServer = stop
	return all, nil
}

// named takes the blob's name out of mediad's answer.
func (f *webFile) named(answer []byte) error {
	var a struct{ Blob string }
	if err := json.Unmarshal(answer, &a); err != nil {
		return fmt.Errorf("%w: %w: %.200s", errMedia, err, answer)
	}
	if b, err := hex.DecodeString(a.Blob); err != nil || len(b) != client.BlobSize {
		return fmt.Errorf("%w: no blob's name: %.200s", errMedia, answer)
	}
	f.where = a.Blob
	return nil
}

// granted returns the pre-signed URL of a file that was taken, the same one every time.
func (f *webFile) granted(ctx context.Context, base string, ask func(context.Context, [client.BlobSize]byte) (*client.Grant, error)) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.url == "" {
		g, err := ask(ctx, f.blob())
		if err != nil {
			return "", err
		}
		f.url = base + "/v1/blobs/" + f.where + "?grant=" + g.Text
	}
	return f.url, nil
}

func (f *webFile) blob() (b [client.BlobSize]byte) {
	_, _ = hex.Decode(b[:], []byte(f.where)) // checked by named
	return b
}

// drop ends the hold on a file.
func (s *webServer) drop(ctx context.Context, f *webFile, base string, ask func(context.Context, [client.BlobSize]byte) (*client.Grant, error)) error {
	g, err := ask(ctx, f.blob())
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, base+"/v1/blobs/"+f.where+"?grant="+g.Text, nil)
	if err != nil {
		return err
	}
	_, err = s.do(req, 64<<10)
	return err
}

// throwAwayTLS trusts anybody: both ends are this run's.
func throwAwayTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
}

// throwAwayCertificate writes a certificate for the run.
func throwAwayCertificate(cert, key string) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &k.PublicKey, k)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return errors.Join(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}
