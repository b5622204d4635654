package tuning

import (
	"fmt"
	"math"
	"strconv"
)

const (
	groupFiles    = "Open files and processes"
	groupMemory   = "Memory"
	groupAccept   = "Accepting connections"
	groupTables   = "Tables"
	groupSessions = "Sessions"
	groupEnd      = "The end of connections"
	groupNetwork  = "Network cards and processors"
	groupRelay    = "Relay for calls"
)

// nofileFormula is plan.nofile in words.
const nofileFormula = "1.05 x sessions / (workers - 1) + 256, up to a multiple of 65,536: when one dies, the others take its sessions. " +
	"Workers, if not given: as few as 1,048,576 a process allow and one, at least 2"

// filesFormula is plan.files in words.
const filesFormula = "1.05 x sockets + 2 x allocations + 65,536. Sockets: the sessions, twice with the clients here"

// linuxHost are the knobs of a linux machine that are not TCP's.
var linuxHost = []Knob{
	{
		Name: "fs.nr_open", Group: groupFiles, Need: Should, rule: atLeast, want: number(plan.mostFiles), comes: always("1048576"),
		Default: "1048576",
		Formula: nofileFormula,
		Why:     "The most files that any process may be allowed to have open. No LimitNOFILE goes above it.",
		Cost:    "Nothing. A process pays 8 B for each descriptor up to the highest in use",
		Source:  "admin-guide/sysctl/fs.rst; 1.05: SO_REUSEPORT over 101 workers, measured for the gateway's design",
	},
	{
		Name: "fs.file-max", Group: groupFiles, Need: Must, rule: atLeast, want: number(plan.files), comes: always(strconv.Itoa(math.MaxInt64)),
		Default: "a tenth of memory in KiB (2,466,177 of 24 GiB); systemd raises it to the highest number",
		Formula: filesFormula,
		Why:     "All open files of the machine. At the limit accept fails for everybody, and a gateway's event engine ends at such an error.",
		Cost:    "Nothing until used; then it is in the 3.77 KB of a session",
		Source:  "admin-guide/sysctl/fs.rst; 2,000,260 pairs ran with it raised to 6 M",
	},
	{
		Name: "fs.epoll.max_user_watches", Group: groupFiles, Need: Must, rule: atLeast, want: number(plan.files),
		comes:   number(func(p plan) int64 { return p.Memory / 25 / 184 }),
		Default: "a 25th of memory, by what a watch takes (5,491,511 of 24 GiB)", Formula: "as fs.file-max",
		Why:    "Sockets that all processes of one user together may watch by epoll. Each session is one; at the limit a gateway cannot take a connection that it has accepted.",
		Cost:   "Nothing until used; then 128 B for each, in the 3.77 KB of a session",
		Source: "admin-guide/sysctl/fs.rst; fs/eventpoll.c",
	},
	{
		Name: "LimitNOFILE, nofile", Group: groupFiles, Need: Must, where: byHand, want: always(""),
		Default: "524,288 for a service of systemd, hard; 4,096 and more for logins", Formula: "as fs.nr_open",
		Why:    "Each session is an open file of its gateway process. Only the hard limit counts: the daemons raise the soft one to it, and the supervisor makes as many workers as it asks for.",
		Cost:   "Nothing",
		Source: "systemd.exec(5), limits.conf(5); gateway/admission.go",
	},
	{
		Name: "vm.overcommit_memory", Group: groupMemory, Need: Should, where: checkOnly, rule: atMost, want: always("1"),
		Default: "0", Formula: "0 or 1",
		Why:    "With 2 memory counts when it is mapped, used or not. Go maps its heap in steps of 64 MiB: each worker would take up to that much from the others.",
		Cost:   "Nothing: 0 is the default",
		Source: "mm/overcommit-accounting.rst; Go's runtime/malloc.go (heapArenaBytes)",
	},
	{
		Name: "/sys/kernel/mm/transparent_hugepage/enabled", Group: groupMemory, Need: Could, where: sysFile, rule: exactly, want: always("madvise"), also: "never",
		Default: "always or madvise, by distribution", Formula: "madvise; never is as good",
		Why:    "With always every process gets huge pages that it did not ask for. Each of a hundred workers would be some MB larger than it is. Slabs and Go's heap are dense only when full.",
		Cost:   "More TLB misses in other programs that gain from always",
		Source: "Go proposal 59960: up to 40 % more memory for small heaps; not measured here, this machine has madvise",
	},
	{
		Name: "vm.nr_hugepages", Group: groupMemory, Need: Could, where: byHand, want: always(""),
		Default: "0", Formula: "0",
		Why:    "Huge pages that are set aside at boot or by hand. Nothing here asks for them (MAP_HUGETLB).",
		Cost:   "What is set aside is missing everywhere else, whether somebody uses it or not",
		Source: "admin-guide/mm/hugetlbpage.rst; internal/slab maps ordinary pages",
	},
	{
		Name: "vm.swappiness", Group: groupMemory, Need: Could, rule: atMost, want: always("1"),
		Default: "60", Formula: "1",
		Why:    "Sessions that are idle for minutes look like the best victims of swapping. They come back at the worst moment; this is for swap that is there after all, encrypted.",
		Cost:   "The page cache is given up first. Without swap it does nothing",
		Source: "admin-guide/sysctl/vm.rst",
	},
	{
		Name: "kernel.core_pattern", Group: groupMemory, Need: Could, where: byHand,
		Default: "core, or a pipe to systemd-coredump", Formula: "any; the units have LimitCORE=0",
		Why:    "A core of a gateway has keys of its sessions in it. Slab pages are left out of it (MADV_DONTDUMP), handshake objects on the heap are not.",
		Cost:   "No core to look at after a crash; the log has the goroutines",
		Source: "test in internal/slab",
		want:   always(""),
	},
	{
		Name: "net.core.netdev_max_backlog", Group: groupNetwork, Need: Could, where: byHand, want: always(""),
		Default: "1000", Formula: "left alone; double it as long as the second column of /proc/net/softnet_stat rises",
		Why:    "Packets that wait for one core when they come through the loopback or are spread by RPS. What finds the queue full is dropped.",
		Cost:   "Memory of queued packets in a burst. A network card with a queue per core does not pass here",
		Source: "admin-guide/sysctl/net.rst",
	},
	{
		Name: "net.core.busy_read", Group: groupNetwork, Need: Could, rule: exactly, want: always("0"),
		Default: "0", Formula: "0",
		Why:    "Busy polling burns a core to save some microseconds for one socket. Here a core has a hundred thousand idle ones, and the next event is rarely for the one polled.",
		Cost:   "Nothing: 0 is the default",
		Source: "admin-guide/sysctl/net.rst",
	},
	{
		Name: "net.core.busy_poll", Group: groupNetwork, Need: Could, rule: exactly, want: always("0"),
		Default: "0", Formula: "0",
		Why:    "The same for poll and epoll.",
		Cost:   "Nothing: 0 is the default",
		Source: "admin-guide/sysctl/net.rst",
	},
	{
		Name: "network queues (ethtool -L)", Group: groupNetwork, Need: Could, where: byHand, want: always(""),
		Default: "by driver, mostly one per core", Formula: "combined = min(cores, what the card has)",
		Why:    "A receive queue interrupts one core, which then does the kernel's work for all of its packets. With one queue that core is the limit of the machine.",
		Cost:   "Memory for the rings: entries x buffer for each queue",
		Source: "networking/scaling.rst",
	},
	{
		Name: "ring size (ethtool -G)", Group: groupNetwork, Need: Could, where: byHand, want: always(""),
		Default: "by driver, often 256 to 1,024", Formula: "rx = the card's maximum, at most 4,096",
		Why:    "In a storm packets come faster than a core that runs event loops takes them. The ring bridges that.",
		Cost:   "Entries x 2 KiB (a buffer) for each queue, and latency if it ever stays full",
		Source: "ethtool(8); networking/scaling.rst",
	},
	{
		Name: "IRQ affinity, XPS", Group: groupNetwork, Need: Could, where: byHand, want: always(""),
		Default: "irqbalance moves interrupts; XPS by driver", Formula: "queue n to core n for receiving and sending; irqbalance off",
		Why:    "A queue that stays on a core keeps its caches, and a session's packets are handled in order on one core.",
		Cost:   "A core that is busy otherwise is not relieved any more",
		Source: "networking/scaling.rst; core-api/irq/irq-affinity.rst",
	},
	{
		Name: "RPS (rps_cpus)", Group: groupNetwork, Need: Could, where: byHand, want: always(""),
		Default: "0, off", Formula: "0 with as many queues as cores; otherwise all cores for each queue, and the spread is done by software",
		Why:    "Fewer queues than cores (virtual machines, one here): RPS lets other cores do the work after the interrupt.",
		Cost:   "An interrupt between processors for each batch. RFS (rps_sock_flow_entries) stays off: its table would need an entry for each active session",
		Source: "networking/scaling.rst",
	},
	{
		Name: "CPUAffinity, pinning", Group: groupNetwork, Need: Could, where: byHand, want: always(""),
		Default: "all cores", Formula: "not set",
		Why:    "A connection goes to a worker by hash, not by the core that its packets arrive at. Pinning workers gains nothing without steering by a BPF program, which is not there. Event loops are kept responsive by doing a few steps of handshakes a turn.",
		Cost:   "Pinned workers of unequal load cannot share cores",
		Source: "docs/design/0018",
	},
}

// trackingWant is what the table of connection tracking needs where it cannot be avoided.
func trackingWant(p plan) int64 { return (p.sockets() + 3*int64(p.Allocations)) * 5 / 4 }

// tracked describes the probe of connection tracking in the README.
var tracked = Knob{
	Name: "net.netfilter.nf_conntrack_max", Group: groupTables, Need: Must, where: byHand, want: always(""),
	Default: "262,144 with more than 4 GiB", Formula: "bypass (linecard-notrack.nft), and 1.25 x (sockets + 3 x allocations): a check does not see the rules, and unused entries cost nothing. Without the bypass nf_conntrack_buckets a quarter of it, too",
	Why:    "A rule set that looks at connection states tracks every session. A full table drops new connections, and each packet pays a look-up. Rules for the gateway's port can do without.",
	Cost:   fmt.Sprintf("%d B for each tracked session, and 8 B for each bucket. With the bypass stateful rules do not apply to the port: allow it in both directions", 256),
	Source: "networking/nf_conntrack-sysctl.rst; size measured (slabinfo, TestMeasureMemory)",
}
