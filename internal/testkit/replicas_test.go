package testkit

import (
	"path/filepath"
	"strings"
	"testing"
)

// equal checks two copies of one role's groups: each is whole, and has the same state in every group.
func equal(t *testing.T, a, b string) {
	t.Helper()
	out, errs, code := command(t, "", "fsck", "--data", a, "--compare", b)
	if n := strings.Count(out, " is the same in both behind entry "); code != 0 || n != defaultShards {
		t.Errorf("%s and %s: exit %d, %d groups are the same: %s\n%s", a, b, code, n, errs, out)
	}
}

// killMembers kills all members at one moment. Ended in order, the last ones go on among themselves, write what the first ones do not have to tables, and
// there is no entry any more behind which both can be looked at.
func (s *System) killMembers() {
	var all []*Process
	for _, name := range s.members() {
		all = append(all, s.Process(name))
	}
	KillTogether(all...)
}

// TestReplicasAreEqual: backups of running members, and their directories afterwards, have the same state in every group. A replica with a flipped
// bit is found, re-seeded by the others as docs/operations.md says, and equal again.
func TestReplicasAreEqual(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := Start(t, Cluster, Settings{})
	s.WaitVoters(3)
	h := NewHistory()
	ann, bobHome := s.NewDevice("ann", h, DeviceOptions{}), s.DiskHome("bob")
	s.NewDevice("bob", h, DeviceOptions{Quiet: true, Home: bobHome}).Close()
	must(t, ann.SayAll("bob", 300, 16))
	s.AwaitWhole()

	copies := map[string]string{}
	for _, name := range s.members() {
		copies[name] = filepath.Join(s.Dir, "copy-"+name)
		must(t, ann.SayAll("bob", 20, 16)) // between one backup and the next
		if out, errs, code := command(t, "", "backup", "--admin", s.Admin(name), "--out", copies[name]); code != 0 {
			t.Fatalf("backup of %s: exit %d, %s\n%s", name, code, errs, out)
		}
	}
	s.killMembers()
	for _, role := range []string{"router", "offline"} {
		for _, other := range []string{"-2", "-3"} {
			equal(t, copies[role+"-1"], copies[role+other])
			equal(t, s.DataDir(role+"-1"), s.DataDir(role+other))
		}
	}
	s.StartAll()
	s.AwaitWhole()

	const name = "offline-2"
	stop(t, s, name)
	tables, err := filepath.Glob(filepath.Join(s.DataDir(name), "offline", "state", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal("no tables: ", err)
	}
	flip(t, tables[0], 10, 1)
	out, errs, code := command(t, "", "fsck", "--data", s.DataDir(name))
	if code != 1 || !strings.Contains(out, "damaged: "+tables[0]) || !strings.Contains(errs, "leave the cluster") || !strings.Contains(errs, "join again") {
		t.Errorf("fsck: exit %d, %q\n%s", code, errs, out)
	}

	s.Replace(name)
	s.WaitReady()
	s.AwaitWhole()
	must(t, ann.SayAll("bob", 100, 16))
	s.AwaitWhole()
	s.killMembers()
	equal(t, s.DataDir("offline-1"), s.DataDir(name))
	equal(t, s.DataDir(name), s.DataDir("offline-3"))

	s.StartAll()
	bob := s.NewDevice("bob", h, DeviceOptions{Home: bobHome})
	h.Judge(t, map[string][]string{"bob": {bob.Label()}})
}
