package tuning

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readFake reads a file below a fake root.
func readFake(t *testing.T, root, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func writeFake(t *testing.T, root, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// applyRoot is a machine on which most things are to be set, among them what no namespace has of its own.
func applyRoot(t *testing.T) string {
	files := bigLinux()
	files["proc/sys/fs/file-max"] = "1000\n"
	files["proc/sys/net/core/busy_poll"] = "50\n"
	files["proc/sys/net/ipv4/tcp_retries2"] = "5\n" // lower than wanted: somebody's choice
	files["proc/sys/net/ipv4/tcp_max_orphans"] = "262144\n"
	files["sys/kernel/mm/transparent_hugepage/enabled"] = "[always] madvise never\n"
	return fakeRoot(t, files)
}

func TestApplyAndUndo(t *testing.T) {
	root, state := applyRoot(t), filepath.Join(t.TempDir(), "tune.json")
	target := Target{OS: "linux", Sessions: 2_000_000, Workers: 4, Root: root}
	if done, err := Apply(target, state, false); err != nil {
		t.Fatal(err, done)
	}
	for name, want := range map[string]string{
		"proc/sys/fs/file-max":                       "2165536",
		"proc/sys/fs/nr_open":                        "1048576",
		"proc/sys/net/core/busy_poll":                "0",
		"proc/sys/net/ipv4/tcp_retries2":             "5",
		"proc/sys/net/ipv4/tcp_max_orphans":          "525000",
		"proc/sys/net/ipv4/tcp_ehash_entries":        "524288",
		"sys/kernel/mm/transparent_hugepage/enabled": "madvise",
	} {
		if got := readFake(t, root, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	target.Sessions = 4_000_000 // the machine grows: what was at first is still what undo brings back
	if done, err := Apply(target, state, false); err != nil || len(done) == 0 {
		t.Fatal(err, done)
	}
	if got := readFake(t, root, "proc/sys/fs/file-max"); got != "4265536" {
		t.Errorf("file-max is %s", got)
	}
	writeFake(t, root, "proc/sys/net/core/somaxconn", "50000\n") // somebody else's
	done, err := Undo(root, "linux", state)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range done {
		if errors.Is(c.Err, errChanged) != (c.Knob == "net.core.somaxconn") {
			t.Errorf("%+v", c)
		}
	}
	for name, want := range map[string]string{
		"proc/sys/fs/file-max":                       "1000",
		"proc/sys/net/core/busy_poll":                "50",
		"proc/sys/net/core/somaxconn":                "50000",
		"proc/sys/net/ipv4/tcp_max_orphans":          "262144",
		"sys/kernel/mm/transparent_hugepage/enabled": "always",
	} {
		if got := readFake(t, root, name); got != want {
			t.Errorf("%s is %q after undo, want %q", name, got, want)
		}
	}
	if again, err := Undo(root, "linux", state); err != nil || len(again) != 0 {
		t.Errorf("a second undo: %v, %v", again, err)
	}
}

// TestApplyKeepsWhatFails: a setting that is refused is told, the others are made, and what cannot be set back is kept.
func TestApplyKeepsWhatFails(t *testing.T) {
	root, state := applyRoot(t), filepath.Join(t.TempDir(), "tune.json")
	refused := filepath.Join(root, "proc/sys/fs/file-max")
	h := &host{os: "linux", root: root}
	if err := h.write("fs.no-such-thing", "1"); err == nil {
		t.Error("a setting that is not there was made")
	}
	if _, err := Apply(Target{OS: "linux", Sessions: 2_000_000, Root: root}, state, false); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(refused); err != nil { // as if the kernel refused it
		t.Fatal(err)
	}
	if done, err := Undo(root, "linux", state); err == nil || len(done) < 3 {
		t.Errorf("%v, %v", done, err)
	}
	if got := readFake(t, root, "proc/sys/net/core/busy_poll"); got != "50" {
		t.Errorf("busy_poll is %s", got)
	}
	writeFake(t, root, "proc/sys/fs/file-max", "2165536\n")
	if done, err := Undo(root, "linux", state); err != nil || len(done) != 1 || readFake(t, root, "proc/sys/fs/file-max") != "1000" {
		t.Errorf("%v, %v", done, err)
	}
}

// TestStateIsThereFirst: with a state file that cannot be written nothing is changed; one that is no state is not overwritten.
func TestStateIsThereFirst(t *testing.T) {
	root, dir := applyRoot(t), t.TempDir()
	target := Target{OS: "linux", Sessions: 2_000_000, Root: root}
	file := filepath.Join(dir, "file")
	for _, text := range []string{"not json", `{"os":"freebsd","changes":[]}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if done, err := Apply(target, file, false); err == nil {
			t.Errorf("%q as state: %v", text, done)
		}
	}
	if done, err := Apply(target, filepath.Join(file, "below", "state"), false); err == nil {
		t.Errorf("a state below a file: %v", done)
	}
	if got := readFake(t, root, "proc/sys/fs/file-max"); got != "1000" {
		t.Errorf("file-max is %s", got)
	}
}

// TestUndoTrustsNobody: undo is root's, so its state file must be, and nothing but what apply sets is ever set by it.
func TestUndoTrustsNobody(t *testing.T) {
	root, state := applyRoot(t), filepath.Join(t.TempDir(), "tune.json")
	for name, knob := range map[string]string{
		"etc/passwd":                    "/etc/passwd",
		"proc/sys/kernel/core_pattern":  "kernel.core_pattern",
		"proc/victim":                   "net/../../victim",
		"proc/sys/net/ipv4/tcp_ehash":   "net.ipv4.tcp_ehash",
		"proc/sys/vm/overcommit_memory": "vm.overcommit_memory", // of the table, but checked only
	} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("as it was\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
		text := `{"os":"linux","changes":[{"knob":"` + knob + `","before":"forged","after":"as it was"}]}`
		if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if done, err := Undo(root, "linux", state); !errors.Is(err, errForeign) || readFake(t, root, name) != "as it was" {
			t.Errorf("%s: %v, %v, and is %q", knob, done, err, readFake(t, root, name))
		}
	}
	for _, mode := range []os.FileMode{0o620, 0o602} {
		if err := os.Chmod(state, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Undo(root, "linux", state); err == nil || !strings.Contains(err.Error(), "others may have written it") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(root, "etc/passwd")
	if err := os.Symlink(victim, state+".new"); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(Target{OS: "linux", Sessions: 2_000_000, Root: root}, state, false); err != nil || readFake(t, root, "etc/passwd") != "as it was" {
		t.Errorf("through a planted link: %v, %q", err, readFake(t, root, "etc/passwd"))
	}
}

// TestApplyCutShort: a second apply that ended behind its note, before it set anything, is no change by somebody else.
func TestApplyCutShort(t *testing.T) {
	root, path := applyRoot(t), filepath.Join(t.TempDir(), "tune.json")
	target := Target{OS: "linux", Sessions: 2_000_000, Root: root}
	if _, err := Apply(target, path, false); err != nil {
		t.Fatal(err)
	}
	target.Sessions = 4_000_000
	h, p, err := planOf(target)
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.pending(p)
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	s, err := h.loadState(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		s.note(c)
	}
	if err := s.save(path); err != nil {
		t.Fatal(err)
	}
	if done, err := Undo(root, "linux", path); err != nil || readFake(t, root, "proc/sys/fs/file-max") != "1000" {
		t.Errorf("file-max is %s after %v, %v", readFake(t, root, "proc/sys/fs/file-max"), done, err)
	}
}

// TestOneAtATime: while one holds the state, another does nothing.
func TestOneAtATime(t *testing.T) {
	root, path := applyRoot(t), filepath.Join(t.TempDir(), "tune.json")
	target := Target{OS: "linux", Sessions: 2_000_000, Root: root}
	if _, err := Apply(target, path, false); err != nil {
		t.Fatal(err)
	}
	writeFake(t, root, "proc/sys/fs/file-max", "1000\n")
	lock, err := lockState(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := lock.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("anybody could hold it: %v, %v", info.Mode(), err)
	}
	if _, err := Apply(target, path, false); err == nil || readFake(t, root, "proc/sys/fs/file-max") != "1000" {
		t.Errorf("a second apply: %v", err)
	}
	if _, err := Undo(root, "linux", path); err == nil {
		t.Error("an undo beside an apply")
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(target, path, false); err != nil {
		t.Error(err)
	}
}

// TestUndoOfWhatGrows: what goes up only is told, and is no reason to keep the state.
func TestUndoOfWhatGrows(t *testing.T) {
	h := &host{os: "freebsd", listed: map[string]string{"kern.ipc.nmbclusters": "2000896"}}
	if err := h.setBack(Change{Knob: "kern.ipc.nmbclusters", Before: "1572864", After: "2000896"}); !errors.Is(err, errGrows) {
		t.Error(err)
	}
}

// TestApplyBehindSomebodyElse: what somebody sets between two applies is what undo goes back to.
func TestApplyBehindSomebodyElse(t *testing.T) {
	root, path := applyRoot(t), filepath.Join(t.TempDir(), "tune.json")
	target := Target{OS: "linux", Sessions: 2_000_000, Root: root}
	for _, others := range []string{"1000\n", "1500\n"} {
		writeFake(t, root, "proc/sys/fs/file-max", others)
		if _, err := Apply(target, path, false); err != nil || readFake(t, root, "proc/sys/fs/file-max") != "2165536" {
			t.Fatal(err)
		}
	}
	if done, err := Undo(root, "linux", path); err != nil || readFake(t, root, "proc/sys/fs/file-max") != "1500" {
		t.Errorf("file-max is %s after %v, %v", readFake(t, root, "proc/sys/fs/file-max"), done, err)
	}
}
