package meter

import (
	"runtime"
	"runtime/debug"

	"linecard.example/internal/metrics"
)

// Machine is what a reader of figures must know about where they were made.
type Machine struct {
	OS          string            `json:"os"`
	Arch        string            `json:"arch"`
	Kernel      string            `json:"kernel"`
	CPU         string            `json:"cpu"`
	CPUs        int               `json:"cpus"`
	MemoryBytes int64             `json:"memory_bytes"`
	Load        string            `json:"load"`               // load averages when it was looked at
	Yardstick   float64           `json:"x25519_us"`          // CPU time of one X25519 then
	Sysctls     map[string]string `json:"sysctls"`            // those that bind such a server; absent ones are left out
	OpenFiles   [2]uint64         `json:"open_files_limit"`   // of this process: soft, hard
	Tick        float64           `json:"cpu_tick_us"`        // resolution of CPU times
	Shared      bool              `json:"memory_is_resident"` // the system has no proportional set size: figures are resident size
}

// Software is what ran.
type Software struct {
	Version string            `json:"version"`
	Commit  string            `json:"commit"`
	Dirty   bool              `json:"modified"` // the source differed from the commit
	Go      string            `json:"go"`
	Modules map[string]string `json:"modules"`
}

// sysctls are the settings that reports carry, by system.
var sysctls = map[string][]string{
	"linux": {
		"fs.file-max", "fs.nr_open", "net.core.somaxconn", "net.core.netdev_max_backlog", "net.core.rmem_default", "net.core.wmem_default",
		"net.ipv4.tcp_mem", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_max_orphans",
		"net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_migrate_req", "net.ipv4.tcp_notsent_lowat",
		"net.ipv4.ip_local_port_range", "net.netfilter.nf_conntrack_max", "vm.overcommit_memory", "vm.max_map_count", "vm.swappiness",
		"kernel.pid_max", "kernel.threads-max",
	},
	"freebsd": {
		"kern.maxfiles", "kern.maxfilesperproc", "kern.ipc.maxsockets", "kern.ipc.soacceptqueue", "kern.ipc.nmbclusters",
		"net.inet.tcp.tcbhashsize", "net.inet.tcp.sendspace", "net.inet.tcp.recvspace", "net.inet.ip.portrange.first",
		"net.inet.ip.portrange.last",
	},
}

// ReadMachine looks at the machine. It takes a tenth of a second, for the yardstick.
func ReadMachine() Machine {
	m := Machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: kernelRelease(), CPU: cpuModel(), CPUs: runtime.NumCPU(),
		MemoryBytes: memoryBytes(), Load: loadAverage(), Yardstick: float64(Yardstick().Nanoseconds()) / 1e3,
		Sysctls: map[string]string{}, Tick: 1e4, Shared: runtime.GOOS != "linux",
	}
	for _, name := range sysctls[runtime.GOOS] {
		if v := Sysctl(name); v != "" {
			m.Sysctls[name] = v
		}
	}
	m.OpenFiles[0], m.OpenFiles[1] = FileLimits()
	return m
}

// ReadSoftware says what this binary was built from.
func ReadSoftware() Software {
	version, commit := metrics.Build()
	s := Software{Version: version, Commit: commit, Go: runtime.Version(), Modules: map[string]string{}}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return s
	}
	for _, kv := range info.Settings {
		if kv.Key == "vcs.modified" {
			s.Dirty = kv.Value == "true"
		}
	}
	for _, d := range info.Deps {
		s.Modules[d.Path] = d.Version
	}
	return s
}
