package wire

import (
	"bytes"
	"crypto/ed25519"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var updateCorpus = flag.Bool("update-corpus", false, "write testdata/fuzz anew from the seeds")

// seed adds one input to a target, and to the committed corpus with -update-corpus.
func seed(f *testing.F, name string, b []byte) {
	f.Helper()
	f.Add(b)
	if !*updateCorpus {
		return
	}
	dir := filepath.Join("testdata", "fuzz", f.Name())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", b)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		f.Fatal(err)
	}
}

// serve does with the bytes of one connection what a gateway does up to the end of the handshake.
func serve(conn []byte) (Finish, error) {
	if err := CheckPreamble(conn); err != nil {
		return Finish{}, err
	}
	seen, conn := bytes.Clone(conn[:PreambleSize]), conn[PreambleSize:]
	server := NewResponder(testServer, testCert.Sign(testRoot), bytes.NewReader(fill(0x50)))
	for hello := true; ; {
		n, ok := FrameLen(conn)
		if !ok || n > MaxEarlyBody || len(conn) < LenSize+n {
			return Finish{}, fmt.Errorf("no frame in %d bytes", len(conn))
		}
		frame := conn[LenSize : LenSize+n]
		if !hello {
			return server.ReadFinish(frame)
		}
		kind, err := FrameKind(frame)
		if err != nil {
			return Finish{}, err
		}
		switch kind {
		case KindResume:
			if _, _, err := ParseResume(frame); err != nil || len(seen) > PreambleSize {
				return Finish{}, fmt.Errorf("resume: %w", err)
			}
			seen = AppendUseXX(append(seen, conn[:LenSize+n]...))
		default:
			if err := server.ReadHello(seen, frame); err != nil {
				return Finish{}, err
			}
			if _, err := server.AppendReply(nil); err != nil {
				return Finish{}, err
			}
			hello = false
		}
		conn = conn[LenSize+n:]
	}
}

// FuzzHandshake gives a responder whatever comes. Without the client's private keys only the very bytes of the two recorded clients
// reach the end.
func FuzzHandshake(f *testing.F) {
	direct, after := newPair(), newPair()
	direct.mustRun(f)
	resume := AppendResume(Preamble[:], []byte("ticket"), make([]byte, resumeMessage))
	after.up = AppendUseXX(bytes.Clone(resume))
	after.down = after.up
	after.mustRun(f)
	good := [][]byte{
		bytes.Join([][]byte{Preamble[:], direct.frames[0], direct.frames[2]}, nil),
		bytes.Join([][]byte{resume, after.frames[0], after.frames[2]}, nil),
	}
	for _, g := range good {
		if _, err := serve(g); err != nil {
			f.Fatal(err)
		}
	}
	seed(f, "xx", good[0])
	seed(f, "resume-then-xx", good[1])
	seed(f, "cut", good[0][:len(good[0])-5])
	seed(f, "low-order", AppendFrame(Preamble[:], append([]byte{1}, make([]byte, 32)...)))
	seed(f, "resume-twice", append(bytes.Clone(resume), resume[PreambleSize:]...))
	seed(f, "version", []byte{'L', 'C', 2, 0})
	seed(f, "http", []byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, conn []byte) {
		finish, err := serve(conn)
		if err != nil {
			if finish.RX != [KeySize]byte{} || finish.TX != [KeySize]byte{} || finish.Payload != nil {
				t.Fatal("an error with keys")
			}
			return
		}
		if !bytes.HasPrefix(conn, good[0]) && !bytes.HasPrefix(conn, good[1]) {
			t.Fatalf("a forged handshake: %x", conn)
		}
	})
}

// FuzzCertificate gives the client whatever comes as a certificate, or as the line of a root.
func FuzzCertificate(f *testing.F) {
	good := testCert.Sign(testRoot)
	line := FormatRootLine(testCluster, testRoot.Public().(ed25519.PublicKey))
	seed(f, "good", good)
	seed(f, "cut", good[:len(good)-1])
	seed(f, "root", forge(good, ed25519.PublicKey(fill(9))))
	seed(f, "line", []byte(line))
	seed(f, "empty", nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := verifyTest(testServer.Public, b); err == nil && !bytes.Equal(b, good) {
			t.Fatalf("a forged certificate: %x", b)
		}
		if c, sig, err := ParseCertificate(b); err == nil {
			again := forge(c.Sign(testRoot), c.Root[:])
			if n := len(b) - len(sig); len(again) != len(b) || !bytes.Equal(again[:n], b[:n]) {
				t.Fatalf("two encodings of one certificate: %x and %x", b, again)
			}
		}
		if cluster, root, err := ParseRootLine(string(b)); err == nil {
			c2, r2, err := ParseRootLine(FormatRootLine(cluster, root))
			if c2 != cluster || !root.Equal(r2) || err != nil {
				t.Fatalf("%q is another root when written again: %v", b, err)
			}
		}
	})
}

// FuzzFrame gives a client's parsers of handshake frames and Open whatever comes.
func FuzzFrame(f *testing.F) {
	key := [KeySize]byte(fill(1))
	sealed := NewSealer().AppendSealedFrame(nil, &key, 3, []byte{0, 5, 0})
	p := newPair()
	p.mustRun(f)
	seed(f, "sealed", sealed)
	seed(f, "refused", AppendRefused(nil, 6, 2500e6))
	seed(f, "use-xx", AppendUseXX(nil))
	seed(f, "resume", AppendResume(nil, []byte("ticket"), make([]byte, resumeMessage)))
	seed(f, "reply", p.frames[1])
	seed(f, "length", []byte{0xFF, 0xFF, 1})
	sealer := NewSealer()
	f.Fuzz(func(t *testing.T, b []byte) {
		n, ok := FrameLen(b)
		if !ok || len(b) < LenSize+n {
			return
		}
		frame, body := b[:LenSize+n], b[LenSize:LenSize+n]
		if !bytes.Equal(AppendFrame(nil, body), frame) {
			t.Fatalf("framed differently: %x", frame)
		}
		if ticket, msg, err := ParseResume(body); err == nil && !bytes.Equal(AppendResume(nil, ticket, msg), frame) {
			t.Fatalf("two encodings of one resume: %x", frame)
		}
		if reason, after, err := ParseRefused(body); err == nil && after < MaxHintRetry && !bytes.Equal(AppendRefused(nil, reason, after), frame) {
			t.Fatalf("two encodings of one refusal: %x", frame)
		}
		if err := ParseUseXX(body); err == nil && !bytes.Equal(AppendUseXX(nil), frame) {
			t.Fatalf("two encodings of use-XX: %x", frame)
		}
		if _, err := sealer.Open(nil, &key, 3, body); err == nil && !bytes.Equal(frame, sealed) {
			t.Fatalf("a forged frame: %x", frame)
		}
		if out, err := sealer.Open(nil, &key, 9, sealer.Seal(nil, &key, 9, b)); err != nil || !bytes.Equal(out, b) {
			t.Fatalf("sealed and not opened: %v", err)
		}
		client := NewInitiator(testClient, bytes.NewReader(fill(0x40)))
		if _, err := client.AppendHello(nil, Preamble[:]); err != nil {
			t.Fatal(err)
		}
		if err := client.ReadReply(body, verifyTest); err == nil && !bytes.Equal(frame, p.frames[1]) {
			t.Fatalf("a forged answer: %x", frame)
		}
	})
}

// FuzzTicketKeys: what parses is written again as it was, and the keys can be told apart.
func FuzzTicketKeys(f *testing.F) {
	seed(f, "two", AppendTicketKeys(nil, []TicketKey{{ID: 2, Key: [KeySize]byte{1}}, {ID: 1}}))
	seed(f, "twice", AppendTicketKeys(nil, []TicketKey{{ID: 7}, {ID: 7}}))
	seed(f, "zero", make([]byte, numberedSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := ParseTicketKeys(b)
		if err != nil {
			return
		}
		if len(keys) < 1 || len(keys) > MaxTicketKeys || !bytes.Equal(AppendTicketKeys(nil, keys), b) {
			t.Errorf("% x parses as %v", b, keys)
		}
	})
}

// FuzzRelaySecrets: what parses is written again as it was; a name that parses is one that a gateway could have given, up to its account's form.
func FuzzRelaySecrets(f *testing.F) {
	seed(f, "three", AppendRelaySecrets(nil, []RelaySecret{{ID: 3, Key: [KeySize]byte{1}}, {ID: 2}, {ID: 1}}))
	seed(f, "four", AppendRelaySecrets(nil, []RelaySecret{{ID: 4}, {ID: 3}, {ID: 2}, {ID: 1}}))
	seed(f, "ascending", AppendRelaySecrets(nil, []RelaySecret{{ID: 1}, {ID: 2}}))
	seed(f, "name", AppendRelayName(nil, 21, 1_800_000_900))
	seed(f, "name-of-nobody", []byte("1800000900:"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if secrets, err := ParseRelaySecrets(b); err == nil {
			if len(secrets) < 1 || len(secrets) > MaxRelaySecrets || !bytes.Equal(AppendRelaySecrets(nil, secrets), b) {
				t.Fatalf("two encodings of one set: %x", b)
			}
		}
		if account, _, ok := ParseRelayName(string(b)); ok && (account == "" || !bytes.HasSuffix(b, []byte(":"+account))) {
			t.Fatalf("%q is of %q", b, account)
		}
	})
}

// FuzzGrant: nothing opens but what was signed, in either form, and sets of keys have one form.
func FuzzGrant(f *testing.F) {
	keys := []GrantPublic{testGrantKey.Public()}
	genuine := map[string]bool{}
	for name, g := range testGrants() {
		b := signGrant(g)
		genuine[string(b)] = true
		seed(f, name, b)
	}
	up := testGrants()["upload"]
	seed(f, "upload-with-blob", forceGrant(Grant{Method: up.Method, Account: up.Account, Expires: up.Expires, Limit: 1, Blob: [BlobSize]byte{1}}))
	seed(f, "text", AppendGrantText(nil, signGrant(up)))
	seed(f, "keys", AppendGrantPublics(nil, []GrantPublic{{ID: 2}, {ID: 1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var g Grant
		if err := OpenGrant(&g, keys, b, 0); (err == nil) != genuine[string(b)] || err != nil && g != (Grant{}) {
			t.Fatalf("%x: %+v, %v", b, g, err)
		}
		if got, err := ParseGrantText(string(b)); err == nil && !bytes.Equal(AppendGrantText(nil, got[:]), b) {
			t.Fatalf("two texts of one grant: %q", b)
		}
		if got, err := ParseGrantPublics(b); err == nil && !bytes.Equal(AppendGrantPublics(nil, got), b) {
			t.Fatalf("two encodings of one set: %x", b)
		}
	})
}
