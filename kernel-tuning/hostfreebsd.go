package tuning

// freebsdHost are the knobs of a freebsd machine that are not TCP's. None was run there: sources are freebsd's manual pages and
// code.
var freebsdHost = []Knob{
	{
		Name: "kern.maxfiles", Group: groupFiles, Need: Must, rule: atLeast, want: number(plan.files), comes: number(memoryFiles),
		Default: "a file for each 8 pages of memory (786,432 of 24 GiB)",
		Formula: filesFormula,
		Why:     "All open files of the machine. At the limit accept fails for everybody, and a gateway's event engine ends at such an error. From loader.conf at most a file for each 4 pages is taken: beyond that (2 M sessions below 35 GiB) sysctl.conf sets it.",
		Cost:    "Nothing until used",
		Source:  "sys/kern/subr_param.c (init_param2)",
	},
	{
		Name: "kern.maxfilesperproc", Group: groupFiles, Need: Must, rule: atLeast, want: number(plan.mostFiles),
		comes:   number(func(p plan) int64 { return memoryFiles(p) / 10 * 9 }),
		Default: "nine tenths of kern.maxfiles",
		Formula: nofileFormula,
		Why:     "The most files of one process. The limit of its login class (login.conf) counts besides.",
		Cost:    "Nothing until used",
		Source:  "sys/kern/subr_param.c; login.conf(5)",
	},
	{
		Name: "kern.ipc.maxsockets", Group: groupFiles, Need: Must, rule: atLeast, grows: true, want: number(plan.files), comes: number(memoryFiles),
		Default: "at least kern.maxfiles", Formula: "as kern.maxfiles",
		Why:    "Sockets, and by it the zones of TCP's blocks (tcp_inpcb, tcpcb). It goes up only, and not above kern.maxfiles: set that first.",
		Cost:   "The zones are filled as needed",
		Source: "sys/kern/uipc_socket.c (sysctl_maxsockets), sys/netinet/tcp_subr.c (tcp_zone_change)",
	},
	{
		Name: "login.conf: openfiles", Group: groupFiles, Need: Must, where: byHand, want: always(""),
		Default: "unlimited in class default", Formula: "as kern.maxfilesperproc, for class linecard",
		Why:    "daemon(8) gives a daemon the limits of its user's class, whatever class started it. Make the user with that class (pw useradd -L linecard).",
		Cost:   "Nothing",
		Source: "login.conf(5); usr.sbin/daemon/daemon.c (restrict_process: LOGIN_SETALL)",
	},
	{
		Name: "kern.ipc.nmbclusters", Group: groupMemory, Need: Should, rule: atLeast, grows: true,
		want:    number(func(p plan) int64 { return min(int64(p.Sessions), p.Memory/4/2048) }),
		comes:   number(func(p plan) int64 { return p.Memory / 16 >> 10 }),
		Default: "a sixteenth of memory in KiB (1,572,864 of 24 GiB)", Formula: "sessions, at most memory / 4 / 2 KiB",
		Why:    "Buffers of 2 KiB for what is received and sent. When something goes to everybody a session needs one. At the limit the network stalls ('kern.ipc.nmbclusters limit reached' in the log). It goes up only.",
		Cost:   "Allocated as needed; at most a quarter of memory",
		Source: "sys/kern/kern_mbuf.c (tunable_mbinit, sysctl_nmbclusters), tuning(7)",
	},
	{
		Name: "kern.coredump", Group: groupMemory, Need: Could, where: byHand, want: always(""),
		Default: "1", Formula: "left alone: class linecard has coredumpsize=0",
		Why:    "A core of a gateway has keys of its sessions in it. Slab pages are left out (MADV_NOCORE), handshake objects on the heap are not.",
		Cost:   "No core to look at after a crash; the log has the goroutines",
		Source: "madvise(2), login.conf(5)",
	},
	{
		Name: "vm.pmap.pg_ps_enabled", Group: groupMemory, Need: Could, where: byHand, want: always(""),
		Default: "1", Formula: "left alone",
		Why:    "Superpages: the kernel promotes dense ranges by itself and never makes a process larger for it. There is nothing to ask for.",
		Cost:   "Nothing",
		Source: "sys/amd64/amd64/pmap.c",
	},
	{
		Name: "oomprotect", Group: groupMemory, Need: Should, where: byHand, want: always(""),
		Default: "NO", Formula: "ALL for router and offline: linecard_router_oomprotect, linecard_offline_oomprotect in rc.conf",
		Why:    "When memory runs out a gateway worker is the one to lose: its sessions resume. Router and offline would have everybody wait. YES would protect daemon(8) and not its child.",
		Cost:   "The kernel kills something else",
		Source: "libexec/rc/rc.subr (_oomprotect), protect(1)",
	},
	{
		Name: "net.isr, RSS", Group: groupNetwork, Need: Could, where: byHand, want: always(""),
		Default: "net.isr.dispatch=direct; no RSS in GENERIC", Formula: "left alone; RSS (a kernel with options RSS, net.inet.rss.bits so that 2^bits >= cores) where one core is full of interrupts and others are idle",
		Why:    "Cards with a queue per core spread packets by themselves. RSS also binds the protocol's work to the core of the queue, and needs one listener per bucket to gain from it, which the gateway does not make.",
		Cost:   "A kernel of your own, and a hash that all drivers must know",
		Source: "sys/net/rss_config.c, sys/net/netisr.c; hw.ix.num_queues and the like in the driver's manual page",
	},
	{
		Name: "rtprio", Group: groupNetwork, Need: Could, where: byHand, want: always(""),
		Default: "normal priority", Formula: "not used; linecard_gateway_prepend=\"/usr/sbin/rtprio 31\" in rc.conf tries it",
		Why:    "Event loops do handshakes, too, a few steps a turn. Real-time priority would lift those as well, and a storm would then starve everything else, ssh first.",
		Cost:   "See why",
		Source: "rtprio(1); docs/design/0018",
	},
}

// memoryFiles is kern.maxfiles as freebsd computes it, and kern.ipc.maxsockets with it.
func memoryFiles(p plan) int64 { return p.Memory / p.Page / 8 }
