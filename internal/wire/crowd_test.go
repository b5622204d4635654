package wire

import (
	"bytes"
	"errors"
	"testing"
)

// TestCrowd: a crowd's handshakes are those of an Initiator, byte for byte, and a Responder takes them.
func TestCrowd(t *testing.T) {
	server := KeypairOf([KeySize]byte{1})
	ephemeral := bytes.Repeat([]byte{7}, KeySize)
	crowd, err := NewCrowd(bytes.NewReader(ephemeral))
	if err != nil {
		t.Fatal(err)
	}
	cert := []byte("not judged here")
	verify := func(static, got []byte) error {
		if !bytes.Equal(static, server.Public) || !bytes.Equal(got, cert) {
			return errors.New("another server")
		}
		return nil
	}
	for client := byte(2); client < 6; client++ {
		transcript := append(Preamble[:], make([]byte, client)...)
		private := [KeySize]byte{client}
		payload := bytes.Repeat([]byte{client}, int(client)*10)
		var h CrowdHello
		hello, err := crowd.AppendHello(&h, nil, transcript)
		if err != nil {
			t.Fatal(err)
		}
		one := NewInitiator(KeypairOf(private), bytes.NewReader(ephemeral))
		want, err := one.AppendHello(nil, transcript)
		if err != nil || !bytes.Equal(hello, want) {
			t.Fatalf("message 1 % x, want % x, %v", hello, want, err)
		}
		r := NewResponder(server, cert, nil)
		if err := r.ReadHello(transcript, hello[LenSize:]); err != nil {
			t.Fatal(err)
		}
		reply, err := r.AppendReply(nil)
		if err != nil {
			t.Fatal(err)
		}
		finish, keys, err := crowd.AppendFinish(&h, nil, reply[LenSize:], verify, &private, payload)
		if err != nil {
			t.Fatal(err)
		}
		if err := one.ReadReply(reply[LenSize:], verify); err != nil {
			t.Fatal(err)
		}
		want, wantKeys, err := one.AppendFinish(nil, payload)
		if err != nil || !bytes.Equal(finish, want) || keys != wantKeys {
			t.Fatalf("message 3 % x, want % x, %v", finish, want, err)
		}
		f, err := r.ReadFinish(finish[LenSize:])
		if err != nil || f.RX != keys.TX || f.TX != keys.RX || !bytes.Equal(f.Payload, payload) || f.Static != PublicKey(private) {
			t.Fatalf("the server: %+v, %v", f, err)
		}
	}
	crowdFaults(t, crowd, verify)
}

// crowdFaults: whatever is changed of message 2 ends the handshake.
func crowdFaults(t *testing.T, crowd *Crowd, verify func(static, cert []byte) error) {
	for name, change := range map[string]func(b []byte) []byte{
		"another kind":      func(b []byte) []byte { b[0] = byte(KindUseXX); return b },
		"cut":               func(b []byte) []byte { return b[:replyFixed-1] },
		"a low-order point": func(b []byte) []byte { clear(b[1 : 1+KeySize]); return b },
		"the static key":    func(b []byte) []byte { b[1+KeySize]++; return b },
		"the certificate":   func(b []byte) []byte { b[len(b)-1]++; return b },
		"another server":    nil,
	} {
		var h CrowdHello
		hello, err := crowd.AppendHello(&h, nil, Preamble[:])
		if err != nil {
			t.Fatal(err)
		}
		server := KeypairOf([KeySize]byte{1})
		if change == nil {
			server, change = KeypairOf([KeySize]byte{9}), func(b []byte) []byte { return b }
		}
		r := NewResponder(server, []byte("not judged here"), nil)
		if err := r.ReadHello(Preamble[:], hello[LenSize:]); err != nil {
			t.Fatal(err)
		}
		reply, err := r.AppendReply(nil)
		if err != nil {
			t.Fatal(err)
		}
		dst := []byte("x")
		out, keys, err := crowd.AppendFinish(&h, dst, change(reply[LenSize:]), verify, &[KeySize]byte{5}, []byte("payload"))
		if err == nil || keys != (Keys{}) || string(out) != "x" {
			t.Errorf("%s: %v, %q", name, err, out)
		}
	}
}

// TestCrowdGarbage: a handshake leaves the few small objects that X25519 makes escape, where flynn/noise leaves a hundred.
func TestCrowdGarbage(t *testing.T) {
	crowd, err := NewCrowd(nil)
	if err != nil {
		t.Fatal(err)
	}
	server := KeypairOf([KeySize]byte{1})
	var h, again CrowdHello
	buf := make([]byte, 0, 2048)
	hello, err := crowd.AppendHello(&h, nil, Preamble[:])
	if err != nil {
		t.Fatal(err)
	}
	r := NewResponder(server, []byte("certificate"), nil)
	if err := r.ReadHello(Preamble[:], hello[LenSize:]); err != nil {
		t.Fatal(err)
	}
	reply, err := r.AppendReply(nil)
	if err != nil {
		t.Fatal(err)
	}
	private, verify := [KeySize]byte{3}, func(_, _ []byte) error { return nil }
	n := testing.AllocsPerRun(20, func() {
		if _, err := crowd.AppendHello(&again, buf, Preamble[:]); err != nil {
			t.Fatal(err)
		}
		again = h
		if _, _, err := crowd.AppendFinish(&again, buf, reply[LenSize:], verify, &private, nil); err != nil {
			t.Fatal(err)
		}
	})
	if n > 6 {
		t.Errorf("%v allocations", n)
	}
}

// TestCrowdResumes as a Resumer does, byte for byte.
func TestCrowdResumes(t *testing.T) {
	ephemeral := bytes.Repeat([]byte{7}, KeySize)
	crowd, err := NewCrowd(bytes.NewReader(ephemeral))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, TicketSize, MaxTicket} {
		ticket, psk := bytes.Repeat([]byte{9}, size), [KeySize]byte{byte(size)}
		var h CrowdHello
		first, err := crowd.AppendResume(&h, nil, Preamble[:], ticket, &psk)
		if err != nil {
			t.Fatal(err)
		}
		one := NewResumer(bytes.NewReader(ephemeral))
		want, err := one.AppendResume(nil, Preamble[:], ticket, &psk)
		if err != nil || !bytes.Equal(first, want) {
			t.Fatalf("% x, want % x, %v", first, want, err)
		}
		reply, server, err := AnswerResume(nil, Preamble[:], first[LenSize:], &psk, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantKeys, err := one.ReadAnswer(reply[LenSize:])
		if err != nil {
			t.Fatal(err)
		}
		changed := append([]byte(nil), reply[LenSize:]...)
		changed[len(changed)-1]++
		spoilt := h
		if _, err := crowd.ReadAnswer(&spoilt, changed); err == nil {
			t.Error("a changed answer passes")
		}
		if _, err := crowd.ReadAnswer(&spoilt, changed[:20]); err == nil {
			t.Error("a cut answer passes")
		}
		keys, err := crowd.ReadAnswer(&h, reply[LenSize:])
		if err != nil || keys != wantKeys || keys.TX != server.RX || keys.RX != server.TX {
			t.Fatalf("keys %v, %v", keys == wantKeys, err)
		}
	}
	var h CrowdHello
	if _, err := crowd.AppendResume(&h, nil, Preamble[:], nil, &[KeySize]byte{}); err == nil {
		t.Error("a resumption without a ticket")
	}
}
