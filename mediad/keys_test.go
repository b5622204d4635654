package mediad

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"linecard.example/internal/wire"
)

func publics(ids ...uint32) []byte {
	var all []wire.GrantPublic
	for _, id := range ids {
		all = append(all, wire.GrantPublic{ID: id, Key: [32]byte{byte(id)}})
	}
	return wire.AppendGrantPublics(nil, all)
}

// ring is a keyring, and what it had used.
type ring struct {
	*keyring
	used []wire.GrantPublic
}

func newRing(dir string) *ring {
	r := &ring{}
	r.keyring = newKeyring(dir, func(keys []wire.GrantPublic) { r.used = keys }, slog.New(slog.DiscardHandler))
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

// TestKeyring: what cannot be read changes nothing, and what is known is no news.
func TestKeyring(t *testing.T) {
	r := newRing(t.TempDir())
	mustDo(t, r.hear(publics(2, 1)))
	r.want(t, "the first", 2, 1)
	if err := r.hear([]byte("no keys")); err == nil {
		t.Error("anything is taken for keys")
	}
	r.used = nil
	mustDo(t, r.hear(publics(2, 1)))
	r.want(t, "told again")
	mustDo(t, r.hear(publics(1)))
	r.want(t, "of a directory that lost its disk", 1)
}

// TestKeyringKeeps: what was heard is there after a restart, and a file that is damaged is as none.
func TestKeyringKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, keysFile)
		r := newRing(dir)
		ctx, cancel := context.WithCancel(t.Context())
		go r.run(ctx)
		mustDo(t, r.hear(publics(1)))
		mustDo(t, r.hear(publics(2, 1)))
		synctest.Wait()
		newRing(dir).want(t, "after a restart", 2, 1)
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
