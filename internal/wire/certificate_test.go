package wire

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestCertificate(t *testing.T) {
	root := testRoot.Public().(ed25519.PublicKey)
	other := ed25519.NewKeyFromSeed(fill(0x77)).Public().(ed25519.PublicKey)
	good := testCert.Sign(testRoot)
	first, last := time.Unix(testCert.NotBefore, 0), time.Unix(testCert.NotAfter, 0)
	for name, c := range map[string]struct {
		cert    []byte
		static  []byte
		roots   []ed25519.PublicKey
		cluster string
		now     time.Time
		want    error
	}{
		"good":                      {good, testServer.Public, []ed25519.PublicKey{root}, testCluster, testNow, nil},
		"second of two roots":       {good, testServer.Public, []ed25519.PublicKey{other, root}, testCluster, testNow, nil},
		"no root":                   {good, testServer.Public, nil, testCluster, testNow, ErrCertRoot},
		"another root":              {good, testServer.Public, []ed25519.PublicKey{other, nil, {}}, testCluster, testNow, ErrCertRoot},
		"another cluster":           {good, testServer.Public, []ed25519.PublicKey{root}, "example2", testNow, ErrCertCluster},
		"case of the cluster":       {good, testServer.Public, []ed25519.PublicKey{root}, "Example", testNow, ErrCertCluster},
		"another static key":        {good, testClient.Public, []ed25519.PublicKey{root}, testCluster, testNow, ErrCertStatic},
		"no static key":             {good, nil, []ed25519.PublicKey{root}, testCluster, testNow, ErrCertStatic},
		"a clock 24 h slow":         {good, testServer.Public, []ed25519.PublicKey{root}, testCluster, first.Add(-24 * time.Hour), nil},
		"a clock 24 h 1 s slow":     {good, testServer.Public, []ed25519.PublicKey{root}, testCluster, first.Add(-24*time.Hour - time.Second), ErrCertNotYetValid},
		"a clock 24 h fast":         {good, testServer.Public, []ed25519.PublicKey{root}, testCluster, last.Add(24 * time.Hour), nil},
		"a clock 24 h 1 s fast":     {good, testServer.Public, []ed25519.PublicKey{root}, testCluster, last.Add(24*time.Hour + time.Second), ErrCertExpired},
		"no clock":                  {good, testServer.Public, []ed25519.PublicKey{root}, testCluster, time.Time{}, ErrCertNotYetValid},
		"empty":                     {nil, testServer.Public, []ed25519.PublicKey{root}, testCluster, testNow, ErrCertMalformed},
		"signed by itself, in name": {forge(good, other), testServer.Public, []ed25519.PublicKey{root}, testCluster, testNow, ErrCertRoot},
		"root's name, not its hand": {forge(testCert.Sign(ed25519.NewKeyFromSeed(fill(0x77))), root), testServer.Public, []ed25519.PublicKey{root}, testCluster, testNow, ErrCertSignature},
		"the signature of the bytes without the domain": {bare(good), testServer.Public, []ed25519.PublicKey{root}, testCluster, testNow, ErrCertSignature},
	} {
		got, by, err := VerifyCertificate(c.cert, c.static, c.roots, c.cluster, c.now)
		if !errors.Is(err, c.want) || err != nil && !errors.Is(err, ErrCertificate) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		want := *testCert
		want.Root = [32]byte(root)
		if err == nil && (got != want || !by.Equal(root)) {
			t.Errorf("%s: %+v by %x", name, got, by)
		}
		if err != nil && (got != Certificate{} || by != nil) {
			t.Errorf("%s: an error and a certificate", name)
		}
	}
}

// forge puts a root's name into a certificate that it did not sign.
func forge(cert []byte, root ed25519.PublicKey) []byte {
	cert = bytes.Clone(cert)
	copy(cert[1+KeySize+24:], root)
	return cert
}

// bare signs the certificate's bytes without the domain in front.
func bare(cert []byte) []byte {
	tbs := cert[:len(cert)-ed25519.SignatureSize]
	return append(bytes.Clone(tbs), ed25519.Sign(testRoot, tbs)...)
}

func TestChangedCertificates(t *testing.T) {
	good := testCert.Sign(testRoot)
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			wantErr(t, "changed", verifyTest(testServer.Public, bad), ErrCertificate)
		}
		wantErr(t, "cut", verifyTest(testServer.Public, good[:i]), ErrCertMalformed)
	}
	wantErr(t, "longer", verifyTest(testServer.Public, append(bytes.Clone(good), 0)), ErrCertMalformed)
	wantErr(t, "much longer", verifyTest(testServer.Public, make([]byte, MaxBody)), ErrCertMalformed)
}

func TestCertificateOutOfRange(t *testing.T) {
	change := map[string]func(*Certificate){
		"no cluster":      func(c *Certificate) { c.Cluster = "" },
		"long cluster":    func(c *Certificate) { c.Cluster = strings.Repeat("x", MaxCluster+1) },
		"space":           func(c *Certificate) { c.Cluster = "a b" },
		"escape":          func(c *Certificate) { c.Cluster = "a\x1b[2J" },
		"not ASCII":       func(c *Certificate) { c.Cluster = "é" },
		"before 1970":     func(c *Certificate) { c.NotBefore = -1 },
		"ends first":      func(c *Certificate) { c.NotAfter = c.NotBefore - 1 },
		"the end of time": func(c *Certificate) { c.NotAfter = 1<<63 - 1 },
	}
	for name, f := range change {
		c := *testCert
		f(&c)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: signed", name)
				}
			}()
			c.Sign(testRoot)
		}()
	}
	c := *testCert
	c.Cluster = strings.Repeat("x", MaxCluster)
	if b := c.Sign(testRoot); len(b) != MaxCertificate {
		t.Fatalf("the longest certificate has %d bytes", len(b))
	}
}

// TestTrustOnFirstUse: what a client without a pinned root can show, and pin.
func TestTrustOnFirstUse(t *testing.T) {
	cert := testCert.Sign(testRoot)
	c, sig, err := ParseCertificate(cert)
	if err != nil || len(sig) != ed25519.SignatureSize {
		t.Fatal(err)
	}
	root := ed25519.PublicKey(c.Root[:])
	if f := Fingerprint(root); !strings.HasPrefix(f, "SHA256:") || len(f) != 7+43 || f != Fingerprint(testRoot.Public().(ed25519.PublicKey)) {
		t.Fatal(f)
	}
	if _, _, err := VerifyCertificate(cert, testServer.Public, []ed25519.PublicKey{root}, c.Cluster, testNow); err != nil {
		t.Fatal(err)
	}
}

func TestRootLine(t *testing.T) {
	root := testRoot.Public().(ed25519.PublicKey)
	line := FormatRootLine(testCluster, root)
	for _, l := range []string{line, line + "\n", "\t" + line + "\r\n", strings.ReplaceAll(line, " ", "  ")} {
		if cluster, key, err := ParseRootLine(l); cluster != testCluster || !key.Equal(root) || err != nil {
			t.Errorf("%q: %q %x %v", l, cluster, key, err)
		}
	}
	key := strings.Fields(line)[2]
	for _, l := range []string{
		"", "linecard-root", "linecard-root " + key, line + " more", "linecard-key x " + key, "linecard-root x " + key[:40],
		"linecard-root x " + key[1:], "linecard-root x !" + key[1:], "linecard-root \x01 " + key, line + "\n" + line,
		"linecard-root " + strings.Repeat("x", MaxCluster+1) + " " + key, strings.Repeat("x", 1<<16),
	} {
		_, _, err := ParseRootLine(l)
		wantErr(t, l[:min(len(l), 60)], err, ErrRootLine)
	}
}
