package tuning

import (
	"flag"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the README tables and the printed examples")

// tree reads all files below a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		all[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPrintedFiles compares the files for the example with those in testdata, which are there to be read, too.
func TestPrintedFiles(t *testing.T) {
	for _, system := range []string{"linux", "freebsd"} {
		golden, dir := filepath.Join("testdata", system), t.TempDir()
		names, err := Print(exampleTarget(system), dir)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.RemoveAll(golden); err != nil {
				t.Fatal(err)
			}
			if _, err := Print(exampleTarget(system), golden); err != nil {
				t.Fatal(err)
			}
		}
		got, want := tree(t, dir), tree(t, golden)
		if len(names) != len(got) || !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
			t.Errorf("%s: printed %q", system, names)
		}
		for name, text := range got {
			if text != want[name] {
				t.Errorf("%s: %s differs from testdata; go test ./kernel-tuning -update, and look at what git says", system, name)
			}
			if strings.Contains(text, "<no value>") || strings.Contains(text, "{{") {
				t.Errorf("%s: %s is not filled in", system, name)
			}
		}
	}
}

// TestReadme compares the tables of both README files with the code.
func TestReadme(t *testing.T) {
	for _, system := range []string{"linux", "freebsd"} {
		path := filepath.Join(system, "README.md")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, ok1 := strings.Cut(string(text), tableBegin)
		old, tail, ok2 := strings.Cut(rest, tableEnd)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no marks for its tables", path)
		}
		table, err := markdown(system)
		if err != nil {
			t.Fatal(err)
		}
		table += "\n"
		if *update && old != table {
			if err := os.WriteFile(path, []byte(head+tableBegin+table+tableEnd+tail), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if old != table {
			t.Errorf("%s: its tables are not those of the code; go test ./kernel-tuning -update", path)
		}
	}
}

// TestKnobsAreComplete: a knob without its reason, price and source is not to be trusted, and printed values must be what checks want.
func TestKnobsAreComplete(t *testing.T) {
	for _, system := range []string{"linux", "freebsd"} {
		table, err := knobs(system)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, k := range table {
			if k.Name == "" || k.Group == "" || k.Default == "" || k.Formula == "" || k.Why == "" || k.Cost == "" || k.Source == "" || k.want == nil {
				t.Errorf("%s: %q is incomplete", system, k.Name)
			}
			if seen[k.Name] || strings.HasSuffix(k.Cost, ".") || !strings.HasSuffix(k.Why, ".") && !strings.HasSuffix(k.Why, ")") {
				t.Errorf("%s: %q twice, or its sentences end wrongly", system, k.Name)
			}
			seen[k.Name] = true
			if first := firstSentence(k.Why); len(first) > 110 {
				t.Errorf("%s: %q: the first sentence is a line of a terminal's table: %q", system, k.Name, first)
			}
			for _, sessions := range []int{1, 15_000, 1_000_000, 12_000_000} {
				p := plan{Target: Target{OS: system, Sessions: sessions, Memory: 32 << 30, Cores: 8, Pair: sessions == 15_000}, Page: 4096}
				if want := k.want(p); want != "" && !k.rule.meets(k.rule.merge(want, want), want) {
					t.Errorf("%s: %s: %q does not meet itself", system, k.Name, want)
				}
			}
		}
	}
}

// TestShellScripts parses the printed scripts.
func TestShellScripts(t *testing.T) {
	for _, pattern := range []string{"testdata/linux/usr/local/sbin/*", "testdata/freebsd/usr/local/etc/rc.d/*"} {
		scripts, err := filepath.Glob(pattern)
		if err != nil || len(scripts) == 0 {
			t.Fatal(pattern, err)
		}
		for _, s := range scripts {
			if out, err := exec.Command("sh", "-n", s).CombinedOutput(); err != nil {
				t.Errorf("%s: %v %s", s, err, out)
			}
			if info, err := os.Stat(s); err != nil || info.Mode().Perm()&0o111 == 0 {
				t.Errorf("%s cannot be run: %v %v", s, info, err)
			}
		}
	}
}

// TestFreeBSDFilesParse reads the printed settings of freebsd back as the loader and sysctl do, and finds each knob with a value that
// the check would be satisfied with.
func TestFreeBSDFilesParse(t *testing.T) {
	set := map[string]string{}
	for _, name := range []string{"boot/loader.conf.d/linecard.conf", "etc/sysctl.conf.linecard"} {
		text, err := os.ReadFile(filepath.Join("testdata/freebsd", name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			key, value, ok := strings.Cut(line, "=")
			quoted := strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`)
			if !ok || quoted != strings.HasPrefix(name, "boot/") || strings.ContainsAny(key, " \t") {
				t.Errorf("%s: %q", name, line)
			}
			set[key] = strings.Trim(value, `"`)
		}
	}
	var listing strings.Builder
	for name, value := range set {
		listing.WriteString(name + ": " + value + "\n")
	}
	listing.WriteString("hw.physmem: " + strconv.Itoa(64<<30) + "\nhw.ncpu: 32\nkern.version: FreeBSD 14\n  built somewhere\n")
	root := fakeRoot(t, map[string]string{"sysctl.txt": listing.String(), "etc/fstab": "/dev/ada0p2 / ufs rw 1 1\n"})
	for name, f := range check(t, Target{OS: "freebsd", Sessions: 2_000_000, Root: root}) {
		if f.State == Bad || f.State == Unknown && name != "open files of this user" {
			t.Errorf("%+v", f)
		}
	}
}

// TestPrintKeepsWhatIsHigher: files printed for the machine itself do not take back what somebody raised.
func TestPrintKeepsWhatIsHigher(t *testing.T) {
	files := bigLinux()
	files["proc/sys/net/core/somaxconn"] = "100000\n"
	dir := t.TempDir()
	if _, err := Print(Target{OS: "linux", Sessions: 100_000, Root: fakeRoot(t, files)}, dir); err != nil {
		t.Fatal(err)
	}
	text := tree(t, dir)["etc/sysctl.d/90-linecard.conf"]
	for _, line := range []string{"fs.file-max = 9223372036854775807\n", "net.core.somaxconn = 100000\n", "net.ipv4.tcp_migrate_req = 1\n"} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
}

// printed returns the files for a target by name.
func printed(t *testing.T, target Target) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if _, err := Print(target, dir); err != nil {
		t.Fatal(err)
	}
	return tree(t, dir)
}

// TestPrintLowersNothing: files for few sessions leave what systems come with, and what a machine has, as it is.
func TestPrintLowersNothing(t *testing.T) {
	for system, lines := range map[string][]string{
		"linux": {
			"fs.nr_open = 1048576", "fs.file-max = 9223372036854775807", "net.ipv4.tcp_mem = 786432 1048576 1572864", "net.core.somaxconn = 4096",
			"net.ipv4.tcp_max_orphans = 262144", "net.ipv4.tcp_max_tw_buckets = 262144", "net.ipv4.tcp_max_syn_backlog = 4096", "thash_entries=524288",
		},
		"freebsd": {
			"kern.maxfiles=2097152", "kern.maxfilesperproc=1887435", "kern.ipc.maxsockets=2097152", "kern.ipc.nmbclusters=4194304",
			`net.inet.tcp.tcbhashsize="1048576"`,
		},
	} {
		target := exampleTarget(system)
		target.Sessions = 1000
		var all strings.Builder
		for _, text := range printed(t, target) {
			all.WriteString(text)
		}
		for _, line := range lines {
			if !strings.Contains(all.String(), line) {
				t.Errorf("%s: no %q", system, line)
			}
		}
	}
	const grub = "etc/default/grub.d/linecard.cfg"
	for have, want := range map[string]string{"524288\n": "thash_entries=524288\"", "-262144\n": "thash_entries=262144\"", "4096\n": "thash_entries=8192\""} {
		files := bigLinux()
		files["proc/sys/net/ipv4/tcp_ehash_entries"] = have
		text := printed(t, Target{OS: "linux", Sessions: 15_000, Root: fakeRoot(t, files)})[grub]
		if !strings.Contains(text, want) {
			t.Errorf("on a machine that has %s%s", have, text)
		}
	}
}

// TestPrintedRoom: when one of the printed workers dies, the others have room for its sessions.
func TestPrintedRoom(t *testing.T) {
	for _, sessions := range []int{1, 15_000, 400_000, 999_000, 2_000_000, 12_000_000} {
		for workers := range 5 {
			p := plan{Target: Target{Sessions: sessions, Workers: workers}}
			n := int64(p.workers())
			if room := max(n-1, 1) * (p.nofile() - spareFiles); room < int64(sessions)*105/100 {
				t.Errorf("%d sessions, %d workers of %d files: room for %d", sessions, n, p.nofile(), room)
			}
		}
	}
}

// TestFirewallFiles: pf takes options only before all rules, so an included file must have none; the loopback keeps its tracking unless
// the clients are there.
func TestFirewallFiles(t *testing.T) {
	target := exampleTarget("freebsd")
	for line := range strings.Lines(printed(t, target)["etc/pf.linecard.conf"]) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "pass ") {
			t.Errorf("pf: %q", line)
		}
	}
	target = exampleTarget("linux")
	for _, pair := range []bool{false, true} {
		target.Pair = pair
		if text := printed(t, target)["etc/nftables.d/linecard-notrack.nft"]; strings.Contains(text, `"lo" notrack`) != pair {
			t.Errorf("pair %v:\n%s", pair, text)
		}
	}
}
