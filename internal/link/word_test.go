package link

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"linecard.example/internal/stanza"
)

// TestWord: the newest leader of dir/0 is believed, and another one when that is gone; nobody else ever.
func TestWord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var heard string
		w := NewWord(KindGrantKeys, func(p []byte) error {
			if string(p) == "" {
				return errors.New("nothing")
			}
			heard = string(p)
			return nil
		}, slog.New(slog.DiscardHandler))
		end := NewEndpoint(info(RoleMedia), w, Options{})
		connectTo := func(role Role, node uint64) (say func(kind Kind, group stanza.Group, term uint64, payload string), stop func()) {
			r := newRecorder(t)
			i := info(role)
			i.Node = node
			stop = Connect(NewEndpoint(i, r, Options{}), end)
			synctest.Wait()
			return func(kind Kind, group stanza.Group, term uint64, payload string) {
				t.Helper()
				if err := r.ups[0].Send(&Envelope{Kind: kind, Group: group, Term: term, Payload: []byte(payload)}); err != nil {
					t.Error(err)
				}
				synctest.Wait()
			}, stop
		}
		one, stopOne := connectTo(RoleRouter, 11)
		two, stopTwo := connectTo(RoleRouter, 12)
		stranger, stopStranger := connectTo(RoleOffline, 13)
		defer stopOne()
		defer stopStranger()
		want := func(what, text string) {
			t.Helper()
			if heard != text {
				t.Fatalf("%s: %q, want %q", what, heard, text)
			}
		}
		dir := stanza.DirGroup(0)
		stranger(KindGrantKeys, dir, 9, "from a queue")
		one(KindGrantKeys, stanza.DirGroup(1), 9, "for another group")
		one(KindTicketKeys, dir, 9, "of another kind")
		want("before anything", "")
		one(KindGrantKeys, dir, 3, "a")
		want("the first", "a")
		one(KindGrantKeys, dir, 4, "")
		two(KindGrantKeys, dir, 2, "x")
		want("of a lower term", "a")
		two(KindGrantKeys, dir, 3, "b")
		want("of a new leader, and what cannot be read has no term", "b")
		two(KindGrantKeys, dir, 4, "c")
		one(KindGrantKeys, dir, 3, "x")
		want("of the leader before", "c")
		two(KindGrantKeys, dir, 1, "d")
		want("of the leader itself, whatever the term", "d")
		two(KindGrantKeys, dir, 4, "e")
		stopTwo()
		synctest.Wait()
		want("without a leader", "e")
		one(KindGrantKeys, dir, 1, "f")
		want("of a lower term, with the leader gone", "f")
	})
}
