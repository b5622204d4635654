package router

import (
	"slices"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/wire"
)

// takePublics returns the public keys that a mediad was told, by ids newest first.
func takePublics(t *testing.T, h *harness, s *fakeStream, ids ...uint32) []wire.GrantPublic {
	t.Helper()
	e := s.take(t, link.KindGrantKeys)
	keys, err := wire.ParseGrantPublics(e.Payload)
	if err != nil || e.Group != h.m.id || e.Term != h.m.term {
		t.Fatalf("%+v: %v", e, err)
	}
	var got []uint32
	for _, k := range keys {
		got = append(got, k.ID)
	}
	if !slices.Equal(got, ids) {
		t.Fatalf("keys %v, want %v", got, ids)
	}
	return keys
}

// TestGrantKeys: a mediad hears at once what gateways sign with, before they do, and never anything else.
func TestGrantKeys(t *testing.T) {
	h := newHarnessOf(t, 0, nil)
	gw, media := h.gateway(1, 1), h.up(link.RoleMedia, 50, 1)
	tickets, publics := takeKeys(t, h, gw, 1), takePublics(t, h, media, 1)
	for range 3 {
		opens(t, tickets, publics)
		media.err = link.ErrNoCredit
		h.tick(24 * time.Hour)
		media.nothing(t)
		media.err = nil
		before := publics
		h.tick(50 * time.Millisecond)
		var ids []uint32
		for id := before[0].ID + 1; id > 0; id-- {
			ids = append(ids, id)
		}
		tickets, publics = takeKeys(t, h, gw, ids...), takePublics(t, h, media, ids...)
		opens(t, tickets, before) // who has not heard of the rotation verifies what is signed after it
	}
	opens(t, tickets, publics)
	late := h.up(link.RoleMedia, 51, 1)
	if got := takePublics(t, h, late, 4, 3, 2, 1); !slices.Equal(got, publics) {
		t.Error("a mediad that comes late gets other keys")
	}
	h.tick(time.Hour)
	media.nothing(t)
	h.m.Lead(h.m.term + 1)
	h.settle()
	if got := takePublics(t, h, media, 4, 3, 2, 1); !slices.Equal(got, publics) {
		t.Error("a new leader tells other keys")
	}
	media.nothing(t)
}

// opens signs a grant as a gateway with these ticket keys does, and verifies it.
func opens(t *testing.T, tickets []wire.TicketKey, publics []wire.GrantPublic) {
	t.Helper()
	key := wire.SigningKey(tickets).GrantKey()
	g := wire.Grant{Method: wire.GrantUpload, Account: 5, Expires: 10, Limit: 1}
	if err := wire.OpenGrant(new(wire.Grant), publics, wire.AppendGrant(nil, key.Signer(), &g), 9); err != nil {
		t.Errorf("key %d with %d known: %v", key.ID, len(publics), err)
	}
}

// TestListenersSayNothing: what a mediad or a turnd sends a router is not taken from it.
func TestListenersSayNothing(t *testing.T) {
	for role, told := range map[link.Role]link.Kind{link.RoleMedia: link.KindGrantKeys, link.RoleRelay: link.KindRelaySecrets} {
		h := newHarnessOf(t, 0, nil)
		s := h.up(role, 50, 1)
		s.take(t, told)
		for k := link.KindRebind; k <= link.KindRelaySecrets; k++ {
			if wantsAnswer(k) || k == link.KindHello || k == link.KindNotLeader || k == link.KindRegions {
				continue
			}
			h.m.receive(s, &link.Envelope{Kind: k, Group: h.m.id, Account: 16, Device: 1, Slot: 1, ID: 1})
			h.settle()
			s.nothing(t)
		}
		if h.m.bindings.len() != 0 || h.m.directory.accounts != 0 {
			t.Errorf("a %v changed something", role)
		}
	}
}
