package link

import (
	"bytes"
	"errors"
	"testing"

	"linecard.example/internal/stanza"
)

// TestLook: an operator is told what a process says about itself, as often as it asks, and nobody else is.
func TestLook(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	board, there := NewBoard(), newRecorder(t)
	addr, _ := serve(t, "127.0.0.1:0", ca.config(t), NewEndpoint(info(RoleOffline), there, Options{Board: board, Credits: 2000}))
	operator := newRecorder(t)
	dial(t, NewEndpoint(info(RoleOperator), operator, Options{}), addr, RoleOffline, ca.config(t))
	s := operator.stream(0)
	ask := func(id uint64) {
		if err := s.Send(&Envelope{Kind: KindLook, Group: stanza.DirGroup(0), ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	ask(1) // of one that has nothing to say yet
	ask(2)
	if err := s.Send(message(9)); err != nil {
		t.Fatal(err)
	}
	there.envelopes(1) // what came before was not answered
	said := bytes.Repeat([]byte("x"), MaxPayload)
	board.Tell(func() []byte { return said })
	const asked = 2 * DefaultCredits / MaxPayload // more than either has credit for, if none came back
	for id := range uint64(asked) {
		ask(10 + id)
		got := operator.envelopes(int(id) + 1)
		if e := got[id]; e.Kind != KindLooked || e.ID != 10+id || !bytes.Equal(e.Payload, said) {
			t.Fatalf("%v %d, %d bytes", e.Kind, e.ID, len(e.Payload))
		}
		s.Done(stanza.DirGroup(0), got[id].Size())
	}
	if n := there.count(); n != 1 {
		t.Errorf("the daemon saw %d envelopes", n)
	}

	daemon := newRecorder(t)
	dial(t, NewEndpoint(info(RoleRouter), daemon, Options{}), addr, RoleOffline, ca.config(t))
	if err := daemon.stream(0).Send(&Envelope{Kind: KindLook}); err != nil {
		t.Fatal(err)
	}
	if err := daemon.stream(0).Send(message(9)); err != nil {
		t.Fatal(err)
	}
	there.envelopes(2)
	if n := daemon.count(); n != 0 {
		t.Errorf("a router was told %d times", n)
	}
	old := newStream(NewEndpoint(info(RoleOperator), newRecorder(t), Options{}), intro{info: info(RoleRouter), window: 300, kinds: KindMemberAnswer}, false)
	if err := old.Send(&Envelope{Kind: KindLook}); !errors.Is(err, ErrKind) {
		t.Errorf("an older binary is asked: %v", err)
	}
}
