package node

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedKeys changes one bit of many bytes of every key file of `up`, and cuts the file there: the next start says so, in a line that
// names the file or its other half and says what to do.
func TestDamagedKeys(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Data = t.TempDir()
	if err := ensureKeys(cfg, day); err != nil {
		t.Fatal(err)
	}
	dir := cfg.keyDir()
	rng := rand.New(rand.NewPCG(3, 4))
	partner := map[string]string{"root.key": "root.pub", "root.pub": "root.key", "ca.key": "ca.pem", "ca.pem": "ca.key", "up.key": "up.pem",
		"up.pem": "up.key", "up.static": "up.cert", "up.cert": "up.static"}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != len(partner) {
		t.Fatalf("%d key files, %v", len(files), err)
	}
	for _, f := range files {
		name := f.Name()
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, at int, bad []byte) {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			err := ensureKeys(cfg, day)
			switch {
			case err == nil:
				t.Errorf("%s: nobody noticed: byte %d %s", name, at, what)
			case !strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), partner[name]),
				!strings.Contains(err.Error(), "backup") && !strings.Contains(err.Error(), "issue"):
				t.Errorf("%s, byte %d %s: %v", name, at, what, err)
			}
		}
		for at := rng.IntN(4); at < len(good); at += 1 + rng.IntN(7) {
			bad := append([]byte(nil), good...)
			bad[at] ^= 1 << rng.IntN(8)
			check("changed", at, bad)
		}
		for range 20 {
			at := rng.IntN(len(good))
			check("cut", at, good[:at])
		}
		check("cut", len(good)-1, good[:len(good)-1])
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := ensureKeys(cfg, day); err != nil {
		t.Errorf("all restored: %v", err)
	}
}

// TestKeysOnFullDisk: issuing writes all files or none.
func TestKeysOnFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := InitKeys(dir, "prod", day); err != nil {
		t.Fatal(err)
	}
	if err := IssueKeys(dir, "a", day); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, "a.static"))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 300) // no file system takes that name: the second of two files cannot be made
	if err := writeFiles(dir, 0o600, map[string][]byte{"a.static": []byte("new"), long: nil}); err == nil {
		t.Fatal("no error")
	}
	after, err := os.ReadFile(filepath.Join(dir, "a.static"))
	if err != nil || string(after) != string(before) {
		t.Errorf("%q, %v", after, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
