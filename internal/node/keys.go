package node

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/flynn/noise"

	"linecard.example/internal/wire"
)

// Names of the files in a key directory. The keys of a daemon are NAME.key and NAME.pem (links) and, for a gateway, NAME.static
// (its Noise key) and NAME.cert (the root's signature of that).
const (
	fileRootKey = "root.key"
	fileRootPub = "root.pub"
	fileCAKey   = "ca.key"
	fileCA      = "ca.pem"
)

// Lifetimes of what is issued. Renewal is issuing again and restarting the daemon.
const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 397 * 24 * time.Hour
)

var (
	nameRule    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)
	clusterRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)
)

// ErrKeysExist is returned by InitKeys for a directory that has keys already: replacing them would lock every client out.
var ErrKeysExist = errors.New("keys exist already")

// InitKeys makes the keys of a cluster in dir: root.key and root.pub (Ed25519, signs the certificates of gateways), ca.key and
// ca.pem (ECDSA P-256, signs the certificates of links). All files have mode 0600. It changes nothing when any of them exists.
func InitKeys(dir, cluster string, now time.Time) error {
	if !clusterRule.MatchString(cluster) {
		return fmt.Errorf("cluster name %q: want 1 to 64 of a-z A-Z 0-9 . _ -", cluster)
	}
	for _, name := range []string{fileRootKey, fileRootPub, fileCAKey, fileCA} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s", ErrKeysExist, filepath.Join(dir, name))
		}
	}
	pub, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("root key: %w", err)
	}
	caKey, ca, err := newAuthority(cluster, now)
	if err != nil {
		return err
	}
	// The directory appears whole or not at all: a crash here must not leave half a cluster behind.
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(dir)), 0o700); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".keys-")
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	defer os.RemoveAll(fresh) // nothing is left of it after the rename
	err = errors.Join(
		writeFile(filepath.Join(fresh, fileRootKey), encodeSecret("linecard-root-key", cluster, root.Seed()), 0o600),
		writeFile(filepath.Join(fresh, fileCAKey), caKey, 0o600),
		writeFile(filepath.Join(fresh, fileCA), ca, 0o600),
		writeFile(filepath.Join(fresh, fileRootPub), []byte(wire.FormatRootLine(cluster, pub)+"\n"), 0o600),
	)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return fmt.Errorf("keys: %s must be empty or not exist: %w", dir, err)
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
}

// IssueKeys makes the keys of the daemon name from the cluster's keys in dir: name.key and name.pem for links, name.static and
// name.cert for a gateway. It replaces earlier ones of that name; clients do not notice, since they pin the root.
func IssueKeys(dir, name string, now time.Time) error {
	if !nameRule.MatchString(name) || name == "root" || name == "ca" {
		return fmt.Errorf("name %q: want 1 to 63 of a-z 0-9 . -, other than root and ca", name)
	}
	if _, err := checkRoot(dir); err != nil {
		return err
	}
	cluster, seed, err := readSecret(filepath.Join(dir, fileRootKey), "linecard-root-key", ed25519.SeedSize)
	if err != nil {
		return err
	}
	key, leaf, err := issueLeaf(dir, name, now)
	if err != nil {
		return err
	}
	static, err := wire.GenerateKeypair(rand.Reader)
	if err != nil {
		return fmt.Errorf("static key: %w", err)
	}
	cert := wire.Certificate{
		Static: [32]byte(static.Public), Serial: randomID(), Cluster: cluster,
		NotBefore: now.Add(-time.Hour).Unix(), NotAfter: now.Add(leafLifetime).Unix(),
	}
	signed := base64.StdEncoding.EncodeToString(cert.Sign(ed25519.NewKeyFromSeed(seed)))
	// Two and two belong together, so all are on the disk before the first takes its name.
	return writeFiles(dir, 0o600, map[string][]byte{
		name + ".key": key, name + ".pem": leaf,
		name + ".static": encodeSecret("linecard-static-key", name, static.Private),
		name + ".cert":   []byte("linecard-certificate " + name + " " + signed + "\n"),
	})
}

var errExpired = errors.New("expired")

// gatewayKeys reads what a gateway shows to its clients.
func gatewayKeys(dir, name string, now time.Time) (noise.DHKey, []byte, error) {
	staticPath, certPath := filepath.Join(dir, name+".static"), filepath.Join(dir, name+".cert")
	owner, private, err := readSecret(staticPath, "linecard-static-key", 32)
	if err != nil {
		return noise.DHKey{}, nil, err
	}
	if owner != name {
		return noise.DHKey{}, nil, damagedKey(staticPath, "it is of "+owner)
	}
	owner, signed, err := readSecret(certPath, "linecard-certificate", 0)
	if err != nil {
		return noise.DHKey{}, nil, err
	}
	if owner != name {
		return noise.DHKey{}, nil, damagedKey(certPath, "it is of "+owner)
	}
	cert, _, err := wire.ParseCertificate(signed)
	if err == nil { // by the root that it names: clients know whether that is theirs
		_, _, err = wire.VerifyCertificate(signed, cert.Static[:], []ed25519.PublicKey{cert.Root[:]}, cert.Cluster, time.Unix(cert.NotBefore, 0))
	}
	if err != nil {
		return noise.DHKey{}, nil, damagedKey(certPath, err.Error())
	}
	public := wire.PublicKey([32]byte(private))
	if public != cert.Static {
		return noise.DHKey{}, nil, fmt.Errorf("%s is not the certificate of %s.static; issue the keys again", filepath.Join(dir, name+".cert"), name)
	}
	if now.Unix() > cert.NotAfter {
		return noise.DHKey{}, nil, fmt.Errorf("%s %w on %s; issue the keys again", filepath.Join(dir, name+".cert"), errExpired, time.Unix(cert.NotAfter, 0).UTC().Format(time.DateOnly))
	}
	return noise.DHKey{Private: private, Public: public[:]}, signed, nil
}

// checkCluster refuses a certificate of another cluster: clients would refuse it, one after the other.
func checkCluster(cert []byte, cluster string) error {
	c, _, err := wire.ParseCertificate(cert)
	if err == nil && c.Cluster != cluster {
		err = fmt.Errorf("the keys are of cluster %q, the configuration says %q", c.Cluster, cluster)
	}
	return err
}

// linkTLS returns the configuration of links for name: both sides show a certificate of the cluster's authority. With one that has expired
// nobody would speak to the process, so it does not start.
func linkTLS(dir, name string, now time.Time) (*tls.Config, error) {
	pair, err := leafPair(dir, name)
	if err != nil {
		return nil, err
	}
	all, err := authority(dir)
	if err != nil {
		return nil, err
	}
	if end := pair.Leaf.NotAfter; now.After(end) {
		return nil, fmt.Errorf("%s %w on %s; issue the keys again", filepath.Join(dir, name+".pem"), errExpired, end.UTC().Format(time.DateOnly))
	}
	pool, last := x509.NewCertPool(), time.Time{}
	for _, ca := range all {
		pool.AddCert(ca)
		if pair.Leaf.CheckSignatureFrom(ca) == nil && ca.NotAfter.After(last) {
			last = ca.NotAfter
		}
	}
	if now.After(last) {
		return nil, fmt.Errorf("%s %w on %s: the cluster needs a new authority", filepath.Join(dir, fileCA), errExpired, last.UTC().Format(time.DateOnly))
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, ServerName: linkName,
	}, nil
}

// linkName stands in each link certificate: the authority signs daemons only, their addresses may change.
const linkName = "linecard-link"

func newAuthority(cluster string, now time.Time) (keyPEM, certPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("authority key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetUint64(randomID()), Subject: pkix.Name{CommonName: "linecard " + cluster},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLifetime), IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return encodePair(template, template, key, key)
}

func issueLeaf(dir, name string, now time.Time) (keyPEM, certPEM []byte, err error) {
	pair, err := keyPair(dir, fileCA, fileCAKey)
	if err != nil {
		return nil, nil, err
	}
	caKey, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("authority: %s is not an ECDSA key", filepath.Join(dir, fileCAKey))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("link key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetUint64(randomID()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{linkName, name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(leafLifetime), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	return encodePair(template, pair.Leaf, key, caKey)
}

func encodePair(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (keyPEM, certPEM []byte, err error) {
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), nil
}

// encodeSecret writes a key as one line: what it is, whose, and the bytes in base64.
func encodeSecret(kind, owner string, raw []byte) []byte {
	return []byte(kind + " " + owner + " " + base64.StdEncoding.EncodeToString(raw) + "\n")
}

// readSecret reads a line of encodeSecret. size 0 accepts any length.
func readSecret(path, kind string, size int) (owner string, raw []byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("keys: %w", err)
	}
	fields := strings.Fields(string(text))
	if len(fields) != 3 || fields[0] != kind {
		return "", nil, damagedKey(path, fmt.Sprintf("want one line %q", kind+" NAME BASE64"))
	}
	raw, err = base64.StdEncoding.DecodeString(fields[2])
	if err != nil || (size != 0 && len(raw) != size) || !bytes.Equal(text, encodeSecret(kind, fields[1], raw)) {
		return "", nil, damagedKey(path, fmt.Sprintf("its key is not %d bytes of base64", size))
	}
	return fields[1], raw, nil
}

// upName is the name of the keys that `up` makes for itself.
const upName = "up"

// renewBefore is how long before its end `up` replaces its own certificate, at a start.
const renewBefore = 30 * 24 * time.Hour

// EnsureKeys makes the keys of a cluster of one process at the first start of `up`, in the key directory, and a copy of root.pub in
// the data directory for clients to find. Later starts change nothing but a certificate that is about to expire; clients do not
// notice.
func EnsureKeys(cfg Config) error { return ensureKeys(cfg, time.Now()) }

func ensureKeys(cfg Config, now time.Time) error {
	dir := cfg.keyDir()
	if _, err := cfg.checkFacts(); err != nil {
		return err // nothing of it is ours to change
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileRootPub)); errors.Is(err, fs.ErrNotExist) {
		if err := InitKeys(dir, cfg.Cluster, now); err != nil {
			return err
		}
	}
	if _, _, err := gatewayKeys(dir, upName, now.Add(renewBefore)); errors.Is(err, fs.ErrNotExist) || errors.Is(err, errExpired) {
		if err := IssueKeys(dir, upName, now); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := checkOwn(dir, upName); err != nil {
		return err
	}
	line, err := os.ReadFile(filepath.Join(dir, fileRootPub))
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	copied := filepath.Join(cfg.Data, fileRootPub)
	if have, err := os.ReadFile(copied); err == nil && bytes.Equal(have, line) {
		return nil // a full disk must not keep the process from starting
	}
	return writeFile(copied, line, 0o600)
}

// RootFingerprint returns the fingerprint of the root that clients pin, empty when root.pub cannot be read.
func (n *Node) RootFingerprint() string {
	text, err := os.ReadFile(filepath.Join(n.cfg.keyDir(), fileRootPub))
	if err != nil {
		return ""
	}
	_, root, err := wire.ParseRootLine(strings.TrimSpace(string(text)))
	if err != nil {
		return ""
	}
	return wire.Fingerprint(root)
}
