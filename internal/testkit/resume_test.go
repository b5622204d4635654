package testkit

import (
	"context"
	"errors"
	"testing"

	"linecard.example/gateway/client"
	"linecard.example/internal/stanza"
)

// resumed returns how many sessions the gateway's process has bound by ticket and by XX.
func resumed(s *System) (byTicket, byXX float64) {
	m := s.Metrics("gateway")
	return m.Sum(`linecard_gateway_handshakes_total{result="resumed"}`), m.Sum(`linecard_gateway_handshakes_total{result="ok"}`)
}

// TestResume: clients come back by ticket, in memory or on disk, after the gateway was killed, after everything was, and after their own
// restart; nothing is lost on the way.
func TestResume(t *testing.T) {
	s := Start(t, Apart, Settings{})
	s.WaitTickets()
	h := NewHistory()
	home := s.DiskHome("bob")
	ann, bob := s.NewDevice("ann", h, DeviceOptions{}), s.NewDevice("bob", h, DeviceOptions{Home: home})
	again := func(what string, kill func()) {
		t.Helper()
		must(t, ann.SayAll("bob", 10, 8))
		kill()
		must(t, ann.SayAll("bob", 10, 8))
		must(t, bob.SayAll("ann", 10, 8))
		if byTicket, byXX := resumed(s); byTicket < 2 || byXX != 0 {
			t.Errorf("%s: %v came back by ticket and %v by XX, want 2 and 0", what, byTicket, byXX)
		}
	}
	again("after the gateway was killed", func() {
		s.Process("gateway").Kill()
		s.StartAll()
	})
	again("after everything was killed", func() {
		s.KillAll()
		s.StartAll()
	})
	bob.Close()
	bob = s.NewDevice("bob", h, DeviceOptions{Home: home})
	must(t, ann.SayAll("bob", 5, 5))
	if byTicket, byXX := resumed(s); byTicket < 3 || byXX != 0 {
		t.Errorf("after a restart of the client: %v by ticket and %v by XX, want 3 and 0", byTicket, byXX)
	}
	h.Judge(t, annAndBob)
}

// TestUnlinkRevokesTickets: a device that was unlinked while it was away comes with a good ticket and is told so.
func TestUnlinkRevokesTickets(t *testing.T) {
	s := Start(t, Together, Settings{})
	s.WaitTickets()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	bob, home := s.NewDevice("bob", nil, DeviceOptions{}), client.MemoryHome()
	number, err := bob.LinkDevice(ctx, home.PublicKey())
	must(t, err)
	must(t, home.Adopt(client.Identity{Account: bob.Self().Account, Device: number, Handle: "bob"}))
	s.NewDevice("bob", nil, DeviceOptions{Home: home}).Close()
	must(t, bob.UnlinkDevice(ctx, number))
	const sentBack = "linecard_gateway_use_xx_total"
	before := s.Metrics("up").Sum(sentBack)
	var closed *client.CloseError
	if _, err := s.OpenDevice("bob", nil, DeviceOptions{Home: home}); !errors.As(err, &closed) || closed.Reason != stanza.ReasonUnlinked {
		t.Fatalf("the unlinked device is told %v", err)
	}
	m := s.Metrics("up")
	if n := m.Sum(`linecard_gateway_handshakes_total{result="unlinked"}`); n != 1 || m.Sum(sentBack) != before {
		t.Errorf("%v told unlinked, %v tickets sent back to XX", n, m.Sum(sentBack)-before)
	}
}
