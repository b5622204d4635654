package wire

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/flynn/noise"
)

func TestHandshake(t *testing.T) {
	for _, size := range []int{0, 1, 40, MaxFinishPayload} {
		p := newPair()
		p.payload = bytes.Repeat([]byte{'x'}, size)
		p.mustRun(t)
		for i, f := range p.frames {
			if Kind(f[LenSize]) != KindXX || len(f)-LenSize > MaxEarlyBody {
				t.Fatalf("frame %d: kind %d, %d bytes", i+1, f[LenSize], len(f))
			}
		}
		if size == MaxFinishPayload && len(p.frames[2]) != LenSize+MaxEarlyBody {
			t.Fatalf("the longest message 3 has %d bytes", len(p.frames[2]))
		}
	}
}

func TestHandshakeWithRealRandomness(t *testing.T) {
	a, b := newPair(), newPair()
	for _, p := range []*pair{a, b} {
		p.client, p.server = NewInitiator(testClient, nil), NewResponder(testServer, testCert.Sign(testRoot), nil)
		p.mustRun(t)
	}
	if a.keys == b.keys {
		t.Fatal("two sessions have the same keys")
	}
}

func TestAppendsBehindWhatIsThere(t *testing.T) {
	p := newPair()
	out, err := p.client.AppendHello(append([]byte(nil), Preamble[:]...), Preamble[:])
	if err != nil || !bytes.HasPrefix(out, Preamble[:]) {
		t.Fatalf("%x: %v", out, err)
	}
	if err := p.server.ReadHello(out[:PreambleSize], out[PreambleSize+LenSize:]); err != nil {
		t.Fatal(err)
	}
	reply, err := p.server.AppendReply([]byte("before"))
	if err != nil || !bytes.HasPrefix(reply, []byte("before")) {
		t.Fatalf("%x: %v", reply, err)
	}
	if err := p.client.ReadReply(body(t, reply[6:]), verifyTest); err != nil {
		t.Fatal(err)
	}
	fin, _, err := p.client.AppendFinish([]byte("more"), p.payload)
	if err != nil || !bytes.HasPrefix(fin, []byte("more")) {
		t.Fatalf("%x: %v", fin, err)
	}
	if _, err := p.server.ReadFinish(body(t, fin[4:])); err != nil {
		t.Fatal(err)
	}
}

// TestChangedMessages changes each byte of each message in turn: nobody may get through, and no client may show who it is to a
// server whose messages were changed.
func TestChangedMessages(t *testing.T) {
	whole := newPair()
	whole.mustRun(t)
	try := func(what string, message int, change func(b []byte) []byte) {
		p := newPair()
		p.tamper = func(m int, b []byte) []byte {
			if m == message {
				return change(bytes.Clone(b))
			}
			return b
		}
		err := p.run(t)
		if err == nil {
			t.Fatalf("message %d, %s: the handshake came to its end", message, what)
		}
		if !errors.Is(err, ErrHandshake) && !errors.Is(err, ErrKind) && !errors.Is(err, ErrHandshakeFrame) {
			t.Fatalf("message %d, %s: %v", message, what, err)
		}
		if message < 3 && (p.verified || p.frames[2] != nil) {
			t.Fatalf("message %d, %s: the client went on", message, what)
		}
	}
	for message := 1; message <= 3; message++ {
		n := len(whole.frames[message-1]) - LenSize
		for i := range n {
			try(fmt.Sprint("bit in byte ", i), message, func(b []byte) []byte { b[i] ^= 1 << (i % 8); return b })
		}
		for i := range n {
			try(fmt.Sprint("cut to ", i), message, func(b []byte) []byte { return b[:i] })
		}
		try("one byte more", message, func(b []byte) []byte { return append(b, 0) })
		try("too much", message, func(b []byte) []byte { return append(b, make([]byte, MaxBody-len(b))...) })
	}
	try("top bit of the key share, which X25519 ignores", 1, func(b []byte) []byte { b[32] ^= 0x80; return b })
}

func TestTranscriptsMustAgree(t *testing.T) {
	resume := AppendResume(Preamble[:], []byte("ticket"), make([]byte, resumeMessage))
	long := AppendUseXX(bytes.Clone(resume))
	minor := []byte{'L', 'C', 1, 9}
	for name, c := range map[string][2][]byte{
		"minor version changed on the way": {Preamble[:], minor},
		"resume hidden from the server":    {long, Preamble[:]},
		"answer forged":                    {long, resume},
		"resume changed":                   {long, append(bytes.Clone(long[:len(long)-4]), 9, 0, 1, 3)},
	} {
		p := newPair()
		p.up, p.down = c[0], c[1]
		wantErr(t, name, p.run(t), ErrHandshake)
		if p.verified {
			t.Errorf("%s: the client saw a certificate", name)
		}
	}
	for _, bad := range [][]byte{nil, Preamble[:3], make([]byte, MaxTranscript+1)} {
		p := newPair()
		p.down = bad
		wantErr(t, "transcript", p.run(t), ErrHandshake)
		p = newPair()
		p.up = bad
		wantErr(t, "transcript", p.run(t), ErrHandshake)
	}
}

// TestXXAfterResume: a resume that the server does not take, its answer, then XX on the same connection, both in the prologue.
func TestXXAfterResume(t *testing.T) {
	conn := bytes.Clone(Preamble[:])
	start := len(conn)
	conn = AppendResume(conn, []byte("a ticket of an old key"), bytes.Repeat([]byte{9}, resumeMessage))

	ask := conn[start+LenSize:]
	if k, err := FrameKind(ask); k != KindResume || err != nil {
		t.Fatal(k, err)
	}
	if ticket, msg, err := ParseResume(ask); string(ticket) != "a ticket of an old key" || len(msg) != resumeMessage || err != nil {
		t.Fatalf("%q %x %v", ticket, msg, err)
	}
	start = len(conn)
	conn = AppendUseXX(conn)
	if err := ParseUseXX(body(t, conn[start:])); err != nil {
		t.Fatal(err)
	}

	p := newPair()
	p.up, p.down = conn, conn
	p.mustRun(t)
	direct := newPair()
	direct.mustRun(t)
	// Equal ephemeral keys give equal session keys in both: the prologue is in the tags, not in the keys.
	if bytes.Equal(p.frames[1], direct.frames[1]) || bytes.Equal(p.frames[2], direct.frames[2]) {
		t.Fatal("the failed resume is not part of the handshake")
	}
}

func TestCertificateIsJudgedBeforeMessage3(t *testing.T) {
	p := newPair()
	impostor := KeypairOf([KeySize]byte(fill(0x99)))
	p.server = NewResponder(impostor, testCert.Sign(testRoot), nil)
	wantErr(t, "impostor", p.run(t), ErrCertStatic)
	if _, _, err := p.client.AppendFinish(nil, nil); !errors.Is(err, ErrOrder) {
		t.Fatalf("message 3 after a refused certificate: %v", err)
	}
}

func TestOrder(t *testing.T) {
	p := newPair()
	_, err := p.server.AppendReply(nil)
	wantErr(t, "reply first", err, ErrOrder)
	wantErr(t, "hello after an error", p.server.ReadHello(Preamble[:], make([]byte, helloBody)), ErrOrder)
	_, err = newPair().server.ReadFinish(make([]byte, 100))
	wantErr(t, "finish first", err, ErrOrder)
	wantErr(t, "reply first", newPair().client.ReadReply(nil, verifyTest), ErrOrder)
	_, _, err = newPair().client.AppendFinish(nil, nil)
	wantErr(t, "finish first", err, ErrOrder)

	p = newPair()
	p.mustRun(t)
	_, err = p.client.AppendHello(nil, p.up)
	wantErr(t, "hello again", err, ErrOrder)
	_, err = p.server.ReadFinish(body(t, p.frames[2]))
	wantErr(t, "finish again", err, ErrOrder)

	p = newPair()
	p.payload = make([]byte, MaxFinishPayload+1)
	if err := p.run(t); err == nil || p.frames[2] != nil {
		t.Fatal("a payload above the limit was sent")
	}
	p = newPair()
	p.server = NewResponder(testServer, make([]byte, MaxCertificate+1), nil)
	if err := p.run(t); err == nil || p.frames[1] != nil {
		t.Fatal("a certificate above the limit was sent")
	}
	p = newPair()
	p.client = NewInitiator(testClient, io.LimitReader(rand.Reader, 31))
	wantErr(t, "no randomness", p.run(t), ErrHandshake)
}

// lowOrder are the u-coordinates whose multiples by any clamped scalar are zero, with the encodings above the prime.
// Source: https://cr.yp.to/ecdh.html#validate
var lowOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

func TestLowOrderPoints(t *testing.T) {
	for _, point := range lowOrder {
		u, _ := hex.DecodeString(point)
		for _, top := range []byte{0, 0x80} {
			p := bytes.Clone(u)
			p[31] |= top
			_, err := DH.DH(testServer.Private, p)
			wantErr(t, point, err, ErrKeyShare)
			lowOrderHandshakes(t, p)
		}
	}
	for _, k := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
		_, err := DH.DH(testServer.Private, k)
		wantErr(t, "length", err, ErrKeyShare)
		_, err = DH.DH(k, testServer.Public)
		wantErr(t, "length", err, ErrKeyShare)
	}
}

// lowOrderHandshakes puts the point where each side's keys stand.
func lowOrderHandshakes(t *testing.T, point []byte) {
	t.Helper()
	p := newPair()
	p.tamper = func(m int, b []byte) []byte {
		if m == 1 {
			b = append(bytes.Clone(b[:1]), point...)
		}
		return b
	}
	wantErr(t, "client's ephemeral key", p.run(t), ErrHandshake, ErrKeyShare)
	if p.frames[1] != nil {
		t.Error("an answer to a low-order point")
	}
	p = newPair()
	p.tamper = func(m int, b []byte) []byte {
		if m == 2 {
			b = bytes.Clone(b)
			copy(b[1:], point)
		}
		return b
	}
	wantErr(t, "server's ephemeral key", p.run(t), ErrHandshake, ErrKeyShare)
	p = newPair()
	p.server = NewResponder(noise.DHKey{Private: testServer.Private, Public: point}, testCert.Sign(testRoot), nil)
	wantErr(t, "server's static key", p.run(t), ErrHandshake, ErrKeyShare)
	p = newPair()
	p.client = NewInitiator(noise.DHKey{Private: testClient.Private, Public: point}, nil)
	wantErr(t, "client's static key", p.run(t), ErrHandshake, ErrKeyShare)
}

// TestDH compares this architecture's X25519 with the standard library and with RFC 7748, section 6.1.
func TestDH(t *testing.T) {
	hexKey := func(s string) (k [KeySize]byte) {
		if n, err := hex.Decode(k[:], []byte(s)); n != KeySize || err != nil {
			t.Fatal(n, err)
		}
		return k
	}
	alice := KeypairOf(hexKey("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
	bob := KeypairOf(hexKey("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
	shared := hexKey("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
	for _, k := range [][2]noise.DHKey{{alice, bob}, {bob, alice}} {
		if got, err := DH.DH(k[0].Private, k[1].Public); err != nil || !bytes.Equal(got, shared[:]) {
			t.Fatalf("RFC 7748: %x (%v)", got, err)
		}
	}
	for i := range 200 {
		k, err := GenerateKeypair(nil)
		if err != nil {
			t.Fatal(err)
		}
		own, err := ecdh.X25519().NewPrivateKey(k.Private)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(own.PublicKey().Bytes(), k.Public) {
			t.Fatalf("key %d: public key differs", i)
		}
		peer := make([]byte, KeySize)
		if _, err := rand.Read(peer); err != nil {
			t.Fatal(err)
		}
		pub, err := ecdh.X25519().NewPublicKey(peer)
		if err != nil {
			t.Fatal(err)
		}
		want, err := own.ECDH(pub)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DH.DH(k.Private, peer)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("key %d: %x, want %x (%v)", i, got, want, err)
		}
	}
	if _, err := GenerateKeypair(bytes.NewReader(nil)); err == nil {
		t.Fatal("a key pair of no randomness")
	}
}
