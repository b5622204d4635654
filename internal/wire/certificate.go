package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	certVersion = 1
	certFixed   = 1 + KeySize + 3*8 + ed25519.PublicKeySize + 1 // version, static, serial, not-before, not-after, root, cluster's length
	maxTime     = 1 << 40                                       // seconds; keeps every sum with a tolerance far from overflow

	// MaxCluster is the longest name of a cluster, in bytes.
	MaxCluster = 64
	// MaxCertificate is the longest certificate, in bytes.
	MaxCertificate = certFixed + MaxCluster + ed25519.SignatureSize
	// ClockTolerance is by how much a client's clock may be wrong.
	ClockTolerance = 24 * time.Hour
	// certDomain keeps a root's signatures from meaning anything elsewhere.
	certDomain = "linecard gateway certificate v1\x00"
)

// What VerifyCertificate finds wrong; all wrap ErrCertificate.
var (
	ErrCertificate     = errors.New("wire: certificate")
	ErrCertMalformed   = fmt.Errorf("%w: malformed", ErrCertificate)
	ErrCertRoot        = fmt.Errorf("%w: signed by a root that is not pinned", ErrCertificate)
	ErrCertSignature   = fmt.Errorf("%w: bad signature", ErrCertificate)
	ErrCertStatic      = fmt.Errorf("%w: of another static key", ErrCertificate)
	ErrCertCluster     = fmt.Errorf("%w: of another cluster", ErrCertificate)
	ErrCertExpired     = fmt.Errorf("%w: expired", ErrCertificate)
	ErrCertNotYetValid = fmt.Errorf("%w: not yet valid", ErrCertificate)
)

// Certificate says that a static key belongs to a gateway of a cluster. It travels as the payload of message 2:
//
//	version      1 byte, 1
//	static       32 bytes, the gateway's X25519 public key
//	serial       8 bytes, big-endian
//	not before   8 bytes, big-endian, seconds since 1970
//	not after    8 bytes, big-endian, seconds since 1970
//	root         32 bytes, the Ed25519 public key that signed it
//	cluster      1 byte length (1-64), then that many printable ASCII bytes without space
//	signature    64 bytes, Ed25519 over "linecard gateway certificate v1", a zero byte, and all of the above
type Certificate struct {
	Static    [KeySize]byte
	Serial    uint64
	NotBefore int64                       // unix seconds, inclusive, 0 to 2^40
	NotAfter  int64                       // unix seconds, inclusive, not below NotBefore
	Cluster   string                      // 1 to MaxCluster bytes of printable ASCII without space
	Root      [ed25519.PublicKeySize]byte // who signed it: set by ParseCertificate, ignored by Sign
}

// Sign returns the certificate's encoding, signed by root. It panics on a field out of range: the caller has checked its
// configuration (see CheckCluster).
func (c *Certificate) Sign(root ed25519.PrivateKey) []byte {
	if err := CheckCluster(c.Cluster); err != nil {
		panic(err)
	}
	if c.NotBefore < 0 || c.NotAfter < c.NotBefore || c.NotAfter > maxTime {
		panic("wire: certificate with impossible times")
	}
	b := make([]byte, 0, MaxCertificate)
	b = append(b, certVersion)
	b = append(b, c.Static[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Serial)
	b = binary.BigEndian.AppendUint64(b, uint64(c.NotBefore))
	b = binary.BigEndian.AppendUint64(b, uint64(c.NotAfter))
	b = append(b, root.Public().(ed25519.PublicKey)...)
	b = append(b, byte(len(c.Cluster)))
	b = append(b, c.Cluster...)
	return append(b, ed25519.Sign(root, signed(b))...)
}

// signed is what a root signs: the domain and the certificate up to its signature.
func signed(tbs []byte) []byte {
	return append([]byte(certDomain), tbs...)
}

// ParseCertificate decodes a certificate and believes nothing of it: Root is who it says signed it. It serves to show what an unknown
// server presents; VerifyCertificate judges. sig is a view into b. Error: ErrCertMalformed.
func ParseCertificate(b []byte) (c Certificate, sig []byte, err error) {
	if len(b) < certFixed || len(b) > MaxCertificate || b[0] != certVersion {
		return Certificate{}, nil, ErrCertMalformed
	}
	p := b[1:]
	p = p[copy(c.Static[:], p):]
	c.Serial = binary.BigEndian.Uint64(p)
	c.NotBefore = int64(binary.BigEndian.Uint64(p[8:]))
	c.NotAfter = int64(binary.BigEndian.Uint64(p[16:]))
	p = p[24:]
	p = p[copy(c.Root[:], p):]
	n, p := int(p[0]), p[1:]
	if len(p) != n+ed25519.SignatureSize {
		return Certificate{}, nil, ErrCertMalformed
	}
	c.Cluster = string(p[:n])
	if CheckCluster(c.Cluster) != nil || c.NotBefore < 0 || c.NotAfter < c.NotBefore || c.NotAfter > maxTime {
		return Certificate{}, nil, ErrCertMalformed
	}
	return c, p[n:], nil
}

// VerifyCertificate checks that b certifies static for cluster at now, give or take ClockTolerance, under one of roots. It returns
// the certificate and the root that signed it. Borrows everything. Errors: the ErrCert ones, in the order root, signature, static key,
// cluster, times.
func VerifyCertificate(b, static []byte, roots []ed25519.PublicKey, cluster string, now time.Time) (Certificate, ed25519.PublicKey, error) {
	c, sig, err := ParseCertificate(b)
	if err != nil {
		return Certificate{}, nil, err
	}
	root := findRoot(roots, c.Root[:])
	if root == nil {
		return Certificate{}, nil, ErrCertRoot
	}
	tolerance := int64(ClockTolerance / time.Second)
	switch at := now.Unix(); {
	case !ed25519.Verify(root, signed(b[:len(b)-len(sig)]), sig):
		err = ErrCertSignature
	case !bytes.Equal(static, c.Static[:]):
		err = ErrCertStatic
	case cluster != c.Cluster:
		err = fmt.Errorf("%w: %q, want %q", ErrCertCluster, c.Cluster, cluster)
	case at < c.NotBefore-tolerance:
		err = ErrCertNotYetValid
	case at > c.NotAfter+tolerance:
		err = ErrCertExpired
	}
	if err != nil {
		return Certificate{}, nil, err
	}
	return c, root, nil
}

func findRoot(roots []ed25519.PublicKey, key []byte) ed25519.PublicKey {
	for _, r := range roots {
		if len(r) == ed25519.PublicKeySize && bytes.Equal(r, key) {
			return r
		}
	}
	return nil
}
