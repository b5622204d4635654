package node

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"linecard.example/gateway"
	"linecard.example/internal/config"
)

// TestWorkerShare: what is configured for the process as a whole is divided, and never below what works.
func TestWorkerShare(t *testing.T) {
	for _, workers := range []int{2, 105} {
		c := DefaultConfig()
		c.share(&gateway.Seat{Boot: gateway.Boot{Slot: 2, Worker: 2 | 1<<15, Workers: workers}})
		if err := c.Validate(Gateway); err != nil && !strings.Contains(err.Error(), "links.") {
			t.Errorf("%d workers: %v", workers, err)
		}
		whole := DefaultConfig()
		if c.Worker != 2|1<<15 || c.Links.Credit != max(whole.Links.Credit/config.Size(workers), leastCredit) || c.Log.ClientEvery <= whole.Log.ClientEvery {
			t.Errorf("%d workers: number %d, credit %v, a line every %v", workers, c.Worker, c.Links.Credit, c.Log.ClientEvery)
		}
	}
	before := debug.SetMemoryLimit(1 << 30)
	defer debug.SetMemoryLimit(before)
	if n := workerMemory(4); n != 1<<28 {
		t.Errorf("%d bytes of 1 GiB for each of four", n)
	}
}

// TestStartedAs: an upgrade starts what lies where this binary was started, also behind a link.
func TestStartedAs(t *testing.T) {
	dir := t.TempDir()
	first, second, link := filepath.Join(dir, "first"), filepath.Join(dir, "second"), filepath.Join(dir, "link")
	for _, path := range []string{first, second} {
		if err := os.WriteFile(path, []byte(path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(first, link); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]string{link: link, first: first, second: first, filepath.Join(dir, "none"): first, "": first} {
		if got := startedAs(arg, first); got != want {
			t.Errorf("started as %q: %s, want %s", arg, got, want)
		}
	}
}

// TestSupervisedRefuses: what no worker could run with is said at once, and a change that a rolling restart cannot make names its key.
func TestSupervisedRefuses(t *testing.T) {
	dir := t.TempDir()
	keys, path := filepath.Join(dir, "keys"), filepath.Join(dir, "g.toml")
	write := func(more string) {
		text := "data = \"" + dir + "/data\"\n" + more + "\n[admin]\nlisten = \"127.0.0.1:0\"\n[links]\nkeys = \"" + keys +
			"\"\nrouters = [\"127.0.0.1:1\"]\nofflines = [\"127.0.0.1:1\"]\n[gateway]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n"
		if section, key, ok := strings.Cut(more, "] "); ok {
			text = strings.Replace(text, "\n"+more+"\n", "\n", 1)
			text = strings.Replace(text, section+"]\n", section+"]\n"+key+"\n", 1)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	if _, err := NewSupervised(path, io.Discard); err == nil || !strings.Contains(err.Error(), "gateway.static") {
		t.Fatalf("no keys: %v", err)
	}
	if err := InitKeys(keys, "local", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := IssueKeys(keys, "gateway", time.Now()); err != nil {
		t.Fatal(err)
	}
	s, err := NewSupervised(path, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer s.adminLn.Close()
	defer s.crew.Close()
	if _, err := NewSupervised(path, io.Discard); !errors.Is(err, errDirInUse) {
		t.Errorf("a second one: %v", err)
	}
	lone := DefaultConfig()
	lone.Data, lone.Links.Keys, lone.Admin.Listen, lone.Gateway.Listen = filepath.Join(dir, "data"), keys, "127.0.0.1:0", "127.0.0.1:0"
	if _, err := New(lone, []Role{Gateway}, slog.New(slog.DiscardHandler)); !errors.Is(err, errDirInUse) {
		t.Errorf("a gateway beside it: %v", err)
	}
	if _, err := s.again(); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	for more, want := range map[string]string{
		"cluster = \"other\"": "supervisor: cluster", "nonsense": "line 2", "shards = 99999": "shards",
		"[gateway] drain_timeout = \"1m\"": "supervisor: gateway.drain_timeout", "[admin] turn_limit = \"9s\"": "supervisor: admin.turn_limit",
		"[gateway] handover_socket = \"/x\"": "supervisor: gateway.handover_socket",
	} {
		write(more)
		if _, err := s.again(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", more, err, want)
		}
	}
}
