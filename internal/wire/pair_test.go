package wire

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/flynn/noise"
)

// Fixed keys and times for all tests of this package; testdata/session.txt shows them in hex.
var (
	testRoot    = ed25519.NewKeyFromSeed(fill(0x10))
	testCluster = "example"
	testNow     = time.Unix(1_800_000_000, 0)
	testServer  = KeypairOf([KeySize]byte(fill(0x20)))
	testClient  = KeypairOf([KeySize]byte(fill(0x30)))
	testCert    = certificateFor(testServer)
)

// fill returns 32 bytes counting up from first.
func fill(first byte) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func certificateFor(static noise.DHKey) *Certificate {
	return &Certificate{
		Static: [KeySize]byte(static.Public), Serial: 7, Cluster: testCluster,
		NotBefore: testNow.Unix() - 3600, NotAfter: testNow.Unix() + 90*86400,
	}
}

func verifyTest(static, cert []byte) error {
	_, _, err := VerifyCertificate(cert, static, []ed25519.PublicKey{testRoot.Public().(ed25519.PublicKey)}, testCluster, testNow)
	return err
}

// body checks the length prefix of one whole frame and returns what is behind it.
func body(t testing.TB, frame []byte) []byte {
	t.Helper()
	n, ok := FrameLen(frame)
	if !ok || n != len(frame)-LenSize {
		t.Fatalf("a frame of %d bytes says %d", len(frame), n)
	}
	return frame[LenSize:]
}

// pair runs one handshake, step by step; a test changes what it wants in between.
type pair struct {
	client   *Initiator
	server   *Responder
	up, down []byte // transcripts as client and server have seen them
	tamper   func(message int, body []byte) []byte
	payload  []byte
	frames   [3][]byte
	keys     Keys
	finish   Finish
	verified bool
}

func newPair() *pair {
	return &pair{
		client:  NewInitiator(testClient, bytes.NewReader(fill(0x40))),
		server:  NewResponder(testServer, testCert.Sign(testRoot), bytes.NewReader(fill(0x50))),
		up:      Preamble[:],
		down:    Preamble[:],
		payload: []byte("who I am"),
		tamper:  func(_ int, b []byte) []byte { return b },
	}
}

// run carries the three messages over; the error is the first that either side has.
func (p *pair) run(t testing.TB) (err error) {
	t.Helper()
	if p.frames[0], err = p.client.AppendHello(nil, p.up); err != nil {
		return err
	}
	if err = p.server.ReadHello(p.down, p.tamper(1, body(t, p.frames[0]))); err != nil {
		return err
	}
	if p.frames[1], err = p.server.AppendReply(nil); err != nil {
		return err
	}
	err = p.client.ReadReply(p.tamper(2, body(t, p.frames[1])), func(static, cert []byte) error {
		p.verified = true
		return verifyTest(static, cert)
	})
	if err != nil {
		return err
	}
	if p.frames[2], p.keys, err = p.client.AppendFinish(nil, p.payload); err != nil {
		return err
	}
	p.finish, err = p.server.ReadFinish(p.tamper(3, body(t, p.frames[2])))
	return err
}

func (p *pair) mustRun(t testing.TB) {
	t.Helper()
	if err := p.run(t); err != nil {
		t.Fatal(err)
	}
	if p.keys.RX != p.finish.TX || p.keys.TX != p.finish.RX || p.keys.RX == p.keys.TX {
		t.Fatal("the two sides have different keys")
	}
	if !bytes.Equal(p.finish.Payload, p.payload) || !bytes.Equal(p.finish.Static[:], testClient.Public) {
		t.Fatalf("payload %q, static %x", p.finish.Payload, p.finish.Static)
	}
}

func wantErr(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%s: error %v, want %v", what, err, w)
		}
	}
}
