package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const rootWord = "linecard-root"

// ErrRootLine: not a line that FormatRootLine writes.
var ErrRootLine = errors.New("wire: not a root key line (want: " + rootWord + " CLUSTER BASE64)")

// CheckCluster reports what is wrong with the name of a cluster: 1 to MaxCluster bytes of printable ASCII without space.
func CheckCluster(name string) error {
	if len(name) == 0 || len(name) > MaxCluster {
		return fmt.Errorf("wire: a cluster name has 1 to %d bytes, not %d", MaxCluster, len(name))
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return fmt.Errorf("wire: cluster name %q: only printable ASCII without space", name)
		}
	}
	return nil
}

// Fingerprint returns what people compare: "SHA256:" and the unpadded base64 of SHA-256 over the root's public key.
func Fingerprint(root ed25519.PublicKey) string {
	h := sha256.Sum256(root)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(h[:])
}

// FormatRootLine returns "linecard-root CLUSTER BASE64" without a line end. It panics on a bad cluster name or key.
func FormatRootLine(cluster string, root ed25519.PublicKey) string {
	if err := CheckCluster(cluster); err != nil {
		panic(err)
	}
	if len(root) != ed25519.PublicKeySize {
		panic("wire: root key of a wrong size")
	}
	return rootWord + " " + cluster + " " + base64.StdEncoding.EncodeToString(root)
}

// ParseRootLine reads what FormatRootLine writes; white space around and between the words does not matter. Error: ErrRootLine.
func ParseRootLine(line string) (cluster string, root ed25519.PublicKey, err error) {
	words := strings.Fields(line)
	if len(words) != 3 || words[0] != rootWord {
		return "", nil, ErrRootLine
	}
	if err := CheckCluster(words[1]); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrRootLine, err)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(words[2])
	if err != nil || len(key) != ed25519.PublicKeySize {
		return "", nil, fmt.Errorf("%w: the key is not %d bytes in base64", ErrRootLine, ed25519.PublicKeySize)
	}
	return words[1], key, nil
}
