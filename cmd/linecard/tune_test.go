package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smallRoot is a copy of the files of a machine that has 4 GiB and enough of everything for few sessions only.
func smallRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"proc/meminfo":                        "MemTotal: 4194304 kB\nMemAvailable: 4000000 kB\n",
		"proc/self/limits":                    "Max open files 20000 20000 files\n",
		"proc/swaps":                          "Filename Type Size Used Priority\n",
		"proc/sys/fs/file-max":                "400000\n",
		"proc/sys/net/core/somaxconn":         "4096\n",
		"proc/sys/net/ipv4/tcp_migrate_req":   "1\n",
		"proc/sys/net/ipv4/tcp_notsent_lowat": "16384\n",
		"sys/devices/system/cpu/online":       "0-3\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestTune(t *testing.T) {
	root, dir := smallRoot(t), t.TempDir()
	state, at := filepath.Join(dir, "state.json"), " --os linux --root "+root
	for _, c := range []struct {
		args      string
		code      int
		out, errs string
	}{
		{"tune check --sessions 15000" + at, 0, "ok ", ""},
		{"tune check --sessions 400000" + at, 1, "net.core.somaxconn", ""},
		{"tune check --sessions 3000000" + at, 1, "memory", ""},
		{"tune check --sessions 0" + at, 2, "", "at least one session"},
		{"tune check --allocations 100" + at, 0, "open files of this user, for turnd", ""},
		{"tune check --allocations 16384" + at, 1, "open files of this user, for turnd", ""},
		{"tune check --sessions 15000 --os linux --root " + dir, 2, "", "no sysctls"},
		{"tune check", 2, "", "--sessions"},
		{"tune check --sessions 15000 --os solaris", 2, "", "solaris"},
		{"tune apply --dry-run --sessions 400000 --state " + state + at, 0, "net.core.somaxconn: 4096 -> 16384", ""},
		{"tune apply --sessions 400000 --state " + state + at, 0, "2 settings made", ""},
		{"tune check --sessions 400000" + at, 0, "ok ", ""},
		{"tune undo --state " + state + at, 0, "net.core.somaxconn: 16384 -> 4096", ""},
		{"tune undo --state " + state + at, 0, "nothing to set back", ""},
		{"tune check --sessions 400000" + at, 1, "net.core.somaxconn", ""},
		{"tune print --sessions 400000 --out " + dir + at, 0, "linecard-gateway.service", ""},
		{"tune print --sessions 400000 --os freebsd --memory 8GiB --cores 4 --out " + dir, 0, "rc.d/linecard_offline", ""},
	} {
		code, out, errs := linecard(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || (c.errs == "") != (errs == "") {
			t.Errorf("%s: exit %d\n%s%s", c.args, code, out, errs)
		}
	}
	if unit, err := os.ReadFile(filepath.Join(dir, "etc/systemd/system/linecard-gateway.service")); err != nil || !strings.Contains(string(unit), "\nLimitNOFILE=458752\n") {
		t.Errorf("%v %s", err, unit)
	}
}

// TestPrintedCommandsParse: what printed units and scripts start are command lines of this program: it misses its configuration, and
// nothing else.
func TestPrintedCommandsParse(t *testing.T) {
	started := 0
	for system, pattern := range map[string]string{"linux": "etc/systemd/system/*.service", "freebsd": "usr/local/etc/rc.d/*"} {
		dir := t.TempDir()
		if code, _, errs := linecard("tune", "print", "--sessions", "1000", "--os", system, "--memory", "8GiB", "--cores", "4", "--out", dir); code != 0 {
			t.Fatal(errs)
		}
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) != 5 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				args, ok := startedBy(line)
				if !ok {
					continue
				}
				started++
				if code, out, errs := linecard(args...); code != 1 || !strings.Contains(errs, "none.toml") {
					t.Errorf("%s: %q: exit %d %s%s", filepath.Base(file), args, code, out, errs)
				}
			}
		}
	}
	if started != 5+1+5+5 { // units, the reload of one, scripts, and their checks
		t.Errorf("%d commands", started)
	}
}

// startedBy returns the arguments that a line of a unit or script gives this program, with a configuration that is not there.
func startedBy(line string) (args []string, ok bool) {
	for _, program := range []string{"/usr/local/bin/linecard ", "${program} ", `"${program}" `} {
		if _, rest, found := strings.Cut(line, program); found && !strings.HasPrefix(line, "#") {
			args = strings.Fields(strings.Trim(strings.TrimSpace(rest), `"`))
			break
		}
	}
	for i, a := range args {
		switch {
		case i > 0 && args[i-1] == "--config":
			args[i] = "/nowhere/none.toml"
		case a == "$LINECARD_FLAGS", strings.HasSuffix(a, "_args}"):
			args[i] = "--bootstrap"
		}
	}
	return args, len(args) > 0
}
