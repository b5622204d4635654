package wire

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"linecard.example/internal/stanza"
)

// Session 3: what the ticket of session 2 holds, and the key that it is sealed with.
var (
	testTicketKey = TicketKey{ID: 77, Key: [KeySize]byte(fill(0xA0))}
	testTicket    = Ticket{
		Account: alice, Device: 1, Hash: StaticHash([KeySize]byte(testClient.Public)), Proved: sessionMS / 1000, Expiry: sessionMS/1000 + 86400,
		PSK: [KeySize]byte(fill(0xB0)),
	}
)

func testTicketValue() []byte {
	random := [TicketRandom]byte(fill(0xC0))
	return AppendTicketValue(nil, &testTicketKey, &testTicket, &random)
}

// resumed is session 3.
func (s *script) resumed(t *testing.T, bind *stanza.Bind, bound *stanza.Bound) {
	psk, ticket, _ := SplitTicketValue(bound.Ticket)
	s.say("")
	s.say("Session 3: a resume with the ticket of session 2. What the ticket is inside is the server's business; the key is for who wants to look.")
	s.put("ticket_key", testTicketKey.Key[:])
	s.put("psk", psk[:])
	s.put("ticket", ticket)
	s.say("What client and server take from their random sources.")
	client, server := fill(0xD0), fill(0xE0)
	s.put("client_ephemeral_private", client)
	s.put("server_ephemeral_private", server)
	r := NewResumer(bytes.NewReader(client))
	up, err := r.AppendResume(nil, Preamble[:], ticket, &psk)
	if err != nil {
		t.Fatal(err)
	}
	down, _, err := AnswerResume(nil, Preamble[:], body(t, up), &psk, bytes.NewReader(server))
	if err != nil {
		t.Fatal(err)
	}
	if s.keys, err = r.ReadAnswer(body(t, down)); err != nil {
		t.Fatal(err)
	}
	before := append(bytes.Clone(Preamble[:]), up[:len(up)-resumeMessage]...)
	spec := runSpecResume(before, psk[:], client, server)
	s.put("prologue", before)
	s.put("resume_frame", up)
	s.put("hash_after_message_1", spec.hashes[0])
	s.put("answer_frame", down)
	s.put("hash_after_message_2", spec.hashes[1])
	s.put("key_up", s.keys.TX[:])
	s.put("key_down", s.keys.RX[:])
	s.up, s.down = 0, 0
	s.sealed("up", "bind, at once; then nothing until bound", bind.Append(nil))
	again := *bound
	again.ID, again.Time, again.Ticket = lastID, bound.Time+60_000, nil
	s.sealed("down", "bound; without a ticket when the server has none to give", again.Append(nil))
}

func checkSpecResume(t *testing.T, s map[string][]byte, before []byte) {
	t.Helper()
	n := len(s["ticket"])
	head := []byte{byte((n + 51) >> 8), byte(n + 51), 2, byte(n >> 8), byte(n)}
	prologue := bytes.Join([][]byte{before, head, s["ticket"]}, nil)
	equal(t, "prologue", s["prologue"], prologue)
	r := runSpecResume(prologue, s["psk"], s["client_ephemeral_private"], s["server_ephemeral_private"])
	equal(t, "resume_frame", s["resume_frame"], specFrame(head[2:], s["ticket"], r.messages[0]))
	equal(t, "answer_frame", s["answer_frame"], specFrame([]byte{2}, r.messages[1]))
	equal(t, "hash_after_message_1", s["hash_after_message_1"], r.hashes[0])
	equal(t, "hash_after_message_2", s["hash_after_message_2"], r.hashes[1])
	checkSpecFrames(t, s, r.up, r.down, 1, 1)
	checkSpecTicket(t, s)
}

// checkSpecTicket opens the ticket by its description alone.
func checkSpecTicket(t *testing.T, s map[string][]byte) {
	t.Helper()
	ticket := s["ticket"]
	equal(t, "head", ticket[:5], []byte{1, 0, 0, 0, 77})
	a, err := chacha20poly1305.NewX(s["ticket_key"])
	if err != nil {
		t.Fatal(err)
	}
	plain, err := a.Open(nil, ticket[5:29], ticket[29:], ticket[:5])
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(append([]byte("linecard static key"), testClient.Public...))
	equal(t, "ticket", plain, bytes.Join([][]byte{
		{0, 0, 0, 0, 0, 0, 0, 21}, {0, 1}, hash[:16], {0, 0, 0, 0, 0x6B, 0x49, 0xD2, 0x00}, {0, 0, 0, 0, 0x6B, 0x4B, 0x23, 0x80}, s["psk"],
	}, nil))
}

// resumption runs one resume; tamper may change the body of either message.
func resumption(t testing.TB, ticket []byte, tamper func(message int, body []byte) []byte) (client, server Keys, err error) {
	t.Helper()
	psk := testTicket.PSK
	r := NewResumer(bytes.NewReader(fill(0xD0)))
	up, err := r.AppendResume(nil, Preamble[:], ticket, &psk)
	if err != nil {
		return client, server, err
	}
	down, server, err := AnswerResume([]byte("before"), Preamble[:], tamper(1, body(t, up)), &psk, bytes.NewReader(fill(0xE0)))
	if err != nil {
		if string(down) != "before" || server != (Keys{}) {
			t.Fatalf("an error with %x", down)
		}
		return client, server, err
	}
	client, err = r.ReadAnswer(tamper(2, body(t, down[len("before"):])))
	return client, server, err
}

func TestResume(t *testing.T) {
	same := func(_ int, b []byte) []byte { return b }
	for _, n := range []int{1, TicketSize, MaxTicket} {
		client, server, err := resumption(t, bytes.Repeat([]byte{5}, n), same)
		if err != nil || client.RX != server.TX || client.TX != server.RX || client.RX == client.TX {
			t.Fatalf("a ticket of %d bytes: %v", n, err)
		}
	}
	for message, size := range []int{0, resumeHead + TicketSize + resumeMessage, answerBody} {
		if message == 0 {
			continue
		}
		for i := range size {
			change := func(m int, b []byte) []byte {
				if b = bytes.Clone(b); m == message {
					b[i] ^= 1 << (i % 8)
				}
				return b
			}
			_, _, err := resumption(t, make([]byte, TicketSize), change)
			if !errors.Is(err, ErrHandshake) && !errors.Is(err, ErrHandshakeFrame) && !errors.Is(err, ErrKind) {
				t.Fatalf("message %d, byte %d changed: %v", message, i, err)
			}
			cut := func(m int, b []byte) []byte {
				if m == message {
					return b[:i]
				}
				return b
			}
			_, _, err = resumption(t, make([]byte, TicketSize), cut)
			if !errors.Is(err, ErrHandshakeFrame) && !errors.Is(err, ErrKind) {
				t.Fatalf("message %d cut to %d: %v", message, i, err)
			}
		}
	}
}

// TestResumeWithOther: another psk, another transcript and low-order points end it.
func TestResumeWithOther(t *testing.T) {
	psk, other := testTicket.PSK, [KeySize]byte{1}
	up, err := NewResumer(nil).AppendResume(nil, Preamble[:], make([]byte, TicketSize), &psk)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = AnswerResume(nil, Preamble[:], body(t, up), &other, nil)
	wantErr(t, "another psk", err, ErrHandshake)
	_, _, err = AnswerResume(nil, []byte{'L', 'C', 1, 1}, body(t, up), &psk, nil)
	wantErr(t, "another transcript", err, ErrHandshake)
	_, _, err = AnswerResume(nil, nil, body(t, up), &psk, nil)
	wantErr(t, "no transcript", err, ErrHandshake)
	_, _, err = AnswerResume(nil, Preamble[:], body(t, up), &psk, bytes.NewReader(nil))
	wantErr(t, "no randomness", err, ErrHandshake)
	for _, point := range lowOrder {
		up := AppendResume(nil, make([]byte, 9), lowOrderMessage(t, point, &psk))
		_, _, err = AnswerResume(nil, Preamble[:], body(t, up), &psk, nil)
		wantErr(t, point, err, ErrHandshake, ErrKeyShare)
	}
	r := NewResumer(nil)
	_, err = r.ReadAnswer(make([]byte, answerBody))
	wantErr(t, "answer first", err, ErrOrder)
	_, err = NewResumer(nil).AppendResume(nil, Preamble[:], make([]byte, MaxTicket+1), &psk)
	wantErr(t, "a long ticket", err, ErrHandshakeFrame)
}

// lowOrderMessage is a message 1 that authenticates, of somebody who has the psk, with a low-order point for a key.
func lowOrderMessage(t testing.TB, point string, psk *[KeySize]byte) []byte {
	var u []byte
	if _, err := fmt.Sscanf(point, "%x", &u); err != nil {
		t.Fatal(err)
	}
	s := specInit(protocolResume, append(Preamble[:], 0, 60, 2, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	s.mixKeyAndHash(psk[:])
	s.mixHash(u)
	s.mixKey(u)
	return append(bytes.Clone(u), s.encryptAndHash(nil)...)
}

func TestTicket(t *testing.T) {
	keys := []TicketKey{{ID: 78, Key: [KeySize]byte{3}}, testTicketKey}
	_, sealed, ok := SplitTicketValue(testTicketValue())
	if !ok || len(sealed) != TicketSize || TicketSize > MaxTicket || len(testTicketValue()) > stanza.MaxTicket {
		t.Fatalf("%d bytes", len(sealed))
	}
	var got Ticket
	if err := OpenTicket(&got, keys, sealed, testTicket.Expiry-1); err != nil || got != testTicket {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		keys   []TicketKey
		change func(b []byte) []byte
		now    int64
		want   error
	}{
		"expired":     {keys, bytes.Clone, testTicket.Expiry, ErrTicketExpired},
		"no key":      {nil, bytes.Clone, 0, ErrTicketKey},
		"other keys":  {keys[:1], bytes.Clone, 0, ErrTicketKey},
		"wrong key":   {[]TicketKey{{ID: 77}}, bytes.Clone, 0, ErrTicket},
		"empty":       {keys, func([]byte) []byte { return nil }, 0, ErrTicket},
		"longer":      {keys, func(b []byte) []byte { return append(bytes.Clone(b), 0) }, 0, ErrTicket},
		"its version": {keys, func(b []byte) []byte { return append([]byte{2}, b[1:]...) }, 0, ErrTicket},
	} {
		err := OpenTicket(&got, c.keys, c.change(sealed), c.now)
		wantErr(t, name, err, c.want)
		if got != (Ticket{}) {
			t.Errorf("%s: an error with %+v", name, got)
		}
	}
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 0x10
		if err := OpenTicket(&got, keys, b, 0); !errors.Is(err, ErrTicket) && !errors.Is(err, ErrTicketKey) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for _, n := range []int{0, KeySize, KeySize + MaxTicket + 1} {
		if _, _, ok := SplitTicketValue(make([]byte, n)); ok {
			t.Errorf("a ticket in %d bytes", n)
		}
	}
}

// FuzzResume gives a server whatever comes as a ticket, as the body of a resume frame and as the value of a client.
func FuzzResume(f *testing.F) {
	psk, ticket, _ := SplitTicketValue(testTicketValue())
	frame, err := NewResumer(bytes.NewReader(fill(0xD0))).AppendResume(nil, Preamble[:], ticket, &psk)
	if err != nil {
		f.Fatal(err)
	}
	good := frame[LenSize:]
	seed(f, "good", good)
	seed(f, "cut", good[:len(good)-1])
	seed(f, "ticket", ticket)
	seed(f, "no-ticket", []byte{2, 0, 0})
	seed(f, "low-order", AppendResume(nil, make([]byte, 9), lowOrderMessage(f, lowOrder[1], &psk))[LenSize:])
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Ticket
		if err := OpenTicket(&got, []TicketKey{testTicketKey}, b, 0); err == nil && !bytes.Equal(b, ticket) {
			t.Fatalf("a forged ticket: %x", b)
		}
		_, keys, err := AnswerResume(nil, Preamble[:], b, &psk, bytes.NewReader(fill(0xE0)))
		if err == nil && !bytes.Equal(b, good) {
			t.Fatalf("a forged resume: %x", b)
		}
		if err != nil && keys != (Keys{}) {
			t.Fatal("an error with keys")
		}
		if p, rest, ok := SplitTicketValue(b); ok && !bytes.Equal(append(p[:], rest...), b) {
			t.Fatalf("%x split into %x and %x", b, p, rest)
		}
	})
}

// TestHandshakeGarbage: what a server's side of a handshake leaves behind. In a storm of handshakes it is what the collector runs for.
func TestHandshakeGarbage(t *testing.T) {
	cert, reply := testCert.Sign(testRoot), make([]byte, 0, MaxReply)
	fresh := newPair()
	fresh.mustRun(t)
	hello, random := body(t, fresh.frames[0]), fill(0x50)
	rng := bytes.NewReader(nil)
	xx := testing.AllocsPerRun(50, func() {
		rng.Reset(random)
		r := NewResponder(testServer, cert, rng)
		_ = r.ReadHello(Preamble[:], hello)
		_, _ = r.AppendReply(reply)
		if f, err := r.ReadFinish(body(t, fresh.frames[2])); err != nil || len(f.Payload) == 0 {
			t.Fatal(err)
		}
	})
	_, sealed, _ := SplitTicketValue(testTicketValue())
	up, err := NewResumer(nil).AppendResume(nil, Preamble[:], sealed, &testTicket.PSK)
	if err != nil {
		t.Fatal(err)
	}
	keys := []TicketKey{testTicketKey}
	open := testing.AllocsPerRun(50, func() {
		var got Ticket
		if err := OpenTicket(&got, keys, sealed, 0); err != nil {
			t.Fatal(err)
		}
	})
	answer := testing.AllocsPerRun(50, func() {
		rng.Reset(random)
		if _, _, err := AnswerResume(reply, Preamble[:], body(t, up), &testTicket.PSK, rng); err != nil {
			t.Fatal(err)
		}
	})
	// XX leaves the responder, its finish and the payload, a ticket its cipher and plaintext. The race detector takes workspaces out of their
	// pool at random, of two objects each.
	if xx > 3+2*2 || open > 2 || answer > 2 {
		t.Errorf("allocations: XX %v, a ticket %v, an answer %v", xx, open, answer)
	}
}
