package tuning

import (
	"maps"
	"testing"
)

// TestProbes looks at machines that differ in one thing.
func TestProbes(t *testing.T) {
	const tracked, count = "proc/sys/net/netfilter/nf_conntrack_max", "proc/sys/net/netfilter/nf_conntrack_count"
	const card = "sys/class/net/eth0/device/vendor"
	for _, c := range []struct {
		name   string
		files  map[string]string
		target Target
		knob   string
		want   Finding
	}{
		{"memory", nil, Target{Sessions: 2_000_000}, "memory", Finding{State: OK, Have: "62500 MiB", Want: ">= 8716 MiB"}},
		{"memory for both ends", nil, Target{Sessions: 8_000_000, Pair: true}, "memory", Finding{State: Bad, Need: Must, Have: "62500 MiB", Want: ">= 64926 MiB"}},
		{"a container of 1 GiB", map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "1073741824\n"},
			Target{Sessions: 2_000_000}, "memory", Finding{State: Bad, Need: Must, Have: "1024 MiB for this control group"}},
		{"a container without limit", map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"},
			Target{Sessions: 2_000_000}, "memory", Finding{State: OK, Have: "62500 MiB"}},

		{"files, workers not given", nil, Target{Sessions: 2_000_000}, "open files of this user", Finding{State: OK, Have: "524288", Want: "workers >= 6"}},
		{"files for too few workers", nil, Target{Sessions: 2_000_000, Workers: 4}, "open files of this user",
			Finding{State: Bad, Need: Must, Have: "524288", Want: ">= 700256 for 4 workers"}},
		{"files until a worker dies", nil, Target{Sessions: 2_000_000, Workers: 5}, "open files of this user",
			Finding{State: Bad, Need: Should, Have: "524288", Want: ">= 525256 for 5 workers"}},
		{"files for one worker more", nil, Target{Sessions: 2_000_000, Workers: 6}, "open files of this user",
			Finding{State: OK, Have: "524288", Want: ">= 420256 for 6 workers"}},
		{"files for one process", nil, Target{Sessions: 400_000, Workers: 1}, "open files of this user",
			Finding{State: OK, Have: "524288", Want: ">= 420256 for 1 workers"}},
		{"files for a crowd of workers", map[string]string{"proc/self/limits": "Max open files            1024                 4096                 files\n"},
			Target{Sessions: 2_000_000}, "open files of this user", Finding{State: Bad, Need: Should, Have: "4096", Want: ">= 8460 (or workers = 548)"}},
		{"hardly any files", map[string]string{"proc/self/limits": "Max open files            256                  256                  files\n"},
			Target{Sessions: 10}, "open files of this user", Finding{State: Bad, Need: Must, Have: "256", Want: ">= 257"}},

		{"no tracking", nil, Target{Sessions: 100_000}, "net.netfilter.nf_conntrack_max", Finding{State: OK, Have: "not loaded"}},
		{"tracking of nothing", map[string]string{tracked: "65536\n", count: "0\n"}, Target{Sessions: 100_000}, "net.netfilter.nf_conntrack_max", Finding{State: OK, Have: "nothing tracked"}},
		{"tracking without room", map[string]string{tracked: "65536\n", count: "12\n"}, Target{Sessions: 100_000}, "net.netfilter.nf_conntrack_max",
			Finding{State: Bad, Need: Must, Have: "12 of 65536 used", Want: ">= 125000, and no tracking of the port"}},
		{"tracking with room", map[string]string{tracked: "262144\n", count: "12\n"}, Target{Sessions: 100_000}, "net.netfilter.nf_conntrack_max", Finding{State: OK, Have: "12 of 262144 used"}},

		{"no card", nil, Target{Sessions: 1, Cores: 2}, "network queues", Finding{State: OK, Have: "no card"}},
		{"one queue", map[string]string{card: "", "sys/class/net/eth0/queues/rx-0/rps_cpus": "0\n"}, Target{Sessions: 1, Cores: 2}, "network queues", Finding{State: Bad, Need: Could, Have: "eth0: 1"}},
		{"one queue and rps", map[string]string{card: "", "sys/class/net/eth0/queues/rx-0/rps_cpus": "00000000,00000003\n"}, Target{Sessions: 1, Cores: 2}, "network queues",
			Finding{State: OK, Have: "eth0: 1 and rps"}},
		{"a queue for each core", map[string]string{card: "", "sys/class/net/eth0/queues/rx-0/rps_cpus": "0\n", "sys/class/net/eth0/queues/rx-1/rps_cpus": "0\n"},
			Target{Sessions: 1, Cores: 2}, "network queues", Finding{State: OK, Have: "eth0: 2"}},

		{"huge pages for everybody", map[string]string{"sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n"}, Target{Sessions: 1},
			"/sys/kernel/mm/transparent_hugepage/enabled", Finding{State: Bad, Need: Could, Have: "always", Want: "madvise", Runtime: true}},
		{"huge pages for nobody", map[string]string{"sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n"}, Target{Sessions: 1},
			"/sys/kernel/mm/transparent_hugepage/enabled", Finding{State: OK, Have: "never"}},
	} {
		files := bigLinux()
		maps.Copy(files, c.files)
		c.target.OS, c.target.Root = "linux", fakeRoot(t, files)
		got := check(t, c.target)[c.knob]
		if got.State != c.want.State || got.Have != c.want.Have || c.want.Want != "" && got.Want != c.want.Want || got.State == Bad && got.Need != c.want.Need {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if got.Blocks() != (got.State == Bad && got.Need == Must) || got.Failed() != (got.State == Bad && got.Need != Could) {
			t.Errorf("%s: blocks %v, failed %v: %+v", c.name, got.Blocks(), got.Failed(), got)
		}
	}
}

// TestCoresAndMemoryOfARoot: formulas take them from the copy, not from the machine that looks at it.
func TestCoresAndMemoryOfARoot(t *testing.T) {
	for online, want := range map[string]int{"0-31\n": 32, "0\n": 1, "0-3,8-11,17\n": 9} {
		files := bigLinux()
		files["sys/devices/system/cpu/online"] = online
		h := &host{os: "linux", root: fakeRoot(t, files)}
		if got := h.cores(); got != want {
			t.Errorf("%q: %d cores, want %d", online, got, want)
		}
		if n, err := h.memory(); err != nil || n != 65970000<<10 {
			t.Errorf("memory %d, %v", n, err)
		}
	}
}
