package router

import (
	"slices"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/wire"
)

// takeSecrets returns the secrets that a turnd was told, by ids newest first.
func takeSecrets(t *testing.T, h *harness, s *fakeStream, ids ...uint32) []wire.RelaySecret {
	t.Helper()
	e := s.take(t, link.KindRelaySecrets)
	secrets, err := wire.ParseRelaySecrets(e.Payload)
	if err != nil || e.Group != h.m.id || e.Term != h.m.term {
		t.Fatalf("%+v: %v", e, err)
	}
	var got []uint32
	for _, s := range secrets {
		got = append(got, s.ID)
	}
	if !slices.Equal(got, ids) {
		t.Fatalf("secrets %v, want %v", got, ids)
	}
	return secrets
}

// TestRelaySecrets: a turnd hears at once what gateways make credentials with, before they do and for a rotation after.
func TestRelaySecrets(t *testing.T) {
	h := newHarnessOf(t, 0, nil)
	gw, turnd := h.gateway(1, 1), h.up(link.RoleRelay, 50, 1)
	tickets, secrets := takeKeys(t, h, gw, 1), takeSecrets(t, h, turnd, 1)
	var out []wire.RelaySecret // what the credentials that are out were made with, the newest last
	for id := uint32(2); id < 8; id++ {
		out = append(out, wire.SigningKey(tickets).RelaySecret())
		if !slices.Contains(secrets, out[len(out)-1]) {
			t.Errorf("%v is not among %v", out[len(out)-1], secrets)
		}
		before := secrets
		turnd.err = link.ErrNoCredit
		h.tick(24 * time.Hour)
		turnd.nothing(t)
		turnd.err = nil
		h.tick(50 * time.Millisecond)
		var all, newest []uint32
		for n := id; n > 0; n-- {
			all = append(all, n)
		}
		newest = all[:min(len(all), wire.MaxRelaySecrets)]
		tickets, secrets = takeKeys(t, h, gw, all...), takeSecrets(t, h, turnd, newest...)
		if !slices.Contains(before, wire.SigningKey(tickets).RelaySecret()) {
			t.Error("who has not heard of the rotation refuses what is made after it")
		}
		if last := out[len(out)-1]; !slices.Contains(secrets, last) {
			t.Errorf("%v is gone with the rotation", last)
		}
		if n := len(out) - 3; n >= 0 && slices.Contains(secrets, out[n]) {
			t.Errorf("%v is still there", out[n])
		}
	}
	late := h.up(link.RoleRelay, 51, 1)
	if got := takeSecrets(t, h, late, 7, 6, 5); !slices.Equal(got, secrets) {
		t.Error("a turnd that comes late gets others")
	}
	h.tick(time.Hour)
	turnd.nothing(t)
	h.m.Lead(h.m.term + 1)
	h.settle()
	takeSecrets(t, h, turnd, 7, 6, 5)
	turnd.nothing(t)
}
