package node

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"linecard.example/internal/wire"
)

// Key files have no checksum of their own. Each is held against what it must agree with, its signature or its other half, and must be
// written exactly as it would be written again; so a changed bit is found at the start of the process that uses the file, and not by
// each client or peer, or a year later.

// damagedKey names a file that cannot be what was written, and what to do.
func damagedKey(path, why string) error {
	return fmt.Errorf("keys: %s is damaged: %s; restore it from a backup, or issue it again (linecard keys issue; not root and ca)", path, why)
}

// checkOwn checks every key file of `up`, of which some are used a year later only.
func checkOwn(dir, name string) error {
	root, err := checkRoot(dir)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name+".cert")
	_, signed, err := readSecret(path, "linecard-certificate", 0)
	if err != nil {
		return err
	}
	if c, _, err := wire.ParseCertificate(signed); err != nil || !bytes.Equal(c.Root[:], root) {
		return damagedKey(path, "its root is not that of "+fileRootPub)
	}
	if _, err := authority(dir); err != nil {
		return err
	}
	if _, err := keyPair(dir, fileCA, fileCAKey); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = leafPair(dir, name)
	return err
}

// checkRoot returns the root of root.pub, which root.key must be the secret half of where it is kept here.
func checkRoot(dir string) (ed25519.PublicKey, error) {
	path := filepath.Join(dir, fileRootPub)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	cluster, root, err := wire.ParseRootLine(string(text))
	if err != nil || string(text) != wire.FormatRootLine(cluster, root)+"\n" {
		return nil, damagedKey(path, "it is not the line of a root")
	}
	owner, seed, err := readSecret(filepath.Join(dir, fileRootKey), "linecard-root-key", ed25519.SeedSize)
	if errors.Is(err, fs.ErrNotExist) {
		return root, nil // in a safe
	}
	if err != nil {
		return nil, err
	}
	if owner != cluster || !root.Equal(ed25519.NewKeyFromSeed(seed).Public()) {
		return nil, damagedKey(path, "it does not belong to "+fileRootKey+", or that one is damaged")
	}
	return root, nil
}

// authority returns the certificates of ca.pem; there are several while one replaces another.
func authority(dir string) ([]*x509.Certificate, error) {
	path := filepath.Join(dir, fileCA)
	blocks, err := readPEM(path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for _, der := range blocks {
		c, err := x509.ParseCertificate(der)
		if err == nil {
			err = c.CheckSignatureFrom(c)
		}
		if err != nil {
			return nil, damagedKey(path, err.Error())
		}
		all = append(all, c)
	}
	return all, nil
}

// leafPair returns the certificate of a daemon's links with its key; one of the authorities signed it.
func leafPair(dir, name string) (tls.Certificate, error) {
	pair, err := keyPair(dir, name+".pem", name+".key")
	if err != nil {
		return tls.Certificate{}, err
	}
	all, err := authority(dir)
	if err != nil {
		return tls.Certificate{}, err
	}
	if !slices.Contains(pair.Leaf.DNSNames, name) {
		return tls.Certificate{}, fmt.Errorf("keys: %s was issued for %q: issue one for %q", filepath.Join(dir, name+".pem"), pair.Leaf.Subject.CommonName, name)
	}
	for _, ca := range all {
		if pair.Leaf.CheckSignatureFrom(ca) == nil {
			return pair, nil
		}
	}
	return tls.Certificate{}, damagedKey(filepath.Join(dir, name+".pem"), "its signature is not one of "+fileCA)
}

// keyPair reads a certificate and its key.
func keyPair(dir, certName, keyName string) (tls.Certificate, error) {
	certPath, keyPath := filepath.Join(dir, certName), filepath.Join(dir, keyName)
	certs, err := readPEM(certPath, "CERTIFICATE")
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(certs[0])
	if err != nil {
		return tls.Certificate{}, damagedKey(certPath, err.Error())
	}
	keys, err := readPEM(keyPath, "PRIVATE KEY")
	if err != nil {
		return tls.Certificate{}, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keys[0])
	if err != nil {
		return tls.Certificate{}, damagedKey(keyPath, err.Error())
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return tls.Certificate{}, damagedKey(keyPath, "it is not an ECDSA key")
	}
	if again, err := x509.MarshalPKCS8PrivateKey(key); err != nil || !bytes.Equal(again, keys[0]) {
		return tls.Certificate{}, damagedKey(keyPath, "its halves do not belong together")
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return tls.Certificate{}, damagedKey(keyPath, "it is not the key of "+certName+", or that one is damaged")
	}
	return tls.Certificate{Certificate: certs, PrivateKey: key, Leaf: leaf}, nil
}

// readPEM returns the blocks of a file that holds nothing else.
func readPEM(path, kind string) (blocks [][]byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	var again strings.Builder
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != kind {
			return nil, damagedKey(path, fmt.Sprintf("%q is not %q", b.Type, kind))
		}
		blocks = append(blocks, b.Bytes)
		again.Write(pem.EncodeToMemory(b))
	}
	if len(blocks) == 0 || again.String() != string(text) {
		return nil, damagedKey(path, "it is not made of PEM blocks "+kind+" alone")
	}
	return blocks, nil
}
