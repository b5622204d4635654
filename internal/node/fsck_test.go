package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// asker posts to a node's admin listener as the command does.
func asker(n *Node) AskAdmin {
	return func(ctx context.Context, path string, answer any) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+n.AdminAddr().String()+path, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d: %s %w", resp.StatusCode, body, err)
		}
		return json.Unmarshal(body, answer)
	}
}

// fsck returns what Fsck wrote.
func fsck(data, compare string) (string, error) {
	var out bytes.Buffer
	err := Fsck(&out, data, compare)
	return out.String(), err
}

// TestBackupRestoreCompare backs a running node up, twice; checks and compares data, copy and report in all directions; restores; and
// starts what was restored.
func TestBackupRestoreCompare(t *testing.T) {
	n := upNode(t)
	data, copied := n.cfg.Data, filepath.Join(t.TempDir(), "copy")
	stop := start(t, n)
	ask := asker(n)
	broken := func(ctx context.Context, path string, answer any) error { // whose copying fails
		err := ask(ctx, path, answer)
		if a, ok := answer.(*checkpointAnswer); ok {
			a.Dirs[Router] = filepath.Join(data, "nowhere")
		}
		return err
	}
	if err := Backup(t.Context(), io.Discard, broken, copied+"-broken", time.Now()); err == nil {
		t.Error("a backup of nothing")
	}
	if _, err := Restore(io.Discard, copied+"-broken", filepath.Join(t.TempDir(), "x"), time.Now()); err == nil || !strings.Contains(err.Error(), "broken off") {
		t.Errorf("restored what is no backup: %v", err)
	}
	var first, second checkpointAnswer
	if err := ask(t.Context(), "/backup", &first); err != nil {
		t.Fatal(err)
	}
	if err := ask(t.Context(), "/backup", &second); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("two at a time: %v", err)
	}
	if err := ask(t.Context(), "/backup/done?id=other", &second); err == nil {
		t.Error("another's backup was ended")
	}
	if err := ask(t.Context(), "/backup/done", &struct{}{}); err != nil {
		t.Error(err)
	}
	if err := Backup(t.Context(), io.Discard, ask, copied, time.Now()); err != nil {
		t.Fatal(err)
	}
	stop()
	if m, err := readManifest(copied); err != nil || m.Data != aloneFormat {
		t.Errorf("a copy of what the linecard before can read: %+v, %v", m, err)
	}

	report := filepath.Join(t.TempDir(), "report")
	out, err := fsck(copied, "")
	if err != nil || strings.Count(out, " hash ") < 6 || !strings.Contains(out, "cluster local, 3 shards") {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(report, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{copied, report}, {copied, copied + "2"}, {copied + "2", copied}} {
		if c[0] != copied || c[1] != report {
			if err := os.CopyFS(copied+"2", os.DirFS(copied)); err != nil && !errors.Is(err, os.ErrExist) {
				t.Fatal(err)
			}
		}
		if out, err := fsck(c[0], c[1]); err != nil || strings.Count(out, "is the same in both") != 6 {
			t.Errorf("%v: %v\n%s", c, err, out)
		}
	}
	other := regexp.MustCompile(`(?m)^(queue/1 .*=)([0-9a-f]{16})$`).ReplaceAllString(out, "${1}0123456789abcdef")
	if err := os.WriteFile(report, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := fsck(copied, report); !errors.Is(err, ErrDamaged) || strings.Count(out, "damaged: queue/1: differs behind entry") != 1 {
		t.Errorf("another hash: %v\n%s", err, out)
	}
	restored := restoreAndStart(t, n, copied)
	if out, err := fsck(restored, ""); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := fsck(data, restored); err != nil || strings.Contains(out, "damaged") {
		t.Errorf("%v\n%s", err, out)
	}
}

// restoreAndStart restores a copy of n's data and runs it once, under n's configuration.
func restoreAndStart(t *testing.T, n *Node, copied string) string {
	t.Helper()
	cfg := n.cfg
	cfg.Data = filepath.Join(t.TempDir(), "restored")
	m, err := Restore(io.Discard, copied, cfg.Data, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if m.Node != n.id.name() || m.Shards != 3 || m.Cluster != "local" || len(m.Roles) != 2 || len(m.Groups) != 6 {
		t.Errorf("%+v", m)
	}
	if _, err := Restore(io.Discard, copied, cfg.Data, time.Now()); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restored twice: %v", err)
	}
	if err := EnsureKeys(cfg); err != nil {
		t.Fatal(err)
	}
	again, err := New(cfg, all, n.log)
	if err != nil {
		t.Fatal(err)
	}
	if again.id.id == n.id.id || again.RootFingerprint() != n.RootFingerprint() {
		t.Errorf("node %x restored as %x; roots %s, %s", n.id.id, again.id.id, n.RootFingerprint(), again.RootFingerprint())
	}
	start(t, again)()
	return cfg.Data
}

// TestFsckNode: the node file is checked, and that the logs are of its node.
func TestFsckNode(t *testing.T) {
	n := upNode(t)
	start(t, n)()
	file := filepath.Join(n.cfg.Data, "node")
	for _, text := range []string{"junk\n", "0123456789abcdef\n", ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := fsck(n.cfg.Data, ""); !errors.Is(err, ErrDamaged) || !strings.Contains(out, "node") {
			t.Errorf("%q: %v\n%s", text, err, out)
		}
	}
	if _, err := fsck(t.TempDir(), ""); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestParseGroup(t *testing.T) {
	g, hashes, ok := parseGroup("queue/3 flushed 12 last 17 term 4 voters a,b hash 12.3=00000000000000ff hash 17.4=0000000000000010")
	if !ok || g != stanza.QueueGroup(3) || len(hashes) != 2 || hashes[0].Index != 12 || hashes[0].Term != 3 || hashes[0].Hash != 255 || hashes[1].Hash != 16 {
		t.Errorf("%v %v %v", g, hashes, ok)
	}
	for _, line := range []string{
		"", "queue/3", "queue/3 flushed 12 last 17 term 4 voters a", "queue/3 flushed 12 last 17 term 4 voters a hash", "queue/3 flushed 12 last 17 term 4 voters a hash 1=2",
		"queue/03 flushed 12 last 17 term 4 voters a hash 1.2=3", "dir/-1 flushed 12 last 17 term 4 voters a hash 1.2=3", "dir/99999 flushed 12 last 17 term 4 voters a hash 1.2=3",
		"box/1 flushed 12 last 17 term 4 voters a hash 1.2=3", "damaged: queue/3 flushed: 1 2 3 4 5 6 7 8",
	} {
		if g, hashes, ok := parseGroup(line); ok {
			t.Errorf("%q: %v %v", line, g, hashes)
		}
	}
}

// TestManifestPaths: a manifest cannot have files written outside of the data directory.
func TestManifestPaths(t *testing.T) {
	for _, path := range []string{"../x", "/etc/x", "a/../../x", ""} {
		dir := t.TempDir()
		m := &Manifest{Format: manifestFormat, Files: []ManifestFile{{Path: path}}}
		if err := m.write(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := readManifest(dir); err == nil {
			t.Errorf("%q was taken", path)
		}
	}
}
