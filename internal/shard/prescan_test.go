package shard

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linecard.example/internal/stanza"
)

const lifeCommands = 1000

func lifeConfig(dir string, first bool) HostConfig {
	cfg := testConfig(nil)
	cfg.FS, cfg.Dir, cfg.Bootstrap = nil, dir, first
	return cfg
}

// life runs two groups with lifeCommands each on a real disk and returns a copy of the directory: as it was while they ran, which is what
// a kill leaves, or after they stopped in order.
func life(t *testing.T, killed bool) string {
	t.Helper()
	dir, copied := t.TempDir(), t.TempDir()
	h := openHost(t, lifeConfig(dir, true))
	m1, m2 := newToy(), newToy()
	g1, g2 := openToy(t, h, 1, m1), openToy(t, h, 2, m2)
	for from := 0; from < lifeCommands; from += 50 {
		propose(t, g1, m1, from, from+50)
		propose(t, g2, m2, from, from+50)
	}
	if killed {
		must(t, os.CopyFS(copied, os.DirFS(dir)))
	}
	must(t, h.Close())
	if !killed {
		must(t, os.CopyFS(copied, os.DirFS(dir)))
	}
	return copied
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// revive opens a copy of a directory after spoil changed it, and returns the least number of commands that a group has.
func revive(t *testing.T, dir string, spoil func(dir string)) (least uint64, err error) {
	t.Helper()
	again := t.TempDir()
	must(t, os.CopyFS(again, os.DirFS(dir)))
	spoil(again)
	h, err := OpenHost(lifeConfig(again, false))
	if err != nil {
		return 0, err
	}
	defer h.Close()
	least = lifeCommands
	for _, id := range []stanza.Group{1, 2} {
		m := newToy()
		g, err := Open[int, uint64](h, id, m)
		if err != nil {
			return 0, err
		}
		awaitLead(t, m)
		onShard(t, g, func() { least = min(least, m.count) })
	}
	return least, nil
}

// newest returns the last file of a database with the suffix or prefix.
func newest(t *testing.T, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	return files[len(files)-1]
}

// TestDamagedFiles flips bits in, or cuts, each file of the databases, after a stop in order and after a kill. Either all that was
// committed is there, or the host or a group does not open and says which file or directory it is about and what to do. A cut end of the
// newest log after a kill is what a power loss leaves of what was not synced; it must never be taken for more than that.
func TestDamagedFiles(t *testing.T) {
	for name, killed := range map[string]bool{"stopped": false, "killed": true} {
		dir := life(t, killed)
		rng := rand.New(rand.NewPCG(7, 8))
		for _, pattern := range []string{"log/*.log", "log/MANIFEST-*", "state/MANIFEST-*", "log/OPTIONS-*", "state/OPTIONS-*", "log/marker.*", "state/marker.*"} {
			refused, tries := 0, 3
			if pattern == "log/*.log" {
				tries = 8
			}
			for try := range tries {
				var at int
				least, err := revive(t, dir, func(dir string) {
					file := newest(t, dir, pattern)
					b, err := os.ReadFile(file)
					must(t, err)
					if len(b) == 0 {
						return
					}
					at = rng.IntN(len(b))
					if try%4 == 2 && !killed {
						must(t, os.Truncate(file, int64(at)))
						return
					}
					if pattern == "log/*.log" && killed {
						at = len(b) / 4 * (try % 3) // not in the last append of a group
					}
					b[at] ^= 1 << rng.IntN(8)
					must(t, os.WriteFile(file, b, 0o600))
				})
				if err == nil && least != lifeCommands {
					t.Errorf("%s, %s, byte %d: %d of %d commands are left, and nobody says so", name, pattern, at, least, lifeCommands)
				}
				if err != nil {
					refused++
					if !strings.Contains(err.Error(), filepath.Dir(pattern)) || !strings.Contains(err.Error(), remedy) {
						t.Errorf("%s, %s, byte %d: %v", name, pattern, at, err)
					}
				}
			}
			if strings.Contains(pattern, "log/*.log") && refused == 0 {
				t.Errorf("%s, %s: nothing was refused", name, pattern)
			}
		}
	}
}

// TestTornTail cuts the newest WAL of a killed host within its last append, and appends what a power loss may leave there instead: the
// rest is there.
func TestTornTail(t *testing.T) {
	dir := life(t, true)
	for name, tail := range map[string][]byte{"cut": nil, "zeros": make([]byte, 70_000), "noise": noiseOf(70_000)} {
		least, err := revive(t, dir, func(dir string) {
			file := newest(t, dir, "log/*.log")
			b, err := os.ReadFile(file)
			must(t, err)
			last := 0
			chunks(b, number(file), func(offset int, _ byte, _ []byte, gaps int) {
				if gaps == 0 {
					last = offset
				}
			})
			must(t, os.WriteFile(file, append(b[:last+5], tail...), 0o600))
		})
		if err != nil || least < lifeCommands-64 {
			t.Errorf("%s: %d commands, %v", name, least, err)
		}
	}
}

func number(file string) (n uint32) {
	for _, c := range strings.TrimSuffix(filepath.Base(file), ".log") {
		n = 10*n + uint32(c-'0')
	}
	return n
}

func noiseOf(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// TestOrphanProvesLoss damages a WAL before an entry whose predecessor was synced: it names file and entry.
func TestOrphanProvesLoss(t *testing.T) {
	dir := life(t, true)
	_, err := revive(t, dir, func(dir string) {
		file := newest(t, dir, "log/*.log")
		b, err := os.ReadFile(file)
		must(t, err)
		b[len(b)/2] ^= 4
		must(t, os.WriteFile(file, b, 0o600))
	})
	if !errors.Is(err, errTorn) || !strings.Contains(err.Error(), ".log before byte") {
		t.Errorf("%v", err)
	}
}
