package tuning

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// spacedValues reads all knobs of linux that a network namespace has of its own.
func spacedValues(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, k := range linuxTCP {
		if k.spaced && k.where == runtimeSysctl {
			values[k.Name] = sysctlOf(t, k.Name)
		}
	}
	return values
}

// onlySpaced makes a copy of the table in which a live Apply touches nothing but the namespace: the machine that the tests run on
// stays as it is.
func onlySpaced(t *testing.T) {
	t.Helper()
	host, tcp := linuxHost, linuxTCP
	t.Cleanup(func() { linuxHost, linuxTCP = host, tcp })
	linuxHost = nil
	linuxTCP = slices.DeleteFunc(slices.Clone(tcp), func(k Knob) bool { return !k.spaced })
}

// TestApplyAndUndoInNamespace sets the real sysctls of a network namespace, and sets them back.
func TestApplyAndUndoInNamespace(t *testing.T) {
	onlySpaced(t)
	state := filepath.Join(t.TempDir(), "state", "tune.json")
	target := Target{Sessions: 2_000_000, Pair: true}
	inNamespace(t, func() {
		before := spacedValues(t)
		if dry, err := Apply(target, state, true); err != nil || len(dry) < 8 || !maps.Equal(before, spacedValues(t)) {
			t.Errorf("a dry run: %v, %v", dry, err)
			return
		}
		if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a dry run wrote its state: %v", err)
		}
		done, err := Apply(target, state, false)
		if err != nil {
			t.Errorf("%v after %+v", err, done)
			return
		}
		for name, want := range map[string]string{
			"net.core.somaxconn": "65535", "net.ipv4.tcp_migrate_req": "1", "net.ipv4.tcp_notsent_lowat": "131072",
			"net.ipv4.tcp_rmem": "4096 131072 1048576", "net.ipv4.ip_local_port_range": "1024 65535",
		} {
			if got := sysctlOf(t, name); got != want {
				t.Errorf("%s is %q after apply, want %q", name, got, want)
			}
		}
		found, err := Check(target)
		for _, f := range found {
			if strings.HasPrefix(f.Knob, "net.") && f.State == Bad {
				t.Errorf("after apply: %+v", f)
			}
		}
		again, err2 := Apply(target, state, false)
		if err != nil || err2 != nil || len(again) != 0 {
			t.Errorf("a second apply: %v, %v, %v", again, err, err2)
		}
		back, err := Undo("", "linux", state)
		if err != nil || len(back) != len(done) {
			t.Errorf("undo: %v, %v", back, err)
		}
		if after := spacedValues(t); !maps.Equal(before, after) {
			t.Errorf("before %v\nafter  %v", before, after)
		}
		if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the state is still there: %v", err)
		}
	})
}

// TestApplyRefusedLeavesNoTrace: what the kernel refuses to set is not in the state.
func TestApplyRefusedLeavesNoTrace(t *testing.T) {
	root, path := applyRoot(t), filepath.Join(t.TempDir(), "tune.json")
	refused := filepath.Join(root, "proc/sys/fs/file-max")
	if err := errors.Join(os.Remove(refused), os.Symlink("/proc/sys/kernel/random/entropy_avail", refused)); err != nil {
		t.Fatal(err)
	}
	done, err := Apply(Target{OS: "linux", Sessions: 2_000_000, Root: root}, path, false)
	if err == nil || len(done) < 3 {
		t.Fatalf("%v, %v", done, err)
	}
	h := &host{os: "linux", root: root}
	s, err := h.loadState(path)
	if err != nil || s.find("fs.file-max") >= 0 || s.find("net.core.busy_poll") < 0 {
		t.Errorf("%v, %+v", err, s)
	}
}

// TestStateIsOfItsNamespace: the settings of one network namespace are not set back in another.
func TestStateIsOfItsNamespace(t *testing.T) {
	onlySpaced(t)
	path := filepath.Join(t.TempDir(), "tune.json")
	inNamespace(t, func() {
		if _, err := Apply(Target{Sessions: 2_000_000}, path, false); err != nil {
			t.Error(err)
		}
		inNamespace(t, func() { // beside the other, which lives on
			if _, err := Undo("", "linux", path); err == nil || !strings.Contains(err.Error(), "another network namespace") {
				t.Errorf("undo: %v", err)
			}
			if _, err := Apply(Target{Sessions: 4_000_000}, path, false); err == nil || sysctlOf(t, "net.core.somaxconn") == "65535" {
				t.Errorf("apply: %v", err)
			}
		})
	})
}
