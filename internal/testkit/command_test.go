package testkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The tests of this file hold the binary to what scripts rely on: exit codes, lines, files and their modes.

// command runs the binary in dir ("" = here) and returns what it wrote, trimmed, and its exit code.
func command(t testing.TB, dir string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	cmd := exec.CommandContext(t.Context(), Binary(t), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(o.String()), strings.TrimSuffix(e.String(), "\n"), cmd.ProcessState.ExitCode()
}

// fails runs a command that must fail with the code, nothing on standard output, and one line on standard error that contains text.
func fails(t testing.TB, dir string, code int, text string, args ...string) {
	t.Helper()
	out, errs, got := command(t, dir, args...)
	if got != code || out != "" || strings.Contains(errs, "\n") || !strings.Contains(errs, text) || !strings.HasPrefix(errs, "linecard: ") {
		t.Errorf("linecard %q: exit %d, %q, %q; want exit %d and one line with %q", args, got, out, errs, code, text)
	}
}

func TestUsageExitsTwo(t *testing.T) {
	session := []string{"--home", "h", "--server", "127.0.0.1:1", "--as", "ann"}
	for _, c := range []struct {
		text string
		args []string
	}{
		{"no command", nil},
		{"frob", []string{"frob"}},
		{"--nope", []string{"up", "--nope"}},
		{"--listen", []string{"up", "--listen", "7400"}},
		{"--admin", []string{"up", "--admin", "localhost"}},
		{"--media", []string{"up", "--media", "on"}},
		{"--config", []string{"gateway"}},
		{"--config", []string{"router", "--bootstrap"}},
		{"--bootstrap", []string{"gateway", "--config", "f", "--bootstrap"}},
		{"--config", []string{"check"}},
		{"--role", []string{"check", "--config", "f", "--role", "nobody"}},
		{"<name>", []string{"keys", "issue"}},
		{"--ttl", []string{"admin", "invite", "--ttl", "long"}},
		{"--to", append([]string{"send", "x"}, session...)},
		{"--home", []string{"recv", "--server", "127.0.0.1:1", "--as", "ann"}},
		{"--count", append([]string{"recv", "--count", "many"}, session...)},
	} {
		fails(t, t.TempDir(), 2, c.text, c.args...)
	}
}

func TestFailureExitsOne(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "bad.toml"), []byte("clustr = \"x\"\nshard = 1\n"), 0o600))
	for _, c := range []struct {
		text string
		args []string
	}{
		{"none.toml", []string{"up", "--config", "none.toml"}},
		{`unknown key "clustr"; line 2: unknown key "shard"`, []string{"router", "-config", "bad.toml"}},
		{"not a directory", []string{"up", "--data", "file/data", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--media", "127.0.0.1:0"}},
		{"connection refused", []string{"admin", "invite", "--admin", "127.0.0.1:1"}},
		{"root.pub", []string{"keys", "issue", "gateway", "--dir", "nowhere"}},
		{"UPPER", []string{"keys", "issue", "UPPER"}},
		{"cluster name", []string{"keys", "init", "--cluster", "a b"}},
		{"connection refused", []string{"recv", "--home", "h", "--server", "127.0.0.1:1", "--as", "ann", "--trust-first-use", "--timeout", "300ms"}},
		{"no.pub", []string{"recv", "--home", "h", "--server", "127.0.0.1:1", "--as", "ann", "--root", "no.pub"}},
	} {
		fails(t, dir, 1, c.text, c.args...)
	}
	busy := FreeAddr(t)
	s := Start(t, Together, Settings{})
	_, errs, code := command(t, dir, "up", "--data", "d1", "--listen", s.Server, "--admin", busy, "--media", "off")
	if last := lastLine(errs); code != 1 || !strings.HasPrefix(last, "linecard: gateway: listen") || strings.Count(last, "already in use") != 1 {
		t.Errorf("on a used address: exit %d, %q", code, last)
	}
	fails(t, dir, 1, "admin listener", "up", "--data", "d2", "--listen", busy, "--admin", s.Admin("up"), "--media", "off")
	used := filepath.Join(s.Dir, "data")
	var out string
	out, errs, code = command(t, dir, "up", "--data", used, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--media", "127.0.0.1:0")
	if code != 1 || out != "" || !strings.Contains(errs, "linecard: ") {
		t.Errorf("a second process on the same data: exit %d, %q, %q", code, out, errs)
	}
	s.WaitReady() // and the first one goes on
}

// lastLine is where a daemon's error is: its log lies before it.
func lastLine(errs string) string { return errs[strings.LastIndex(errs, "\n")+1:] }

// TestCheckTellsEverything: unknown keys and values of every section in one go, one line each.
func TestCheckTellsEverything(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "bad.toml"), []byte(`
cluster = "no spaces"
shards = 0
colour = "red"
[log]
format = "xml"
[gateway]
send_rate = 0
sendrate = 1
[router]
registration = "closed"
[offline]
sweep = "1ms"
`), 0o600))
	want := []string{`unknown key "colour"`, `unknown key "gateway.sendrate"`, "cluster", "shards", "log.format", "gateway.send_rate", "registration", "offline.sweep"}
	for _, flag := range []string{"-config", "--config"} {
		out, errs, code := command(t, dir, "check", flag, "bad.toml")
		if code != 1 || out != "" || strings.Count(errs, "\n") != len(want)-1 {
			t.Errorf("exit %d, %q, %q", code, out, errs)
		}
		for _, text := range want {
			if !strings.Contains(errs, text) {
				t.Errorf("%s is not told:\n%s", text, errs)
			}
		}
	}
	for text, want := range map[string]string{
		"gateway":               "links.routers", // what a gateway alone needs
		"router":                "links.listen",
		"offline":               "links.listen",
		"up\nshards = \"many\"": "line 1 column",
		"up\nshards = ":         "line 1",
	} {
		role, text, _ := strings.Cut(text, "\n")
		must(t, os.WriteFile(filepath.Join(dir, "bad.toml"), []byte(text), 0o600))
		if out, errs, code := command(t, dir, "check", "-config=bad.toml", "--role", role); code != 1 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q, %q; want %q", role, code, out, errs, want)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "good.toml"), nil, 0o600))
	if out, errs, code := command(t, dir, "check", "-config", "good.toml"); code != 0 || errs != "" || !strings.Contains(out, "ok for up") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

// TestKeys makes the keys of a cluster and runs no daemon.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	out, errs, code := command(t, dir, "keys", "init", "--cluster", "prod")
	if code != 0 || errs != "" || !strings.Contains(out, "root.pub") {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	line, err := os.ReadFile(filepath.Join(dir, "keys", "root.pub"))
	if err != nil || !regexp.MustCompile(`^linecard-root prod [A-Za-z0-9+/]{43}=\n$`).Match(line) {
		t.Errorf("root.pub %q %v", line, err)
	}
	fails(t, dir, 1, "exist already", "keys", "init")
	if out, errs, code := command(t, dir, "keys", "issue", "gateway-2"); code != 0 || errs != "" || !strings.Contains(out, "gateway-2.key") {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	var names []string
	for name, mode := range modes(t, dir) {
		names = append(names, name)
		if strings.HasPrefix(name, "keys/") && mode != 0o600 {
			t.Errorf("%s has mode %v", name, mode)
		}
	}
	if len(names) != 8 {
		t.Errorf("made %q, want 4 files of the cluster and 4 of the daemon", names)
	}
}

// modes returns the permissions of all files below dir.
func modes(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	all := map[string]fs.FileMode{}
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		all[path] = st.Mode().Perm()
		return err
	}))
	return all
}

var fingerprint = regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`)

// TestScripts goes through what a script does with up, send and recv, by the real binary.
func TestScripts(t *testing.T) {
	s := Start(t, Together, Settings{})
	dir := t.TempDir()
	Eventually(t, "up says that it is up", func() bool { return strings.Contains(s.Process("up").Output(), "Ctrl-C stops it") })
	shown := fingerprint.FindString(s.Process("up").Output())
	for _, text := range []string{s.Server, s.Admin("up"), filepath.Join(s.Dir, "data", "root.pub"), "chat --home"} {
		if !strings.Contains(s.Process("up").Output(), text) {
			t.Errorf("up does not show %s", text)
		}
	}
	as := func(cmd, name string, more ...string) []string {
		return append([]string{cmd, "--home", "home-" + name, "--server", s.Server, "--as", name}, more...)
	}
	fails(t, dir, 1, shown, as("recv", "bob")...)
	fails(t, dir, 1, shown, as("send", "bob", "--to", "ann", "x")...)
	silent(t, dir, as("recv", "bob", "--count", "0", "--root", s.Root)...)
	fails(t, dir, 1, "0 of 1", as("recv", "bob", "--timeout", "200ms")...) // pinned, registered
	fails(t, dir, 1, "unknown name", as("send", "ann", "--trust-first-use", "--to", "nobody", "x")...)
	before := time.Now().Add(-time.Second)
	out, errs, code := command(t, dir, as("send", "ann", "--to", "bob", "--count", "3", "hello {n}")...)
	if code != 0 || errs != "" || !regexp.MustCompile(`^(\{"id":\d+,"state":"acked"\}\n?){3}$`).MatchString(out) {
		t.Fatalf("send: exit %d, %q, %q", code, out, errs)
	}
	out, errs, code = command(t, dir, as("recv", "bob", "--count", "3")...)
	if code != 0 || errs != "" {
		t.Fatalf("recv: exit %d, %q, %q", code, out, errs)
	}
	for i, line := range strings.Split(out, "\n") {
		var m struct {
			From, Text, Sent_at string
			ID                  uint64
		}
		must(t, json.Unmarshal([]byte(line), &m))
		at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", m.Sent_at)
		if m.From != "ann" || m.Text != fmt.Sprintf("hello %d", i+1) || m.ID == 0 || err != nil || at.Before(before) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("line %d: %s %v", i, line, err)
		}
	}
	waiting := NewProcess(t, "recv", as("recv", filepath.Join("..", "x"), "--timeout", "1h")...)
	waiting.args[2], waiting.args[6] = filepath.Join(dir, "home-bob"), "bob"
	waiting.Start()
	Eventually(t, "the home is in use", func() bool {
		if !waiting.Running() {
			waiting.Start() // the send below had the home first
		}
		_, errs, code := command(t, dir, as("send", "bob", "--to", "ann", "x")...)
		return code == 1 && strings.Contains(errs, "home in use")
	})
	fails(t, dir, 1, "home in use", as("recv", "bob", "--count", "0")...)
	if code, err := waiting.Stop(waitLimit); err != nil || code != 1 {
		t.Errorf("recv ended by SIGTERM: exit %d, %v", code, err)
	}
}

// silent runs a command that must succeed without a word.
func silent(t testing.TB, dir string, args ...string) {
	t.Helper()
	if out, errs, code := command(t, dir, args...); code != 0 || out != "" || errs != "" {
		t.Fatalf("linecard %q: exit %d, %q, %q", args, code, out, errs)
	}
}

// TestUpFiles: what `up` leaves in its directory, what a second start changes of it, and a lost log.
func TestUpFiles(t *testing.T) {
	s := Start(t, Together, Settings{})
	data := filepath.Join(s.Dir, "data")
	stop(t, s, "up")
	for name, mode := range modes(t, data) {
		if mode != 0o600 && (!strings.Contains(name, "/log/") && !strings.Contains(name, "/state/")) {
			t.Errorf("%s has mode %v, want 0600", name, mode)
		}
	}
	for _, name := range []string{".", "keys"} {
		if st, err := os.Stat(filepath.Join(data, name)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: mode %v, %v, want 0700", name, st.Mode().Perm(), err)
		}
	}
	kept := map[string][]byte{}
	for _, name := range []string{"root.pub", "node", "keys/root.key", "keys/root.pub", "keys/ca.key", "keys/ca.pem", "keys/up.key", "keys/up.cert", "keys/up.static"} {
		b, err := os.ReadFile(filepath.Join(data, name))
		must(t, err)
		kept[name] = b
	}
	if !bytes.Equal(kept["root.pub"], kept["keys/root.pub"]) {
		t.Error("two root.pub that differ")
	}
	s.StartAll()
	stop(t, s, "up")
	for name, b := range kept {
		if now, err := os.ReadFile(filepath.Join(data, name)); err != nil || !bytes.Equal(now, b) {
			t.Errorf("%s changed at the second start: %v", name, err)
		}
	}
	must(t, os.RemoveAll(filepath.Join(data, "offline", "log"))) // a disk that was not mounted
	_, errs, code := command(t, s.Dir, "up", "--data", data, "--listen", s.Server, "--admin", s.Admin("up"))
	if last := lastLine(errs); code != 1 || !strings.HasPrefix(last, "linecard: offline") {
		t.Errorf("with a lost log: exit %d, %q; want 1", code, last)
	}
	if _, err := os.Stat(filepath.Join(data, "node")); errors.Is(err, fs.ErrNotExist) {
		t.Error("the node id is gone")
	}
}

// stop ends a process of the system with SIGTERM, which must be in order.
func stop(t testing.TB, s *System, role string) {
	t.Helper()
	if code, err := s.Process(role).Stop(waitLimit); err != nil || code != 0 {
		t.Fatalf("%s ended by SIGTERM: exit %d, %v; want 0", role, code, err)
	}
}
