package wire

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"linecard.example/internal/stanza"
)

const sessionFile = "testdata/session.txt"

var update = flag.Bool("update", false, "write "+sessionFile+" anew")

// line is one line of testdata/session.txt: a label and bytes, or a comment when there is no label.
type line struct {
	label, comment string
	bytes          []byte
}

// script writes the lines of one connection.
type script struct {
	lines    []line
	up, down uint64 // frames sealed so far
	keys     Keys   // the client's
	sealer   *Sealer
}

func (s *script) say(format string, args ...any) {
	s.lines = append(s.lines, line{comment: fmt.Sprintf(format, args...)})
}

func (s *script) put(label string, b []byte) {
	s.lines = append(s.lines, line{label: label, bytes: bytes.Clone(b)})
}

// sealed adds a frame: its plaintext (flags byte, stanzas) and its bytes on the wire.
func (s *script) sealed(dir string, what string, stanzas ...[]byte) {
	plain := bytes.Join(append([][]byte{{0}}, stanzas...), nil)
	n, key := &s.up, &s.keys.TX
	if dir == "down" {
		n, key = &s.down, &s.keys.RX
	}
	s.say("%s, nonce %d: %s", dir, *n, what)
	name := fmt.Sprintf("%s_%d", dir, *n)
	s.put(name+"_plain", plain)
	s.put(name+"_frame", s.sealer.AppendSealedFrame(nil, key, *n, plain))
	*n++
}

// handshake adds the ephemeral keys, the three frames of a handshake over transcript, and the session's keys.
func (s *script) handshake(t *testing.T, transcript, client, server, payload []byte) {
	p := newPair()
	p.client, p.server = NewInitiator(testClient, bytes.NewReader(client)), NewResponder(testServer, testCert.Sign(testRoot), bytes.NewReader(server))
	p.up, p.down, p.payload = transcript, transcript, payload
	p.mustRun(t)
	s.say("What client and server take from their random sources.")
	s.put("client_ephemeral_private", client)
	s.put("server_ephemeral_private", server)
	s.put("prologue", prologue(transcript, helloBody))
	for i, h := range runSpecXX(prologue(transcript, helloBody), testClient.Private, client, testServer.Private, server,
		testCert.Sign(testRoot), payload).hashes {
		s.put(fmt.Sprintf("message_%d_frame", i+1), p.frames[i])
		s.put(fmt.Sprintf("hash_after_message_%d", i+1), h)
	}
	s.put("key_up", p.keys.TX[:])
	s.put("key_down", p.keys.RX[:])
	s.keys, s.up, s.down = p.keys, 0, 0
}

// Accounts and stamps of the session.
const (
	alice     = stanza.Account(21) // shard 5 of 16, its first account
	bob       = stanza.Account(37)
	firstID   = 2049
	lastID    = 2052 // the highest id used in session 1
	sessionMS = 1_800_000_000_123
)

func sessionLines(t *testing.T) []line {
	s := &script{sealer: NewSealer()}
	s.say("A whole session with fixed keys. Each line: label, bytes in hex. Written by `go test ./internal/wire -run Session -update`,")
	s.say("checked by an implementation of Noise that shares no code with the program. Labels with _frame are bytes on the wire.")
	s.say("")
	s.say("Keys that last.")
	s.put("root_seed", testRoot.Seed())
	s.put("root_public", testRoot.Public().(ed25519.PublicKey))
	s.put("server_static_private", testServer.Private)
	s.put("server_static_public", testServer.Public)
	s.put("client_static_private", testClient.Private)
	s.put("client_static_public", testClient.Public)
	s.say("Certificate: cluster %q, serial %d, valid from %d to %d", testCert.Cluster, testCert.Serial, testCert.NotBefore, testCert.NotAfter)
	s.put("certificate", testCert.Sign(testRoot))
	s.say("")
	s.say("Session 1: register, three messages up, two deliveries down, close. The payload of message 3 is register(handle alice, interval 240 s).")
	register := stanza.Register{Handle: []byte("alice"), Interval: 240}
	s.put("preamble", Preamble[:])
	s.put("register", register.Append(nil))
	s.handshake(t, Preamble[:], fill(0x40), fill(0x50), register.Append(nil))
	s.stanzas()
	s.say("")
	s.say("Session 2: a resume that the server does not take, then XX on the same connection. The ticket is 16 bytes that mean nothing.")
	conn := AppendResume(bytes.Clone(Preamble[:]), fill(0x60)[:16], bytes.Repeat([]byte{0x70}, resumeMessage))
	resume := len(conn)
	s.put("resume_frame", conn[PreambleSize:])
	conn = AppendUseXX(conn)
	s.put("use_xx_frame", conn[resume:])
	bind := stanza.Bind{Account: alice, Device: 1, ID: lastID, Interval: 240}
	s.put("bind", bind.Append(nil))
	s.handshake(t, conn, fill(0x80), fill(0x90), bind.Append(nil))
	bound := stanza.Bound{Account: alice, Device: 1, Version: 1, Time: sessionMS + 60_000, WindowIDs: 32, WindowBytes: 256 << 10, ID: firstID}
	bound.Ticket = testTicketValue()
	s.sealed("down", "bound, with the highest id noted before this bind, and a ticket behind its PSK", bound.Append(nil))
	s.sealed("up", "ping", stanza.Ping{}.Append(nil))
	s.sealed("down", "pong", stanza.Pong{}.Append(nil))
	s.resumed(t, &bind, &bound)
	s.say("")
	s.say("A connection that is refused instead: draining, retry after 2.5 s.")
	s.put("refused_frame", AppendRefused(nil, stanza.ReasonDraining, 2500e6))
	s.grant()
	s.relay()
	return s.lines
}

// grant is what has to do with media: it belongs to no connection.
func (s *script) grant() {
	s.say("")
	s.say("A grant: of key 7, for account 21 to upload at most 100 MiB before 1800000900; the query that asks for it and the result, with the flags")
	s.say("byte of their frames.")
	s.put("grant_key_seed", testGrantKey.Seed[:])
	public := testGrantKey.Public()
	s.put("grant_key_public", public.Key[:])
	grant := AppendGrant(nil, testGrantKey.Signer(), &Grant{Method: GrantUpload, Account: alice, Expires: 1_800_000_900, Limit: 100 << 20})
	query := stanza.Query{ID: 3, Op: stanza.OpMediaGrant, Method: GrantUpload, Size: 100 << 20}
	result := stanza.Result{ID: 3, Expiry: 1_800_000_900_000, Grant: grant, URL: []byte("https://media.example.com")}
	s.put("grant", grant)
	s.put("grant_query_plain", query.Append([]byte{0}))
	s.put("grant_result_plain", result.Append([]byte{0}))
}

// relay is what has to do with relays.
func (s *script) relay() {
	s.say("")
	s.say("Credentials for a relay: for account 21 until 1800043200, made with the secret below; the query that asks for them and the result, with")
	s.say("the flags byte of their frames.")
	secret := RelaySecret{ID: 7, Key: [KeySize]byte(fill(0xc0))}
	name := AppendRelayName(nil, alice, 1_800_043_200)
	password := secret.AppendPassword(nil, string(name))
	query := stanza.Query{ID: 4, Op: stanza.OpRelay}
	result := stanza.Result{ID: 4, Expiry: 1_800_043_200_000, Username: name, Password: password, URLs: stanza.AppendURLs(nil, []string{
		"turn:relay.example.com:3478?transport=udp", "turns:relay.example.com:5349?transport=tcp",
	})}
	s.put("relay_secret", secret.Key[:])
	s.put("relay_username", name)
	s.put("relay_password", password)
	s.put("relay_query_plain", query.Append([]byte{0}))
	s.put("relay_result_plain", result.Append([]byte{0}))
}

// stanzas is the talk of session 1.
func (s *script) stanzas() {
	bound := stanza.Bound{Account: alice, Device: 1, Version: 1, Time: sessionMS, WindowIDs: 32, WindowBytes: 256 << 10}
	s.sealed("down", "bound(account 21, device 1, list version 1, time, window 32 ids, 256 KiB)", bound.Append(nil))
	msg := stanza.MessageUp{ID: firstID, Account: bob, Version: 1, Body: stanza.AppendCipher(nil, 1, []byte("ciphertext"))}
	s.sealed("up", "message 2049 to account 37, its device 1: alone, since it is the first of its stream", msg.Append(nil))
	ack := stanza.Ack{IDs: stanza.AppendPacked(nil, []uint64{firstID})}
	s.sealed("down", "ack of 2049: it is stored", ack.Append(nil))
	next := stanza.MessageUp{ID: firstID + 1, Account: bob, Version: 1, Body: stanza.AppendCipher(nil, 1, []byte("another"))}
	last := stanza.MessageUp{ID: firstID + 2, After: firstID + 1, Account: bob, Version: 1, Body: stanza.AppendCipher(nil, 1, []byte("third"))}
	s.sealed("up", "messages 2050 and 2051 (after 2050)", next.Append(nil), last.Append(nil))
	ack.IDs = stanza.AppendPacked(nil, []uint64{firstID + 1, firstID + 2})
	s.sealed("down", "ack of 2050 and 2051", ack.Append(nil))
	delivered := stanza.ReceiptDown{Tag: stanza.TagDelivered, From: bob, IDs: stanza.AppendPacked(nil, []uint64{firstID, firstID + 1, firstID + 2})}
	down := stanza.MessageDown{ID: 5000, From: bob, FromDevice: 1, SentAt: sessionMS + 2000, Body: []byte("answer")}
	s.sealed("down", "two deliveries in one frame: account 37 has 2049 to 2051; message 5000 of account 37, device 1", delivered.Append(nil), down.Append(nil))
	count := stanza.DeliveryAck{Count: 2}
	s.sealed("up", "delivery_ack of both", count.Append(nil))
	read := stanza.ReadUp{ID: lastID, Account: bob, Device: 1, IDs: stanza.AppendPacked(nil, []uint64{5000})}
	s.sealed("up", "read 2052: message 5000 of account 37, device 1, was read", read.Append(nil))
	ack.IDs = stanza.AppendPacked(nil, []uint64{lastID})
	s.sealed("down", "ack of 2052", ack.Append(nil))
	end := stanza.Close{Reason: stanza.ReasonDraining, RetryAfter: 2500}
	s.sealed("down", "close: draining, come again after 2.5 s x uniform(0.5, 1.5)", end.Append(nil))
}

func formatLines(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		switch {
		case l.label != "":
			fmt.Fprintf(&b, "%s %x\n", l.label, l.bytes)
		case l.comment != "":
			fmt.Fprintf(&b, "# %s\n", l.comment)
		default:
			b.WriteString("\n")
		}
	}
	return b.String()
}

// TestSession: the program still says what the committed vector says.
func TestSession(t *testing.T) {
	got := formatLines(sessionLines(t))
	if *update {
		if err := os.WriteFile(sessionFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(sessionFile)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("the wire has changed: adjust docs/protocol.md with it, and run with -update. Now:\n%s", got)
	}
}

// readSession reads the vector: one map for the keys and each session.
func readSession(t *testing.T) (keys map[string][]byte, sessions []map[string][]byte) {
	t.Helper()
	f, err := os.Open(sessionFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keys = map[string][]byte{}
	at := keys
	for sc := bufio.NewScanner(f); sc.Scan(); {
		label, text, ok := strings.Cut(sc.Text(), " ")
		if label == "#" && strings.HasPrefix(text, "Session ") {
			at = map[string][]byte{}
			sessions = append(sessions, at)
		}
		if !ok || label == "#" {
			continue
		}
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("%s: %v", label, err)
		}
		if at[label] != nil {
			t.Fatalf("%s twice", label)
		}
		at[label] = b
	}
	return keys, sessions
}

// TestSessionAgainstSpecification computes the vector again with the implementation of spec_test.go.
func TestSessionAgainstSpecification(t *testing.T) {
	keys, sessions := readSession(t)
	if len(sessions) != 3 {
		t.Fatalf("%d sessions", len(sessions))
	}
	first, second, third := sessions[0], sessions[1], sessions[2]
	preamble := []byte{'L', 'C', 1, 0}
	equal(t, "preamble", first["preamble"], preamble)
	checkSpecSession(t, keys, first, preamble, first["register"], 4, 6)
	conn := bytes.Join([][]byte{preamble, second["resume_frame"], second["use_xx_frame"]}, nil)
	checkSpecSession(t, keys, second, conn, second["bind"], 1, 2)
	equal(t, "use-XX", second["use_xx_frame"], []byte{0, 1, 3})
	equal(t, "resume", second["resume_frame"],
		specFrame([]byte{2, 0, 16}, second["resume_frame"][5:21], bytes.Repeat([]byte{0x70}, 48)))
	checkSpecResume(t, third, preamble)
	equal(t, "ticket's value", testTicketValue(), bytes.Join([][]byte{third["psk"], third["ticket"]}, nil))
	equal(t, "refused", third["refused_frame"], []byte{0, 7, 4, 0, 6, 0, 0, 0x09, 0xC4})
	checkSpecCertificate(t, keys)
	checkSpecGrant(t, third)
}

// checkSpecGrant writes the grant by hand.
func checkSpecGrant(t *testing.T, s map[string][]byte) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(s["grant_key_seed"])
	equal(t, "public key", s["grant_key_public"], private.Public().(ed25519.PublicKey))
	fields := []byte{1, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0, 21, 0, 0, 0, 0, 0x6b, 0x49, 0xd5, 0x84, 0, 0, 0, 0, 6, 0x40, 0, 0}
	fields = append(fields, make([]byte, 32)...)
	equal(t, "grant", s["grant"], append(fields, ed25519.Sign(private, append([]byte("linecard grant 1\x00"), fields...))...))
	if !bytes.Contains(s["grant_result_plain"], s["grant"]) {
		t.Error("the result has another grant")
	}
}

func checkSpecSession(t *testing.T, keys, s map[string][]byte, before, payload []byte, up, down int) {
	t.Helper()
	prologue := append(bytes.Clone(before), 0, 33, 1)
	equal(t, "prologue", s["prologue"], prologue)
	xx := runSpecXX(prologue, keys["client_static_private"], s["client_ephemeral_private"],
		keys["server_static_private"], s["server_ephemeral_private"], keys["certificate"], payload)
	for i, m := range xx.messages {
		label := fmt.Sprintf("message_%d_frame", i+1)
		equal(t, label, s[label], specFrame([]byte{1}, m))
		label = fmt.Sprintf("hash_after_message_%d", i+1)
		equal(t, label, s[label], xx.hashes[i])
	}
	checkSpecFrames(t, s, xx.up, xx.down, up, down)
}

// checkSpecFrames checks the keys and the sealed frames of a session.
func checkSpecFrames(t *testing.T, s map[string][]byte, keyUp, keyDown []byte, up, down int) {
	t.Helper()
	equal(t, "key_up", s["key_up"], keyUp)
	equal(t, "key_down", s["key_down"], keyDown)
	for dir, count := range map[string]int{"up": up, "down": down} {
		key := map[string][]byte{"up": keyUp, "down": keyDown}[dir]
		for n := range count {
			label := fmt.Sprintf("%s_%d_", dir, n)
			equal(t, label, s[label+"frame"], specFrame(specSeal(key, uint64(n), nil, s[label+"plain"])))
			if err := stanza.DecodeFrame(s[label+"plain"], func(stanza.View) error { return nil }); err != nil {
				t.Errorf("%s%v", label, err)
			}
		}
		if extra := fmt.Sprintf("%s_%d_frame", dir, count); s[extra] != nil {
			t.Errorf("%s is not checked", extra)
		}
	}
}

// checkSpecCertificate reads the certificate by its description alone.
func checkSpecCertificate(t *testing.T, keys map[string][]byte) {
	t.Helper()
	cert := keys["certificate"]
	root := ed25519.NewKeyFromSeed(keys["root_seed"])
	tbs := bytes.Join([][]byte{
		{1}, specPublic(keys["server_static_private"]), {0, 0, 0, 0, 0, 0, 0, 7},
		{0, 0, 0, 0, 0x6B, 0x49, 0xC3, 0xF0}, {0, 0, 0, 0, 0x6B, 0xC0, 0x79, 0x00}, keys["root_public"], {7}, []byte("example"),
	}, nil)
	equal(t, "root", keys["root_public"], root.Public().(ed25519.PublicKey))
	equal(t, "certificate", cert[:len(cert)-64], tbs)
	equal(t, "signature", cert[len(cert)-64:], ed25519.Sign(root, append([]byte("linecard gateway certificate v1\x00"), tbs...)))
	equal(t, "client", keys["client_static_public"], specPublic(keys["client_static_private"]))
	equal(t, "server", keys["server_static_public"], specPublic(keys["server_static_private"]))
}

func equal(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) || len(want) == 0 {
		t.Errorf("%s\n got %x\nwant %x", what, got, want)
	}
}
