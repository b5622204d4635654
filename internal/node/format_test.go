package node

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// filesBelow returns the content of every file below a directory.
func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestNewerData: whatever a linecard may be told to do with data of a newer one, it says so and changes nothing.
func TestNewerData(t *testing.T) {
	n := upNode(t)
	cfg := n.cfg
	n.close()
	path := filepath.Join(cfg.Data, fileFormat)
	if text, err := os.ReadFile(path); err != nil || string(text) != "linecard-data 1 local 3\n" {
		t.Fatalf("%q %v", text, err)
	}
	if err := os.WriteFile(path, []byte("linecard-data 3 local 3 and more\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := filesBelow(t, cfg.Data)
	backup := t.TempDir()
	if err := os.WriteFile(filepath.Join(backup, manifestName), []byte(`{"format":1,"data_format":3}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{
		"up":     func() error { return errors.Join(EnsureKeys(cfg), startOf(cfg, all)) },
		"router": func() error { return startOf(cfg, []Role{Router}) },
		"init":   func() error { _, err := InitCluster(cfg, 3); return err },
		"join": func() error {
			_, err := JoinCluster(t.Context(), cfg, Offline, slog.New(slog.DiscardHandler))
			return err
		},
		"fsck": func() error { return Fsck(&bytes.Buffer{}, cfg.Data, "") },
		"restore": func() error {
			_, err := Restore(&bytes.Buffer{}, backup, filepath.Join(t.TempDir(), "data"), time.Now())
			return err
		},
		"fsck of a backup": func() error {
			if err := os.Mkdir(filepath.Join(backup, "router"), 0o700); err != nil {
				return err
			}
			return Fsck(&bytes.Buffer{}, backup, "")
		},
	} {
		if err := do(); !errors.Is(err, errNewer) || strings.Count(err.Error(), "newer linecard") != 1 && what != "up" {
			t.Errorf("%s: %v", what, err)
		}
	}
	for path, content := range filesBelow(t, cfg.Data) {
		if before[path] != content {
			t.Errorf("%s was changed", path)
		}
	}
}

// startOf opens a node and closes it again.
func startOf(cfg Config, roles []Role) error {
	n, err := New(cfg, roles, slog.New(slog.DiscardHandler))
	if err == nil {
		n.close()
	}
	return err
}

// TestOtherFacts: data do not start under the name of another cluster or with another number of shards, whatever daemon has them, and a
// directory from before there was a format gets one.
func TestOtherFacts(t *testing.T) {
	n := upNode(t)
	cfg := n.cfg
	n.close()
	wrong := cfg
	wrong.Shards = 4
	if err := startOf(wrong, all); err == nil || !strings.Contains(err.Error(), `cluster "local" with 3 shards, configured are "local" and 4`) {
		t.Errorf("4 shards: %v", err)
	}
	wrong = cfg
	wrong.Cluster = "other"
	if err := startOf(wrong, all); err == nil || !strings.Contains(err.Error(), `configured are "other" and 3`) {
		t.Errorf("another cluster: %v", err)
	}
	path := filepath.Join(cfg.Data, fileFormat)
	for _, damage := range []string{"", "linecard-data\n", "linecard-data 0 local 3\n", "linecard-data 1 local 3", "linecard-data 1 local x\n", "linecard-data 1 local\n"} {
		if err := os.WriteFile(path, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := startOf(cfg, all); err == nil || !strings.Contains(err.Error(), path+" is damaged") {
			t.Errorf("%q: %v", damage, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := startOf(cfg, all); err != nil {
		t.Fatal(err)
	}
	if f, err := readFacts(cfg.Data); err != nil || *f != (facts{1, "local", 3}) {
		t.Errorf("%+v %v", f, err)
	}
}

// TestWritten: other members are told the format of what is here, which is the former one as long as nothing needs the newer.
func TestWritten(t *testing.T) {
	var plain, linked Config
	plain.Data = t.TempDir()
	linked.Data, linked.Region.Number = plain.Data, 1
	if a, b := plain.written(), linked.written(); a != aloneFormat || b != regionsFormat {
		t.Errorf("nothing is there: %d and %d", a, b)
	}
	if err := (&facts{regionsFormat, "local", 3}).write(plain.Data); err != nil {
		t.Fatal(err)
	}
	if got := plain.written(); got != regionsFormat {
		t.Errorf("data of format 2, configured for 1: %d", got)
	}
}
