package mediad

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// teller is a router, or another peer, that tells keys.
type teller struct {
	t      *testing.T
	end    *link.Endpoint
	stream *link.Stream
}

func (p *teller) Up(s *link.Stream)                     { p.stream = s }
func (p *teller) Down(*link.Stream, error)              { p.stream = nil }
func (p *teller) Receive(*link.Stream, []link.Envelope) {}

func newTeller(t *testing.T, role link.Role, node uint64) *teller {
	p := &teller{t: t}
	p.end = link.NewEndpoint(link.Info{Role: role, Node: node, Incarnation: 1, Shards: 4, Cluster: "test"}, p, link.Options{})
	return p
}

func (p *teller) tell(group stanza.Group, term uint64, payload []byte) {
	p.t.Helper()
	if err := p.stream.Send(&link.Envelope{Kind: link.KindGrantKeys, Group: group, Term: term, Payload: payload}); err != nil {
		p.t.Fatal(err)
	}
	synctest.Wait()
}

func publics(ids ...uint32) []byte {
	var all []wire.GrantPublic
	for _, id := range ids {
		all = append(all, wire.GrantPublic{ID: id, Key: [32]byte{byte(id)}})
	}
	return wire.AppendGrantPublics(nil, all)
}

// ring is a keyring with an endpoint, and what it had used.
type ring struct {
	*keyring
	end  *link.Endpoint
	used []wire.GrantPublic
}

func newRing(dir string) *ring {
	r := &ring{}
	r.keyring = newKeyring(dir, func(keys []wire.GrantPublic) { r.used = keys }, slog.New(slog.DiscardHandler))
	r.end = link.NewEndpoint(link.Info{Role: link.RoleMedia, Node: 9, Incarnation: 1, Shards: 4, Cluster: "test"}, r.keyring, link.Options{})
	return r
}

func (r *ring) want(t *testing.T, what string, ids ...uint32) {
	t.Helper()
	var got []uint32
	for _, k := range r.used {
		got = append(got, k.ID)
	}
	if !slices.Equal(got, ids) {
		t.Fatalf("%s: keys %v, want %v", what, got, ids)
	}
}

// TestKeyring: the newest leader of dir/0 is believed, and another one when that is gone; nobody else ever.
func TestKeyring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t.TempDir())
		one, two, stranger := newTeller(t, link.RoleRouter, 1), newTeller(t, link.RoleRouter, 2), newTeller(t, link.RoleOffline, 3)
		dir := stanza.DirGroup(0)
		stopOne, stopTwo, stopStranger := link.Connect(one.end, r.end), link.Connect(two.end, r.end), link.Connect(stranger.end, r.end)
		synctest.Wait()
		r.want(t, "before anything")
		stranger.tell(dir, 9, publics(8))
		one.tell(stanza.DirGroup(1), 9, publics(8))
		r.want(t, "from a queue, and for another group")
		one.tell(dir, 3, publics(1))
		r.want(t, "the first", 1)
		one.tell(dir, 4, []byte("no keys"))
		two.tell(dir, 2, publics(7))
		r.want(t, "of a lower term", 1)
		two.tell(dir, 4, publics(2, 1))
		r.want(t, "of a new leader", 2, 1)
		one.tell(dir, 3, publics(1))
		r.want(t, "of the one before", 2, 1)
		two.tell(dir, 1, publics(3, 2))
		r.want(t, "of the leader itself, whatever the term", 3, 2)
		two.tell(dir, 4, publics(4, 3))
		stopTwo()
		synctest.Wait()
		r.want(t, "without a leader", 4, 3)
		one.tell(dir, 1, publics(5))
		r.want(t, "of a lower term, with the leader gone", 5)
		stopOne()
		stopStranger()
	})
}

// TestKeyringKeeps: what was heard is there after a restart, and a file that is damaged is as none.
func TestKeyringKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, keysFile)
		r := newRing(dir)
		ctx, cancel := context.WithCancel(t.Context())
		go r.run(ctx)
		router := newTeller(t, link.RoleRouter, 1)
		stop := link.Connect(router.end, r.end)
		synctest.Wait()
		router.tell(stanza.DirGroup(0), 1, publics(1))
		router.tell(stanza.DirGroup(0), 1, publics(2, 1))
		newRing(dir).want(t, "after a restart", 2, 1)
		stop()
		cancel()
		synctest.Wait()
		good, err := os.ReadFile(path)
		mustDo(t, err)
		for name, b := range map[string][]byte{"empty": {}, "cut": good[:len(good)-1], "another": append([]byte("linecard grant keys 2\n"), good[len(keysHead):]...), "no key": []byte(keysHead)} {
			mustDo(t, os.WriteFile(path, b, 0o600))
			newRing(dir).want(t, name)
		}
		mustDo(t, os.WriteFile(path, good, 0o600))
		newRing(dir).want(t, "whole again", 2, 1)
	})
}
