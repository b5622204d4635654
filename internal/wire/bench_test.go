package wire

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/flynn/noise"
)

func BenchmarkSeal64(b *testing.B)           { benchSeal(b, NewSealer()) }
func BenchmarkSeal64Rebuilding(b *testing.B) { benchSeal(b, &Sealer{}) }
func BenchmarkOpen64(b *testing.B)           { benchOpen(b, NewSealer()) }
func BenchmarkOpen64Rebuilding(b *testing.B) { benchOpen(b, &Sealer{}) }

func benchSeal(b *testing.B, s *Sealer) {
	key, plain, dst := [KeySize]byte(fill(1)), make([]byte, 64), make([]byte, 0, 128)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		dst = s.Seal(dst[:0], &key, i, plain)
	}
}

func benchOpen(b *testing.B, s *Sealer) {
	key, dst := [KeySize]byte(fill(1)), make([]byte, 0, 128)
	sealed := s.Seal(nil, &key, 7, make([]byte, 64))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(dst, &key, 7, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkXXResponder is all of a server's crypto for one handshake: three messages, certificate ready made, real randomness.
func BenchmarkXXResponder(b *testing.B) {
	cert := testCert.Sign(testRoot)
	payload := make([]byte, 20)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		client := NewInitiator(testClient, nil)
		hello, _ := client.AppendHello(nil, Preamble[:])
		reply := make([]byte, 0, 512)
		b.StartTimer()
		server := NewResponder(testServer, cert, nil)
		if err := server.ReadHello(Preamble[:], hello[LenSize:]); err != nil {
			b.Fatal(err)
		}
		reply, err := server.AppendReply(reply)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		if err := client.ReadReply(reply[LenSize:], func(_, _ []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
		fin, _, err := client.AppendFinish(nil, payload)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := server.ReadFinish(fin[LenSize:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResumeResponder is all of a server's crypto for one resumption: ticket, both messages, and the next ticket.
func BenchmarkResumeResponder(b *testing.B) {
	psk, ticket, _ := SplitTicketValue(testTicketValue())
	frame, err := NewResumer(nil).AppendResume(nil, Preamble[:], ticket, &psk)
	if err != nil {
		b.Fatal(err)
	}
	reply, keys := make([]byte, 0, 512), []TicketKey{testTicketKey}
	b.ReportAllocs()
	for b.Loop() {
		var t Ticket
		if err := OpenTicket(&t, keys, ticket, 0); err != nil {
			b.Fatal(err)
		}
		if reply, _, err = AnswerResume(reply[:0], Preamble[:], frame[LenSize:], &t.PSK, nil); err != nil {
			b.Fatal(err)
		}
		var random [TicketRandom]byte
		_, _ = rand.Read(random[:])
		_, _ = rand.Read(t.PSK[:])
		reply = AppendTicketValue(reply[:0], &testTicketKey, &t, &random)
	}
}

// The multiplications that the choice of X25519 is about, this package's and flynn/noise's own.
func BenchmarkDH(b *testing.B)           { benchDH(b, DH) }
func BenchmarkDHFlynn(b *testing.B)      { benchDH(b, noise.DH25519) }
func BenchmarkKeypair(b *testing.B)      { benchKeypair(b, DH) }
func BenchmarkKeypairFlynn(b *testing.B) { benchKeypair(b, noise.DH25519) }

func benchDH(b *testing.B, dh noise.DHFunc) {
	for b.Loop() {
		if _, err := dh.DH(testServer.Private, testClient.Public); err != nil {
			b.Fatal(err)
		}
	}
}

func benchKeypair(b *testing.B, dh noise.DHFunc) {
	rng := bytes.NewReader(fill(1))
	for b.Loop() {
		rng.Reset(fill(1))
		if _, err := dh.GenerateKeypair(rng); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify is what a client pays for the certificate.
func BenchmarkVerify(b *testing.B) {
	cert := testCert.Sign(testRoot)
	for b.Loop() {
		if err := verifyTest(testServer.Public, cert); err != nil {
			b.Fatal(err)
		}
	}
}
