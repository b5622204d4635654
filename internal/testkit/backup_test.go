package testkit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBackupOfARunningSystem backs `up` up while it takes messages, loses its disk, and restores the copy: whoever registered before is
// there, whatever was acked before the backup is delivered once, in order, and the system goes on for the same clients. The copy and the
// restored data are whole, and the data that are in use are not looked at.
func TestBackupOfARunningSystem(t *testing.T) {
	s := Start(t, Together, Settings{})
	h := NewHistory()
	ann := s.NewDevice("ann", h, DeviceOptions{Home: s.DiskHome("ann")})
	bobHome := s.DiskHome("bob")
	s.NewDevice("bob", h, DeviceOptions{Quiet: true, Home: bobHome}).Close()
	must(t, ann.SayAll("bob", 300, 16))

	other := NewHistory() // of whom nobody says afterwards what was kept
	dan := s.NewDevice("dan", other, DeviceOptions{})
	s.NewDevice("eve", other, DeviceOptions{Quiet: true}).Close()
	busy := make(chan error, 1)
	go func() { busy <- dan.SayAll("eve", 2000, 16) }()
	data, copied := filepath.Join(s.Dir, "data"), filepath.Join(s.Dir, "copy")
	out, errs, code := command(t, "", "backup", "--admin", s.Admin("up"), "--out", copied)
	if code != 0 || errs != "" || !strings.Contains(out, "is a backup") || strings.Count(out, " hash ") < 32 {
		t.Fatalf("backup: exit %d, %s\n%s", code, errs, out)
	}
	if _, err := os.Stat(filepath.Join(data, "offline", "checkpoint")); err == nil {
		t.Error("the checkpoint is still there")
	}
	must(t, <-busy)
	dan.Close()
	fails(t, "", 1, "it cannot be locked", "fsck", "--data", data)
	fails(t, "", 1, "is not empty", "backup", "--admin", s.Admin("up"), "--out", copied)
	fails(t, "", 1, "no such backup", "backup", "--admin", s.Admin("up"), "--abort")
	ann.Close()
	stop(t, s, "up")

	// Two copies of one history: what they have in common is the same.
	if out, errs, code := command(t, "", "fsck", "--data", data, "--compare", copied); code != 0 || strings.Contains(out, "damaged") {
		t.Errorf("fsck: exit %d, %s\n%s", code, errs, out)
	}
	must(t, os.Rename(data, data+"-lost"))
	fails(t, "", 1, "backup.json", "restore", "--from", data+"-lost", "--data", data)
	if out, errs, code := command(t, "", "restore", "--from", copied, "--data", data); code != 0 || !strings.Contains(out, "is a new node") {
		t.Fatalf("restore: exit %d, %s\n%s", code, errs, out)
	}
	before, _ := os.ReadFile(filepath.Join(data+"-lost", "node"))
	after, err := os.ReadFile(filepath.Join(data, "node"))
	if err != nil || string(before) == string(after) {
		t.Errorf("node %q restored as %q: %v", before, after, err)
	}
	s.StartAll()
	bob := s.NewDevice("bob", h, DeviceOptions{Home: bobHome})
	Eventually(t, "what was acked before the backup is delivered", func() bool { return h.Waiting("bob", bob.Label()) == 0 })
	ann = s.NewDevice("ann", h, DeviceOptions{Home: ann.Home})
	must(t, ann.SayAll("bob", 50, 8))
	Eventually(t, "what is sent afterwards is delivered", func() bool { return h.Waiting("bob", bob.Label()) == 0 })
	stop(t, s, "up")
	h.Judge(t, map[string][]string{"bob": {bob.Label()}})
	if out, errs, code := command(t, "", "fsck", "--data", data); code != 0 || !strings.HasSuffix(out, ": ok") {
		t.Errorf("fsck: exit %d, %s\n%s", code, errs, out)
	}
}

// TestBackupFindsDamage: a flipped bit in any file of a backup is found before anything is restored, and one in a data directory by
// fsck, which names file or group and says what to do.
func TestBackupFindsDamage(t *testing.T) {
	s := Start(t, Together, Settings{})
	h := NewHistory()
	ann := s.NewDevice("ann", h, DeviceOptions{})
	s.NewDevice("bob", h, DeviceOptions{Quiet: true}).Close()
	must(t, ann.SayAll("bob", 100, 16))
	copied := filepath.Join(s.Dir, "copy")
	if _, errs, code := command(t, "", "backup", "--admin", s.Admin("up"), "--out", copied); code != 0 {
		t.Fatal(errs)
	}
	ann.Close()
	stop(t, s, "up")
	for n, pattern := range []string{"offline/log/*.log", "router/log/MANIFEST-*", "offline/state/OPTIONS-*", "keys/root.key", "root.pub"} {
		files, err := filepath.Glob(filepath.Join(copied, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		info, err := os.Stat(files[0])
		must(t, err)
		flip(t, files[0], info.Size()/2, 1)
		to := filepath.Join(s.Dir, "restored", filepath.Base(files[0]))
		fails(t, "", 1, files[0]+" is not the file that was backed up", "restore", "--from", copied, "--data", to)
		if _, err := os.Stat(filepath.Join(to, "node")); err == nil {
			t.Errorf("%d: there is a node file", n)
		}
		flip(t, files[0], info.Size()/2, 1)
	}
	data := filepath.Join(s.Dir, "data")
	tables, err := filepath.Glob(filepath.Join(data, "offline", "state", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal("no tables: ", err)
	}
	flip(t, tables[0], 10, 1)
	out, errs, code := command(t, "", "fsck", "--data", data)
	if code != 1 || !strings.Contains(out, "damaged: "+tables[0]) || !strings.Contains(errs, "join again") || !strings.Contains(errs, "restore a backup") {
		t.Errorf("fsck: exit %d, %q\n%s", code, errs, out)
	}
}
