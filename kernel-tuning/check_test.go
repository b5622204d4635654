package tuning

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeRoot makes a root directory with the given files.
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
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

// bigLinux is a machine of 64 GiB and 32 cores as a distribution sets it up.
func bigLinux() map[string]string {
	return map[string]string{
		"proc/meminfo":                        "MemTotal:       65970000 kB\nMemFree:  100 kB\nMemAvailable:   64000000 kB\n",
		"proc/self/limits":                    "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\n",
		"proc/swaps":                          "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
		"proc/sys/fs/nr_open":                 "1048576\n",
		"proc/sys/fs/file-max":                "9223372036854775807\n",
		"proc/sys/net/core/somaxconn":         "4096\n",
		"proc/sys/fs/epoll/max_user_watches":  "2000000\n",
		"proc/sys/net/ipv4/tcp_mem":           "100\t200\t300\n",
		"sys/devices/system/cpu/online":       "0-31\n",
		"proc/sys/net/ipv4/tcp_ehash_entries": "524288\n",
	}
}

func check(t *testing.T, target Target) map[string]Finding {
	t.Helper()
	list, err := Check(target)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Finding{}
	for _, f := range list {
		found[f.Knob] = f
	}
	return found
}

func TestCheckFindsWhatIsMissing(t *testing.T) {
	found := check(t, Target{OS: "linux", Sessions: 2_000_000, Workers: 32, Root: fakeRoot(t, bigLinux())})
	for name, want := range map[string]Finding{
		"fs.file-max":                         {State: OK, Have: "9223372036854775807"},
		"net.core.somaxconn":                  {State: Bad, Need: Should, Have: "4096", Want: ">= 65535", Runtime: true},
		"open files of this user":             {State: OK, Have: "524288", Want: ">= 67998 for 32 workers"},
		"net.ipv4.tcp_migrate_req":            {State: Unknown, Have: "-", Want: "1"},
		"thash_entries (kernel command line)": {State: Bad, Have: "524288", Want: ">= 1048576"},
		"net.ipv4.tcp_mem":                    {State: Bad, Have: "100 200 300", Want: ">= 1250000 1875000 2500000"},
		"swap":                                {State: OK, Have: "none"},
		"fs.epoll.max_user_watches":           {State: Bad, Need: Must, Have: "2000000", Want: ">= 2165536", Runtime: true},
	} {
		got, ok := found[name]
		if !ok || got.State != want.State || got.Have != want.Have || want.Want != "" && got.Want != want.Want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestSwap(t *testing.T) {
	head := "Filename Type Size Used Priority\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  State
	}{
		{"none", map[string]string{"proc/swaps": head}, OK},
		{"a partition", map[string]string{"proc/swaps": head + "/dev/sda2 partition 100 0 -2\n"}, Bad},
		{"a file", map[string]string{"proc/swaps": head + "/swapfile file 100 0 -2\n"}, Bad},
		{"dm-crypt", map[string]string{"proc/swaps": head + "/dev/dm-1 partition 100 0 -2\n", "sys/block/dm-1/dm/uuid": "CRYPT-PLAIN-swap\n"}, OK},
		{"lvm", map[string]string{"proc/swaps": head + "/dev/dm-1 partition 100 0 -2\n", "sys/block/dm-1/dm/uuid": "LVM-abc\n"}, Bad},
		{"lvm on dm-crypt", map[string]string{"proc/swaps": head + "/dev/dm-1 partition 100 0 -2\n", "sys/block/dm-1/dm/uuid": "LVM-abc\n",
			"sys/block/dm-1/slaves/dm-0": "", "sys/block/dm-0/dm/uuid": "CRYPT-LUKS2-x\n"}, OK},
		{"half of it", map[string]string{"proc/swaps": head + "/dev/dm-1 partition 100 0 -2\n", "sys/block/dm-1/slaves/dm-0": "",
			"sys/block/dm-1/slaves/sda3": "", "sys/block/dm-0/dm/uuid": "CRYPT-LUKS2-x\n"}, Bad},
		{"zram", map[string]string{"proc/swaps": head + "/dev/zram0 partition 100 0 100\n", "sys/block/zram0/backing_dev": "none\n"}, OK},
		{"zram that writes back", map[string]string{"proc/swaps": head + "/dev/zram0 partition 100 0 100\n", "sys/block/zram0/backing_dev": "/dev/sdb\n"}, Bad},
	} {
		h := &host{os: "linux", root: fakeRoot(t, c.files)}
		if got := h.swap(); got.State != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	root := fakeRoot(t, map[string]string{"proc/swaps": head + "/swapfile file 100 0 -2\n", "swapfile": "", "sys/block/dm-7/dm/uuid": "CRYPT-LUKS2-x\n", "sys/dev/block/x": ""})
	h := &host{os: "linux", root: root}
	if got := h.swap(); got.State != Bad {
		t.Errorf("a file on a disk: %+v", got)
	}
	var at unix.Stat_t
	if err := unix.Stat(root, &at); err != nil {
		t.Fatal(err)
	}
	disk := fmt.Sprintf("%d:%d", unix.Major(at.Dev), unix.Minor(at.Dev))
	if err := os.Symlink("../../devices/virtual/block/dm-7", filepath.Join(root, "sys/dev/block", disk)); err != nil {
		t.Fatal(err)
	}
	if got := h.swap(); got.State != OK {
		t.Errorf("a file on dm-crypt: %+v", got)
	}
	for text, want := range map[string]State{
		"/dev/ada0p3 none swap sw 0 0\n":                            Bad,
		"/dev/ada0p3.eli none swap sw 0 0\n":                        OK,
		"#/dev/ada0p3 none swap sw 0 0\n/dev/ada0p2 / ufs rw 1 1\n": OK,
	} {
		h := &host{os: "freebsd", root: fakeRoot(t, map[string]string{"etc/fstab": text})}
		if got := h.swap(); got.State != want {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		rule       rule
		have, want string
		meets      bool
		merged     string
	}{
		{atLeast, "4096", "65535", false, "65535"},
		{atLeast, "100000", "65535", true, "100000"},
		{atLeast, "4096 131072 33554432", "4096 16384 1048576", true, "4096 131072 33554432"},
		{atLeast, "1 500 3", "10 20 30", false, "10 500 30"},
		{atMost, "4294967295", "16384", false, "16384"},
		{atMost, "4096 131072 33554432", "8192 131072 1048576", false, "4096 131072 1048576"},
		{atLeast, "-262144", "262144", true, "262144"},
		{exactly, "always", "madvise", false, "madvise"},
		{exactly, "1", "1", true, "1"},
		{atLeast, "none", "5", false, "5"},
		{atLeast, "1 2", "5", false, "5"},
	} {
		if got := c.rule.meets(c.have, c.want); got != c.meets {
			t.Errorf("%q against %q: %v", c.have, c.want, got)
		}
		if got := c.rule.merge(c.have, c.want); got != c.merged {
			t.Errorf("%q with %q became %q, want %q", c.have, c.want, got, c.merged)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, target := range map[string]Target{
		"no sessions":    {Sessions: 0, OS: "linux"},
		"other system":   {Sessions: 1, OS: "plan9"},
		"too many":       {Sessions: 1 << 31, OS: "linux"},
		"negative":       {Sessions: 1, OS: "linux", Workers: -1},
		"an empty root":  {Sessions: 1, OS: "linux", Root: t.TempDir()},
		"an empty root2": {Sessions: 1, OS: "freebsd", Root: t.TempDir()},
	} {
		if found, err := Check(target); err == nil {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestTableIsSorted(t *testing.T) {
	var b strings.Builder
	list := []Finding{{Knob: "well"}, {Knob: "unknown", State: Unknown}, {Knob: "could", State: Bad, Need: Could}, {Knob: "must", State: Bad, Need: Must, Why: "First. Second."}}
	if err := WriteTable(&b, list); err != nil {
		t.Fatal(err)
	}
	var order []string
	for line := range strings.Lines(b.String()) {
		order = append(order, strings.Fields(line)[2])
	}
	if !slices.Equal(order, []string{"KNOB", "must", "could", "unknown", "well"}) || strings.Contains(b.String(), "Second") {
		t.Error(b.String())
	}
}

// TestCheckRelay: what a machine with a turnd needs, and nothing of it without one.
func TestCheckRelay(t *testing.T) {
	files := bigLinux()
	files["proc/sys/net/core/rmem_max"] = "212992\n"
	files["proc/sys/net/ipv4/ip_local_reserved_ports"] = "8080\n"
	files["proc/sys/net/ipv4/udp_hash_entries"] = "65536\n"
	root := fakeRoot(t, files)
	found := check(t, Target{OS: "linux", Allocations: 16384, Root: root})
	for name, want := range map[string]Finding{
		"net.core.rmem_max":                   {State: Bad, Have: "212992", Want: ">= 4194304"},
		"net.ipv4.ip_local_reserved_ports":    {State: Bad, Have: "8080", Want: "with 49152-65535"},
		"uhash_entries (kernel command line)": {State: OK, Have: "65536", Want: ">= 16384"},
		"open files of this user, for turnd":  {State: OK, Have: "524288", Want: ">= 33024"},
	} {
		if got := found[name]; got.State != want.State || got.Have != want.Have || got.Want != want.Want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if _, ok := found["open files of this user"]; ok {
		t.Error("files of gateways without a session")
	}
	if _, err := Check(Target{OS: "linux", Allocations: 60001, Root: root}); err == nil {
		t.Error("more allocations than ports")
	}
	state := filepath.Join(t.TempDir(), "state")
	if _, err := Apply(Target{OS: "linux", Allocations: 16384, Root: root}, state, false); err != nil {
		t.Fatal(err)
	}
	if got := readFake(t, root, "proc/sys/net/ipv4/ip_local_reserved_ports"); got != "8080,49152-65535" {
		t.Errorf("reserved are %q", got)
	}
	if _, err := Undo(root, "linux", state); err != nil {
		t.Fatal(err)
	}
	if got := readFake(t, root, "proc/sys/net/ipv4/ip_local_reserved_ports"); got != "8080" {
		t.Errorf("reserved are %q again", got)
	}
	for name := range check(t, Target{OS: "linux", Sessions: 1000, Root: root}) {
		if strings.Contains(name, "reserved_ports") || strings.Contains(name, "rmem_max") || strings.Contains(name, "turnd") {
			t.Errorf("%s without a turnd", name)
		}
	}
}
