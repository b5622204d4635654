package router

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"

	"linecard.example/internal/link"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// takeKeys returns the keys that a gateway was told, by ids newest first.
func takeKeys(t *testing.T, h *harness, s *fakeStream, ids ...uint32) []wire.TicketKey {
	t.Helper()
	e := s.take(t, link.KindTicketKeys)
	keys, err := wire.ParseTicketKeys(e.Payload)
	if err != nil || e.Group != h.m.id || e.Term != h.m.term {
		t.Fatalf("%+v: %v", e, err)
	}
	var got []uint32
	for _, k := range keys {
		got = append(got, k.ID)
		if k.Key == ([32]byte{}) {
			t.Error("a key of zeros")
		}
	}
	if !slices.Equal(got, ids) {
		t.Fatalf("keys %v, want %v", got, ids)
	}
	return keys
}

// TestTicketKeysRotate: a key seals for one rotation and opens for ticketKeys, and every gateway hears of each, now or when it comes.
func TestTicketKeysRotate(t *testing.T) {
	h := newHarnessOf(t, 0, nil)
	early := h.gateway(1, 1)
	first := takeKeys(t, h, early, 1)
	h.tick(23 * time.Hour)
	early.nothing(t)
	h.tick(time.Hour)
	second := takeKeys(t, h, early, 2, 1)
	if second[1] != first[0] || second[0].Key == first[0].Key {
		t.Error("the second set is not the first one and a new key")
	}
	late := h.gateway(2, 1)
	if got := takeKeys(t, h, late, 2, 1); !slices.Equal(got, second) {
		t.Error("a gateway that comes late gets other keys")
	}
	h.up(link.RoleOffline, 99, 1).take(t, link.KindHello)
	h.tick(24 * time.Hour)
	third := takeKeys(t, h, late, 3, 2, 1)
	if got := takeKeys(t, h, early, 3, 2, 1); !slices.Equal(got, third) || got[1] != second[0] {
		t.Error("two gateways have different keys")
	}
	h.tick(time.Hour)
	early.nothing(t)
	late.nothing(t)
	for id := uint32(4); id <= ticketKeys+1; id++ { // and then the first one goes
		h.tick(24 * time.Hour)
		var want []uint32
		for k := id; k > 0 && len(want) < ticketKeys; k-- {
			want = append(want, k)
		}
		takeKeys(t, h, early, want...)
		takeKeys(t, h, late, want...)
	}
	for _, p := range h.m.peers {
		if s := p.to.(*fakeStream); p.role == link.RoleOffline {
			s.nothing(t)
		}
	}
}

// TestTicketKeysOutliveLeaders: the next leader tells the same keys at once, and makes one if it was due meanwhile.
func TestTicketKeysOutliveLeaders(t *testing.T) {
	h := newHarnessOf(t, 0, nil)
	s := h.gateway(1, 1)
	keys := takeKeys(t, h, s, 1)
	h.m.Follow()
	h.tick(30 * time.Hour)
	s.nothing(t) // who does not lead makes none
	h.m.Lead(h.m.term + 1)
	h.settle()
	s.take(t, link.KindHello)
	if got := takeKeys(t, h, s, 1); !slices.Equal(got, keys) {
		t.Error("a new leader tells other keys")
	}
	takeKeys(t, h, s, 2, 1)
	h.restart()
	s = h.gateway(1, 2)
	if got := takeKeys(t, h, s, 2, 1); got[1] != keys[0] {
		t.Error("a restart changed the keys")
	}
	s.nothing(t)
}

// TestTicketKeysOwed: what finds no credit, or does not get into the log, is tried again.
func TestTicketKeysOwed(t *testing.T) {
	h := newHarnessOf(t, 0, nil)
	s := h.gateway(1, 1)
	takeKeys(t, h, s, 1)
	s.err = link.ErrNoCredit
	h.tick(24 * time.Hour)
	s.err = nil
	h.tick(50 * time.Millisecond)
	takeKeys(t, h, s, 2, 1)
	for _, o := range []shard.Outcome{shard.Rejected, shard.Unknown} {
		h.g.outcome = o
		h.tick(24 * time.Hour)
		s.nothing(t)
	}
	h.g.outcome, h.g.full = shard.Committed, true
	h.tick(50 * time.Millisecond)
	s.nothing(t)
	h.g.full = false
	h.tick(50 * time.Millisecond)
	takeKeys(t, h, s, 3, 2, 1)
	h.tick(50 * time.Millisecond)
	s.nothing(t)
}

// TestTicketKeyTwice: of two keys for the same turn the first one that is committed counts, whoever proposed it.
func TestTicketKeyTwice(t *testing.T) {
	d := newTestDirectory(memRecords{})
	for i, c := range []command{{id: 1, key: key(1)}, {id: 1, key: key(2)}, {id: 3, key: key(3)}, {id: 0, key: key(4)}} {
		c.op = opTicketKey
		d.apply(entry(int64(100+i), c.append(nil)))
	}
	want := []wire.TicketKey{{ID: 1, Key: key(1)}}
	if d.tickets.made != 100 || !slices.Equal(d.tickets.keys, want) {
		t.Errorf("made %d: %v", d.tickets.made, d.tickets.keys)
	}
}

// TestTicketKeysElsewhere: only dir/0 has any.
func TestTicketKeysElsewhere(t *testing.T) {
	h := newHarness(t, nil)
	s := h.gateway(1, 1)
	h.tick(48 * time.Hour)
	s.nothing(t)
}

func TestTicketKeysAreNotLogged(t *testing.T) {
	var out bytes.Buffer
	h := newHarnessOf(t, 0, nil)
	h.log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.restart()
	s := h.gateway(1, 1)
	h.tick(24 * time.Hour)
	keys := append(takeKeys(t, h, s, 1), takeKeys(t, h, s, 2, 1)...)
	h.log.Info("whoever prints them", "keys", keys, "newest", keys[0])
	if !strings.Contains(out.String(), "ticket key made") {
		t.Error("a rotation is not logged")
	}
	for _, k := range keys {
		forms := []string{string(k.Key[:]), hex.EncodeToString(k.Key[:]), base64.StdEncoding.EncodeToString(k.Key[:]), fmt.Sprintf("%d %d", k.Key[0], k.Key[1])}
		for _, f := range forms {
			if strings.Contains(out.String(), f) {
				t.Fatalf("the log shows %v", k)
			}
		}
	}
}

// TestTicketKeysOnDisk: a real router keeps its keys over a restart, from the log and from a snapshot.
func TestTicketKeysOnDisk(t *testing.T) {
	fs := vfs.NewStrictMem()
	dir := stanza.DirGroup(0)
	var first []wire.TicketKey
	for life, snapshot := range []bool{false, true, false} {
		d := startRouter(t, fs, life == 0, nil)
		gw := newFakeDaemon(t, link.RoleGateway, 1, uint64(life+1))
		link.Connect(gw.endpoint, d.r.Endpoint())
		keys, err := wire.ParseTicketKeys(gw.wait(link.KindTicketKeys, dir).Payload)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = keys
		}
		if !slices.Equal(keys, first) {
			t.Errorf("life %d: keys %v", life, keys)
		}
		if snapshot {
			if err := d.r.hosted[0].group.Snapshot(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		d.close()
		fs.ResetToSyncedState()
	}
}
