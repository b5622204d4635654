package client

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"linecard.example/internal/wire"
)

// Root is a key that signs the certificates of a cluster's gateways.
type Root struct {
	Cluster string // 1 to 64 bytes of printable ASCII without space
	Key     ed25519.PublicKey
}

// Fingerprint returns what people compare: "SHA256:" and base64.
func (r Root) Fingerprint() string { return wire.Fingerprint(r.Key) }

// ParseRoots reads the lines of a root file ("linecard-root CLUSTER BASE64", as linecard up writes root.pub). Empty lines and those that
// begin with # are skipped. At least one root is wanted, and all of them of one cluster.
func ParseRoots(text []byte) ([]Root, error) {
	var roots []Root
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cluster, key, err := wire.ParseRootLine(line)
		if err != nil {
			return nil, err
		}
		roots = append(roots, Root{Cluster: cluster, Key: key})
	}
	if len(roots) == 0 {
		return nil, errors.New("no root key in it")
	}
	for _, r := range roots[1:] {
		if r.Cluster != roots[0].Cluster {
			return nil, fmt.Errorf("roots of two clusters, %q and %q", roots[0].Cluster, r.Cluster)
		}
	}
	return roots, nil
}

// ReadRoots is ParseRoots for a file.
func ReadRoots(path string) ([]Root, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("root file: %w", err)
	}
	roots, err := ParseRoots(text)
	if err != nil {
		return nil, fmt.Errorf("root file %s: %w", path, err)
	}
	return roots, nil
}

// Roots returns the pinned roots; none before first use.
func (h *Home) Roots() []Root {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.roots)
}

// Pin makes the Home trust roots, besides those it trusts already. Roots of another cluster than the pinned ones are ErrRoots: a Home
// belongs to one cluster. The pins are on disk when Pin returns.
func (h *Home) Pin(roots ...Root) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(h.roots)
	for _, r := range roots {
		if len(all) > 0 && all[0].Cluster != r.Cluster {
			return fmt.Errorf("%w: %q, the root given is of %q", ErrRoots, all[0].Cluster, r.Cluster)
		}
		if !slices.ContainsFunc(all, func(p Root) bool { return bytes.Equal(p.Key, r.Key) }) {
			all = append(all, r)
		}
	}
	if len(all) == len(h.roots) {
		return nil
	}
	if h.dir != "" {
		var text strings.Builder
		for _, r := range all {
			text.WriteString(wire.FormatRootLine(r.Cluster, r.Key) + "\n")
		}
		if err := writeFile(h.path("roots"), []byte(text.String())); err != nil {
			return fmt.Errorf("home: %w", err)
		}
	}
	h.roots = all
	return nil
}

// readRoots loads the pins of a Home that has a directory.
func (h *Home) readRoots() error {
	text, err := os.ReadFile(h.path("roots"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("home: %w", err)
	}
	if h.roots, err = ParseRoots(text); err != nil {
		return fmt.Errorf("%w: roots: %w", ErrHomeCorrupt, err)
	}
	return nil
}

// judge decides about a server before the client shows who it is. With trustFirst a Home without pins pins what the server presents,
// provided that the certificate is good under that root. Errors: *NoRootError, *CertificateError, or of the disk.
func (h *Home) judge(static, cert []byte, trustFirst bool, now time.Time) error {
	seen, _, err := wire.ParseCertificate(cert)
	if err != nil {
		return &CertificateError{Err: err}
	}
	root := Root{Cluster: seen.Cluster, Key: seen.Root[:]}
	pinned := h.Roots()
	if len(pinned) == 0 && !trustFirst {
		return &NoRootError{Cluster: seen.Cluster, Fingerprint: root.Fingerprint()}
	}
	judges := pinned
	if len(pinned) == 0 {
		judges = []Root{root}
	}
	keys := make([]ed25519.PublicKey, len(judges))
	for i := range judges {
		keys[i] = judges[i].Key
	}
	if _, _, err := wire.VerifyCertificate(cert, static, keys, judges[0].Cluster, now); err != nil {
		return &CertificateError{Fingerprint: root.Fingerprint(), Err: err}
	}
	if len(pinned) == 0 {
		return h.Pin(root)
	}
	return nil
}
